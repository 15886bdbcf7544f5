"""Model predictive path integral control (Williams et al. 2017): candidates weighted by how cheap they are."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...plain_numbers import make_plain
from .base import Bounds, Noise, Objective, Solution, check_counts, check_numbers, clip, ranked


@dataclass(frozen=True, kw_only=True)
class MPPI:
    """The next mean is the average of all candidates with weights `exp(-cost / temperature)`; the spread stays.

    The released settings of latent world models differ by orders of magnitude in their costs, so a cost counts in
    standard deviations of the costs of its iteration.

    Args:
        samples, iterations: candidates per iteration, iterations.
        initial_std: spread of all candidates, in standard deviations of the data set's actions.
        temperature: small values follow the best candidate, large ones the average.
        color: beta of the noise's power spectrum `1 / f^beta` along a plan; 0 is white.

    Raises:
        ValueError: for a setting out of range.
    """

    samples: int = 300
    iterations: int = 10
    initial_std: float = 1.0
    temperature: float = 0.1
    color: float = 0.0
    differentiates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        make_plain(self)
        check_counts(self, "samples", "iterations")
        check_numbers(self, "initial_std", "temperature")
        check_numbers(self, "color", above=False)

    def __call__(self, objective: Objective, mean: Tensor, noise: Noise, bounds: Bounds = None) -> Solution:
        best = []
        for iteration in range(self.iterations):
            candidates = clip(mean.unsqueeze(1) + self.initial_std * noise(iteration, self.color), bounds)
            candidates[:, 0] = mean
            candidates, costs = ranked(objective, candidates, self.samples)
            scale = costs.std(1, keepdim=True, correction=0).clamp_min(torch.finfo(costs.dtype).tiny)
            weights = (-(costs - costs[:, :1]) / (self.temperature * scale)).softmax(1)
            mean = (weights[..., None, None] * candidates).sum(1)
            best.append(costs[:, 0])
        return Solution(mean, candidates, costs, torch.stack(best, 1))
