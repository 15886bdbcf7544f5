"""Solvers: each searches the plan of lowest cost, one file each.

A solver is a frozen dataclass with the members of `Solver`; its fields are its settings. Use one of your own as
`PlanSettings(solver=Mine(samples=64))`, give it a name with `register_solver`, or let a package offer it through the
entry point group `lewm_hf.solvers`:

    @dataclass(frozen=True)
    class BestOfMany:
        samples: int = 300
        iterations: int = 1

        def __call__(self, objective, mean, noise, bounds=None):
            candidates = clip(mean[:, None] + noise(0), bounds)
            costs, order = objective(candidates).sort(dim=1)
            candidates = take(candidates, order)
            return Solution(candidates[:, 0], candidates, costs, costs[:, :1])
"""

from .base import Solution, Solver, clip, take
from .cem import CEM
from .registry import change_solver, make_solver, register_solver, solver_name, solver_names, solver_settings

__all__ = [
    "CEM",
    "Solution",
    "Solver",
    "change_solver",
    "clip",
    "make_solver",
    "register_solver",
    "solver_name",
    "solver_names",
    "solver_settings",
    "take",
]
