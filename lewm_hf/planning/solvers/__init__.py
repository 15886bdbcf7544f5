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
            candidates, costs = ranked(objective, candidates, self.samples)
            return Solution(candidates[:, 0], candidates, costs, costs[:, :1])
"""

from .base import Solution, Solver, clip, ranked, take
from .cem import CEM
from .gradient import Gradient
from .hybrid import Hybrid
from .icem import ICEM
from .keep import Keep
from .mppi import MPPI
from .random_shooting import RandomShooting
from .registry import (
    change_solver,
    known_settings,
    make_solver,
    register_solver,
    solver_name,
    solver_names,
    solver_settings,
)

__all__ = [
    "CEM",
    "Gradient",
    "Hybrid",
    "ICEM",
    "Keep",
    "MPPI",
    "RandomShooting",
    "Solution",
    "Solver",
    "change_solver",
    "clip",
    "known_settings",
    "make_solver",
    "ranked",
    "register_solver",
    "solver_name",
    "solver_names",
    "solver_settings",
    "take",
]
