"""Random shooting: many guesses, the best of them. The floor under every other solver."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...plain_numbers import make_plain
from .base import Bounds, Noise, Objective, Solution, check_counts, check_numbers, clip, ranked


@dataclass(frozen=True, kw_only=True)
class RandomShooting:
    """Judges candidates around the start once and returns the best one; the start itself competes.

    Args:
        samples: candidates.
        iterations: 1; there is nothing to repeat.
        initial_std: spread, in standard deviations of the data set's actions.
        color: beta of the noise's power spectrum `1 / f^beta` along a plan; 0 is white.

    Raises:
        ValueError: for a setting out of range.
    """

    samples: int = 9000
    iterations: int = 1
    initial_std: float = 1.0
    color: float = 0.0
    differentiates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        make_plain(self)
        check_counts(self, "samples", "iterations")
        check_numbers(self, "initial_std")
        check_numbers(self, "color", above=False)
        if self.iterations != 1:
            raise ValueError(f"iterations={self.iterations}: random shooting guesses once, raise samples instead")

    def __call__(self, objective: Objective, mean: Tensor, noise: Noise, bounds: Bounds = None) -> Solution:
        candidates = clip(mean.unsqueeze(1) + self.initial_std * noise(0, self.color), bounds)
        candidates[:, 0] = mean
        candidates, costs = ranked(objective, candidates, self.samples)
        return Solution(candidates[:, 0], candidates, costs, costs[:, :1])
