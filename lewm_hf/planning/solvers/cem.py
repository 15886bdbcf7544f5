"""The cross-entropy method, as the released code runs it (paper, appendix D)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import Solution, take

if TYPE_CHECKING:
    from ..planner import PlanSettings


def cem(
    objective: Callable[[Tensor], Tensor],
    mean: Tensor,
    noise: Callable[[int], Tensor],
    settings: "PlanSettings",
) -> Solution:
    """Fits a diagonal Gaussian to the elites, again and again; returns its last mean, not the best candidate.

    Candidates are not clipped: the space is z-scored, where +-1 would be one standard deviation. The spread is the
    elites' unbiased standard deviation, without momentum or floor. Reads nothing back to the host.
    """
    if settings.elites < 2:
        raise ValueError(f"elites={settings.elites} must be at least 2: the spread of one plan is undefined")
    std = torch.full_like(mean, settings.initial_std)
    best = []
    for iteration in range(settings.iterations):
        candidates = mean.unsqueeze(1) + std.unsqueeze(1) * noise(iteration)
        candidates[:, 0] = mean
        elite_costs, order = objective(candidates).topk(settings.elites, largest=False)
        elites = take(candidates, order)
        mean, std = elites.mean(1), elites.std(1)
        best.append(elite_costs[:, 0])
    return Solution(mean, elites, elite_costs, torch.stack(best, 1))
