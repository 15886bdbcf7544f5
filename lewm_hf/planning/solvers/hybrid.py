"""CEM finds the valley, a few gradient steps on its elites find the bottom."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...plain_numbers import make_plain
from .base import Bounds, Noise, Objective, Solution, check_counts, check_numbers, ranked
from .cem import CEM
from .gradient import descend


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """CEM, then Adam through the roll-out on its mean and its best elites; returns the cheapest plan.

    Args:
        samples, iterations, elites, initial_std: as in `CEM`.
        refined: elites that are improved.
        gradient_steps, learning_rate: of Adam.

    Raises:
        ValueError: for a setting out of range.
    """

    samples: int = 100
    iterations: int = 8
    elites: int = 15
    initial_std: float = 1.0
    refined: int = 4
    gradient_steps: int = 5
    learning_rate: float = 0.05
    differentiates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        make_plain(self)
        self.search()
        check_counts(self, "refined", "gradient_steps")
        check_numbers(self, "initial_std", "learning_rate")
        if self.refined > self.elites:
            raise ValueError(f"refined={self.refined} exceeds elites={self.elites}: lower one or raise the other")

    def search(self) -> CEM:
        """The first part."""
        return CEM(samples=self.samples, iterations=self.iterations, elites=self.elites, initial_std=self.initial_std)

    def __call__(self, objective: Objective, mean: Tensor, noise: Noise, bounds: Bounds = None) -> Solution:
        found = self.search()(objective, mean, noise, bounds)
        candidates = torch.cat([found.plan.unsqueeze(1), found.elites[:, : self.refined]], 1)
        plans, costs, lowest = descend(objective, candidates, self.gradient_steps, self.learning_rate, bounds)
        plans, costs = ranked(lambda _: costs, plans, plans.shape[1])
        return Solution(plans[:, 0], plans, costs, torch.cat([found.best_costs, lowest[:, 1:]], 1))
