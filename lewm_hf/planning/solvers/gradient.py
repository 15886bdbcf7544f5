"""Gradient descent through the world model: Adam, RMSProp or plain steps on a few plans at once."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...plain_numbers import make_plain
from .base import Bounds, Noise, Objective, Solution, check_counts, check_numbers, clip, ranked

OPTIMIZERS = ("adam", "rmsprop", "sgd")


def descend(
    objective: Objective,
    candidates: Tensor,
    steps: int,
    learning_rate: float,
    bounds: Bounds = None,
    optimizer: str = "adam",
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient steps on candidate plans, each by itself, projected into the bounds after every step.

    Args:
        objective: candidates `(B, S, horizon, A)` -> costs `(B, S)`, differentiable.
        candidates: `(B, S, horizon, A)` where each begins.
        steps: gradient steps.
        learning_rate: of Adam and RMSProp the largest change of an action by one step, about, in standard deviations
            of the data set's; plain steps multiply the gradient by it.
        optimizer: "adam" (Kingma and Ba 2015), "rmsprop" (Tieleman and Hinton 2012) or "sgd", with PyTorch's constants.

    Returns:
        The cheapest version of each candidate on its way, `(B, S, horizon, A)`, their costs `(B, S)`, and the lowest
        cost before each step and after the last, `(B, steps + 1)`.
    """
    first, second = torch.zeros_like(candidates), torch.zeros_like(candidates)
    best, best_costs = candidates, None
    lowest: list[Tensor] = []
    for step in range(steps + 1):
        with torch.enable_grad():
            plans = candidates.detach().requires_grad_()
            costs = objective(plans)
            gradient = torch.autograd.grad(costs.sum(), plans)[0] if step < steps else None
        costs = costs.detach()
        better = torch.ones_like(costs, dtype=torch.bool) if best_costs is None else costs < best_costs
        best = torch.where(better[..., None, None], candidates, best)
        best_costs = costs if best_costs is None else torch.where(better, costs, best_costs)
        lowest.append(costs.amin(1))
        if gradient is not None:
            direction = gradient
            if optimizer == "adam":
                first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient.square()
                direction = first / (1 - 0.9 ** (step + 1)) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            elif optimizer == "rmsprop":
                second = 0.99 * second + 0.01 * gradient.square()
                direction = gradient / (second.sqrt() + 1e-8)
            candidates = clip(candidates - learning_rate * direction, bounds)
    return best, best_costs, torch.stack(lowest, 1)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Descent through the roll-out from the start and from random plans around it; returns the cheapest plan it saw.

    Args:
        samples: plans that are improved side by side; the first one is the start.
        iterations: gradient steps.
        initial_std: spread of the others, in standard deviations of the data set's actions.
        learning_rate, optimizer: see `descend`.

    Raises:
        ValueError: for a setting out of range.
    """

    samples: int = 10
    iterations: int = 30
    initial_std: float = 1.0
    learning_rate: float = 0.1
    optimizer: str = "adam"
    differentiates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        make_plain(self)
        check_counts(self, "samples", "iterations")
        check_numbers(self, "initial_std", "learning_rate")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r} is unknown: use one of {', '.join(OPTIMIZERS)}")

    def __call__(self, objective: Objective, mean: Tensor, noise: Noise, bounds: Bounds = None) -> Solution:
        candidates = clip(mean.unsqueeze(1) + self.initial_std * noise(0), bounds)
        candidates[:, 0] = mean
        plans, costs, lowest = descend(
            objective, candidates, self.iterations, self.learning_rate, bounds, self.optimizer
        )
        plans, costs = ranked(lambda _: costs, plans, self.samples)
        return Solution(plans[:, 0], plans, costs, lowest[:, 1:])
