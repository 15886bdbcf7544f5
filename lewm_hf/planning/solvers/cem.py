"""The cross-entropy method, as the released code runs it (paper, appendix D)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...plain_numbers import make_plain
from .base import Bounds, Noise, Objective, Solution, check_counts, check_elites, check_numbers, clip, ranked


@dataclass(frozen=True, kw_only=True)
class CEM:
    """Fits a diagonal Gaussian to the elites, again and again; returns its last mean, not the best candidate.

    The spread is the elites' unbiased standard deviation, without momentum or floor. Reads nothing back to the host.
    The defaults are the paper's, for every environment.

    Args:
        samples, iterations: candidates per iteration, iterations.
        elites: candidates that the next Gaussian is fitted to.
        initial_std: spread of the first candidates, in standard deviations of the data set's actions.

    Raises:
        ValueError: for a setting out of range.
    """

    samples: int = 300
    iterations: int = 30
    elites: int = 30
    initial_std: float = 1.0
    differentiates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        make_plain(self)
        check_counts(self, "samples", "iterations", "elites")
        check_numbers(self, "initial_std")
        check_elites(self.elites, self.samples)

    def __call__(self, objective: Objective, mean: Tensor, noise: Noise, bounds: Bounds = None) -> Solution:
        std = torch.full_like(mean, self.initial_std)
        best = []
        for iteration in range(self.iterations):
            candidates = clip(mean.unsqueeze(1) + std.unsqueeze(1) * noise(iteration), bounds)
            candidates[:, 0] = mean
            elites, elite_costs = ranked(objective, candidates, self.elites)
            mean, std = elites.mean(1), elites.std(1)
            best.append(elite_costs[:, 0])
        return Solution(mean, elites, elite_costs, torch.stack(best, 1))
