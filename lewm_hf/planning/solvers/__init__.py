"""Solvers: each searches the plan of lowest cost, one file each.

A solver is any function with the signature of `Solver`. It sees no world model, no environment and no units: only
costs of candidate plans. Pass one of your own as `PlanSettings(solver=my_solver)`, or let a package offer it by name
through the entry point group `lewm_hf.solvers`:

    def random_shooting(objective, mean, noise, settings):
        candidates = mean[:, None] + settings.initial_std * noise(0)
        costs, order = objective(candidates).topk(settings.elites, largest=False)
        elites = take(candidates, order)
        return Solution(elites[:, 0], elites, costs, costs[:, :1])
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from ..planner import PlanSettings

BUILT_IN = ("cem",)
ENTRY_POINTS = "lewm_hf.solvers"


@dataclass
class Solution:
    """What a solver found, for B problems at once; plans are z-scored action blocks.

    Args:
        plan: `(B, horizon, A)` the plan to execute.
        elites: `(B, E, horizon, A)` the best candidates of the last iteration, best first.
        elite_costs: `(B, E)` their costs.
        best_costs: `(B, iterations)` the lowest cost that each iteration saw.
    """

    plan: Tensor
    elites: Tensor
    elite_costs: Tensor
    best_costs: Tensor


class Solver(Protocol):
    def __call__(
        self,
        objective: Callable[[Tensor], Tensor],
        mean: Tensor,
        noise: Callable[[int], Tensor],
        settings: "PlanSettings",
    ) -> Solution:
        """Searches from `mean`.

        Args:
            objective: candidate plans `(B, S, horizon, A)` -> costs `(B, S)`. Differentiable inside
                `torch.enable_grad()`.
            mean: `(B, horizon, A)` where the search starts.
            noise: iteration -> `(B, samples, horizon, A)` standard normal numbers. A solver must draw all its
                randomness here, so that a problem's plan does not depend on its batch.
            settings: samples, iterations, elites, initial_std and the rest.
        """
        ...


def take(candidates: Tensor, order: Tensor) -> Tensor:
    """Picks candidates `(B, S, ...)` by their indices `(B, E)` -> `(B, E, ...)`."""
    index = order.reshape(*order.shape, *[1] * (candidates.dim() - 2))
    return candidates.gather(1, index.expand(-1, -1, *candidates.shape[2:]))


def get_solver(solver: str | Solver) -> Solver:
    """A solver by name, or the given function itself.

    Raises:
        ValueError: for an unknown name.
    """
    if callable(solver):
        return solver
    if solver in BUILT_IN:
        return getattr(import_module(f".{solver}", __name__), solver)
    installed = entry_points(group=ENTRY_POINTS)
    if solver in installed.names:
        return installed[solver].load()
    names = sorted({*BUILT_IN, *installed.names})
    raise ValueError(f"solver={solver!r} is unknown: use one of {names}, or pass a function")
