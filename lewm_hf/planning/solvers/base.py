"""What a solver is, what it returns, and what solvers share."""

import math
from collections.abc import Callable
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ...plain_numbers import plain

Objective = Callable[[Tensor], Tensor]
# Lowest and highest action block, or a function that moves blocks to the nearest that can be executed.
Bounds = tuple[Tensor, Tensor] | Callable[[Tensor], Tensor] | None


@dataclass
class Solution:
    """What a solver found, for B problems at once; plans are z-scored action blocks.

    Args:
        plan: `(B, horizon, A)` the plan to execute.
        elites: `(B, E, horizon, A)` the best candidates that are still known at the end, best first.
        elite_costs: `(B, E)` their costs.
        best_costs: `(B, iterations)` the lowest cost that each iteration saw.
    """

    plan: Tensor
    elites: Tensor
    elite_costs: Tensor
    best_costs: Tensor


class Noise(Protocol):
    def __call__(self, iteration: int, color: float = 0.0) -> Tensor:
        """`(B, samples, horizon, A)` standard normal numbers, the same for a problem whatever its batch is.

        Args:
            iteration: 0, 1, ..., `iterations - 1`.
            color: beta of the power spectrum `1 / f^beta` over the environment steps of a plan, per action dimension.
                0 is white; with larger values neighboring actions resemble each other.
        """
        ...


class Solver(Protocol):
    """Searches plans of low cost. An implementation is a frozen dataclass: its fields are its settings.

    It sees no world model, no environment and no units.

    Args:
        samples: candidates of one iteration, the rows of its noise.
        iterations: how often it may draw noise.
        differentiates: whether it asks `objective` for gradients. One that says `False` is spared what PyTorch writes
            down in case that somebody does; one that says nothing may.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def samples(self) -> int: ...

    @property
    def iterations(self) -> int: ...

    def __call__(self, objective: Objective, mean: Tensor, noise: Noise, bounds: Bounds = None) -> Solution:
        """Searches from `mean`.

        Args:
            objective: candidate plans `(B, S, horizon, A)` -> costs `(B, S)`. Differentiable inside
                `torch.enable_grad()`.
            mean: `(B, horizon, A)` where the search starts.
            noise: all randomness there is, so that a problem's plan depends on its batch by rounding at most.
            bounds: lowest and highest action block, `(A,)` each, that a candidate may hold; a function that moves
                blocks to such ones where actions are choices; `None` where everything is allowed. See `clip`.
        """
        ...


def take(candidates: Tensor, order: Tensor) -> Tensor:
    """Picks candidates `(B, S, ...)` by their indices `(B, E)` -> `(B, E, ...)`."""
    index = order.reshape(*order.shape, *[1] * (candidates.dim() - 2))
    return candidates.gather(1, index.expand(-1, -1, *candidates.shape[2:]))


def ranked(objective: Objective, candidates: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` cheapest candidates `(B, count, horizon, A)`, best first, and their costs `(B, count)`."""
    costs, order = objective(candidates).topk(count, largest=False)
    return take(candidates, order), costs


def clip(candidates: Tensor, bounds: Bounds) -> Tensor:
    """Candidates `(..., A)` moved into the bounds."""
    if callable(bounds):
        return bounds(candidates)
    return candidates if bounds is None else torch.clamp(candidates, *bounds)


def check_solver(solver: object) -> None:
    """Refuses what is no solver.

    Raises:
        ValueError: without `samples`, `iterations` or a call.
    """
    if not callable(solver):
        raise ValueError(f"solver={solver!r} cannot be called: give a name or a `planning.solvers.Solver`")
    missing = [name for name in ("samples", "iterations") if not hasattr(solver, name)]
    if missing or isinstance(solver, type):
        raise ValueError(
            f"solver={solver!r} has no {' and '.join(missing) or 'values yet'}: a solver is an object with settings, "
            "see `planning.solvers`"
        )
    check_counts(solver, "samples", "iterations")


def check_counts(solver: object, *names: str) -> None:
    """Refuses settings that are no whole numbers of at least 1.

    Raises:
        ValueError: naming the setting.
    """
    for name in names:
        value = getattr(solver, name)
        if type(plain(value)) is not int or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number of at least 1")


def check_numbers(solver: object, *names: str, least: float = 0.0, above: bool = True) -> None:
    """Refuses settings that are no finite numbers above (or, with `above=False`, from) `least`; makes them floats.

    Raises:
        ValueError: naming the setting.
    """
    for name in names:
        value = getattr(solver, name)
        number = type(plain(value)) in (int, float) and math.isfinite(value)
        if not number or value < least or (above and value == least):
            bound = "positive" if above and least == 0 else f"{'above' if above else 'at least'} {least:g}"
            raise ValueError(f"{name}={value!r} must be {bound} and finite")
        object.__setattr__(solver, name, float(value))


def check_elites(elites: int, samples: int) -> None:
    """Refuses numbers of elites that a Gaussian cannot be fitted to.

    Raises:
        ValueError: below 2, or above `samples`.
    """
    if elites > samples:
        raise ValueError(f"elites={elites} exceeds samples={samples}: lower one or raise the other")
    if elites < 2:
        raise ValueError(f"elites={elites} must be at least 2: the spread of one plan is undefined")
