"""CEM with colored noise, a memory of elites and a shrinking population (iCEM, Pinneri et al. 2020)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...plain_numbers import make_plain
from .base import Bounds, Noise, Objective, Solution, check_counts, check_elites, check_numbers, clip, ranked


@dataclass(frozen=True, kw_only=True)
class ICEM:
    """Like CEM, but neighboring actions of a candidate resemble each other, the best candidates of an iteration
    compete in the next one, and the best plan that was ever seen is returned instead of the last mean.

    Shifting elites from one plan to the next is what a policy does that starts a search from the rest of its old plan.

    Args:
        samples, iterations, elites, initial_std: as in `CEM`.
        color: beta of the noise's power spectrum `1 / f^beta` along a plan; 0 is white.
        kept: share of the elites that the next iteration judges again beside its own candidates.
        momentum: weight of the old mean and spread when the new ones are fitted.
        decay: each iteration draws this many times fewer candidates than the one before, at least `2 * elites`.

    Raises:
        ValueError: for a setting out of range.
    """

    samples: int = 300
    iterations: int = 10
    elites: int = 30
    initial_std: float = 1.0
    color: float = 2.0
    kept: float = 0.3
    momentum: float = 0.1
    decay: float = 1.25
    differentiates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        make_plain(self)
        check_counts(self, "samples", "iterations", "elites")
        check_numbers(self, "initial_std")
        check_numbers(self, "color", "kept", "momentum", above=False)
        check_numbers(self, "decay", least=1.0, above=False)
        check_elites(self.elites, self.samples)
        for name in ("kept", "momentum"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share: it must be at most 1")

    def population(self, iteration: int) -> int:
        """Candidates that an iteration draws."""
        return min(self.samples, max(2 * self.elites, int(self.samples * self.decay**-iteration)))

    def __call__(self, objective: Objective, mean: Tensor, noise: Noise, bounds: Bounds = None) -> Solution:
        std = torch.full_like(mean, self.initial_std)
        elites = mean.unsqueeze(1)  # before the first iteration: the start
        best = []
        for iteration in range(self.iterations):
            drawn = noise(iteration, self.color)[:, : self.population(iteration)]
            candidates = clip(mean.unsqueeze(1) + std.unsqueeze(1) * drawn, bounds)
            old = elites[:, : max(1, round(self.kept * self.elites))]
            extra = [old, mean.unsqueeze(1)] if iteration == self.iterations - 1 else [old]
            candidates = torch.cat([*extra, candidates], 1)
            elites, elite_costs = ranked(objective, candidates, self.elites)
            keep = self.momentum if iteration else 0.0
            mean = keep * mean + (1 - keep) * elites.mean(1)
            std = keep * std + (1 - keep) * elites.std(1)
            best.append(elite_costs[:, 0])
        # The best candidate always competes again, so that the last iteration knows the best of all.
        return Solution(elites[:, 0], elites, elite_costs, torch.stack(best, 1))
