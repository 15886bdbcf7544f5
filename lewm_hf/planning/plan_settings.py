"""How to search one plan: everything that decides about it beside the model, the frames and the goal."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch

from ..plain_numbers import make_plain
from .costs import GOALS, STEPS, Cost
from .solvers import CEM, Solver, change_solver, make_solver
from .solvers.base import check_numbers, check_solver

PROPOSALS = (None, "actor")
CLIPPED = ("executed", "candidates", "none")
ROLLOUT_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How to search one plan. The defaults are the paper's, for every environment, but for `clip_actions`.

    Args:
        solver: name of a solver, or one with settings of its own: `CEM(samples=100, iterations=8, elites=15)`.
        horizon: length of a plan in action blocks.
        cost: `"final"`, `"path"`, or a function `(predicted (B, S, T, *latent), goal) -> (B, S)` that may want any
            kind of goal; see `costs.py`.
        control_penalty: added to the cost for each squared action of a plan, actions in standard deviations of the
            data set's, counted from the zero action.
        goals: which of several goals counts, `"min"` or `"mean"`.
        clip_actions: what stays within the action bounds that the config or the caller gives: `"executed"`, the actions
            that leave in environment units; `"candidates"`, all that the search considers; `"none"`. Where a search may
            look beyond the bounds its mean can reach them: with candidates clipped, goals at full speed are missed
            (TwoRoom: 31 of 40 shipped pairs instead of all of the first 20).
        proposal: `"actor"` starts the search where the checkpoint's actor would go.
        proposals: how many times the actor is followed through the imagined future. The first time undisturbed; then
            noise is added to every block that it gives, and its next one answers where that leads. The search starts
            from the cheapest of these plans.
        proposal_std: of that noise, in standard deviations of the data set's actions.
        guard: keep the undisturbed start instead of the result unless the predicted cost falls by this share.
        seed: of all noise. The noise of a problem depends on (seed, problem, replan) and on nothing else.
        rollout_dtype: `None` computes as the model does; `"bfloat16"` or `"float16"` runs the roll-out under autocast
            (costs stay float32). On a CPU only worthwhile with the instruction (avx512_bf16, amx).
        compile: `torch.compile` the roll-out and its cost, with CUDA graphs where there are any. Compiles once per
            number of problems, which takes up to a minute.
        memory_budget: bytes that the candidates of one roll-out may hold. Problems, and where one alone is too large
            its candidates, are taken in portions of that size.
        problem_batch: problems solved together. Default: as many as `memory_budget` allows on an accelerator, one on a
            CPU, where that is faster: side by side on one thread each (`OMP_NUM_THREADS`), or a single problem on all
            of them. With 1 a plan is the same to the last bit whatever the batch; otherwise to rounding, since matrix
            products of other sizes may add up in another order.

    Raises:
        ValueError: for a setting that is unknown or out of range.
    """

    solver: str | Solver = field(default_factory=CEM)
    horizon: int = 5
    cost: Literal["final", "path"] | Cost = "final"
    control_penalty: float = 0.0
    goals: Literal["min", "mean"] = "min"
    clip_actions: Literal["executed", "candidates", "none"] = "executed"
    proposal: Literal["actor"] | None = None
    proposals: int = 1
    proposal_std: float = 0.25
    guard: float | None = None
    seed: int = 42
    rollout_dtype: Literal["bfloat16", "float16"] | None = None
    compile: bool = False
    memory_budget: int = 8 * 2**30
    problem_batch: int | None = None

    def __post_init__(self) -> None:
        make_plain(self)
        if isinstance(self.solver, str):
            object.__setattr__(self, "solver", make_solver(self.solver))
        check_solver(self.solver)
        for name in ("horizon", "proposals", "memory_budget", "problem_batch"):
            value = getattr(self, name)
            if name == "problem_batch" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ValueError(f"seed={self.seed!r} must be a whole number")
        for name, allowed in (
            ("cost", STEPS), ("goals", GOALS), ("rollout_dtype", (None, *ROLLOUT_DTYPES)), ("proposal", PROPOSALS),
            ("clip_actions", CLIPPED),
        ):  # fmt: skip
            value = getattr(self, name)
            if value not in allowed and not (name == "cost" and callable(value)):
                raise ValueError(f"{name}={value!r} is unknown: use one of {list(allowed)}")
        check_numbers(self, "control_penalty", above=False)
        check_numbers(self, "proposal_std")
        if self.proposals > 1 and self.proposal is None:
            raise ValueError(f"proposals={self.proposals}: nothing proposes a plan, set proposal too")
        if self.guard is not None:
            check_numbers(self, "guard", above=False)

    @property
    def search(self) -> Solver:
        """The solver itself, also where it was given by name."""
        assert not isinstance(self.solver, str)  # `__post_init__` made one of a name
        return self.solver

    @classmethod
    def of(cls, **values: Any) -> "PlanSettings":
        """Settings from flat keywords: those of this class, and those of the solver by their own names.

            PlanSettings.of(samples=100, iterations=8, elites=15, horizon=5)

        Raises:
            ValueError: for an unknown keyword, or a solver's setting given to another solver.
        """
        return cls().changed(**values)

    def changed(self, **values: Any) -> "PlanSettings":
        """A copy with some values changed, flat as for `of`.

        See `solvers.change_solver` for what another solver takes over.
        """
        own = {name: values.pop(name) for name in [entry.name for entry in fields(self)] if name in values}
        if values or "solver" in own:
            own["solver"] = change_solver(self.search, own.get("solver"), **values)
        return replace(self, **own)
