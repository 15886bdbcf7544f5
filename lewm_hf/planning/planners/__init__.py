"""Planners: how an agent plans, in one versioned and hashed file. What it plans for is the protocol's."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ...named_settings import check_key, content_hash, label, names_in, read_named
from ...plain_numbers import make_plain
from ..costs import Cost
from ..horizon import RULES, SHORTEST
from ..plan_settings import PlanSettings
from ..solvers import CEM, Solver, change_solver, known_settings, make_solver, solver_name

SEARCH = (
    "solver", "horizon", "cost", "control_penalty", "clip_actions", "proposal", "proposals", "proposal_std", "guard",
)  # fmt: skip
# Fields that came later, and their values in planners from before: those keep their hash.
LATER = {"retry": None, "proposals": 1, "proposal_std": 0.25}


@dataclass(frozen=True, kw_only=True)
class Planner:
    """One way of planning. Every field is explained in `planners/*.yaml`; the defaults are those of `goal-time`.

    Args:
        name, version: identity of the file; `label` joins them.
        solver: the search, with its settings: `CEM(samples=300, iterations=30, elites=30)`.
        horizon, horizon_rule, horizon_floor: how far to look ahead, in action blocks.
        receding_horizon: action blocks executed before the next plan.
        retry: once the goal is overdue, it is due again in so many blocks, as often as it takes, and so it is from the
            start where nobody says when; `None`: it stays overdue, and the shortest plans are made.
        context_frames: frames that a plan starts from, `None` for as many as the model was trained with.
        cost, control_penalty, clip_actions, proposal, proposals, proposal_std, guard: see `PlanSettings`.
        overrides: what differs from the file, by field; part of the hash because the fields are.

    Raises:
        ValueError: for a value that is unknown, of another type or out of range.
    """

    name: str = "goal-time"
    version: int = 1
    solver: Solver = field(default_factory=CEM)
    horizon: int = 5
    horizon_rule: str = "goal-time"
    horizon_floor: int = SHORTEST
    receding_horizon: int = 1
    retry: int | None = None
    context_frames: int | None = None
    cost: str | Cost = "final"
    control_penalty: float = 0.0
    clip_actions: str = "executed"
    proposal: str | None = None
    proposals: int = 1
    proposal_std: float = 0.25
    guard: float | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)
        if not isinstance(self.name, str) or type(self.version) is not int:
            raise ValueError(f"planner {self.name}: name must be text and version={self.version!r} a whole number")
        for name in ("horizon_floor", "receding_horizon", "context_frames", "retry"):
            value = getattr(self, name)
            if not (name in ("context_frames", "retry") and value is None) and (type(value) is not int or value < 1):
                raise ValueError(f"planner {self.name}: {name}={value!r} must be a whole number of at least 1")
        if self.horizon_rule not in RULES:
            raise ValueError(
                f"planner {self.name}: horizon_rule={self.horizon_rule!r} is unknown: use {' or '.join(RULES)}"
            )
        try:
            settings = self.settings()  # which refuses the rest
        except ValueError as error:
            raise ValueError(f"planner {self.name}: {error}") from error
        object.__setattr__(self, "solver", settings.search)
        if self.receding_horizon > self.horizon:
            raise ValueError(
                f"planner {self.name}: receding_horizon={self.receding_horizon} exceeds horizon={self.horizon}: change "
                "one of them"
            )
        if self.guard is not None and self.proposal is None:
            raise ValueError(f"planner {self.name}: guard={self.guard} compares with a proposal: set proposal too")

    @property
    def label(self) -> str:
        """`"small-v1"`, with `" (modified)"` where values were overridden."""
        return label(self.name, self.version, self.overrides)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical content; formatting and comments of the file do not count."""
        content = self.to_dict()
        del content["overrides"]
        return content_hash({name: value for name, value in content.items() if (name, value) not in LATER.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the file: the solver by name, its settings beside the planner's, and `overrides`."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        if callable(self.cost):
            values["cost"] = _described(self.cost)
        values |= {"solver": solver_name(self.solver), "overrides": dict(self.overrides)}
        search = {entry.name: getattr(self.solver, entry.name) for entry in dataclasses.fields(self.solver)}
        return search | values

    def settings(self, **more: Any) -> PlanSettings:
        """The settings of one plan at the longest horizon.

        Args:
            **more: further fields of `PlanSettings`, such as `seed` and `rollout_dtype`.
        """
        return PlanSettings(**{name: getattr(self, name) for name in SEARCH}, **more)

    def frames(self, config: Any) -> int:
        """Frames that a plan with this model starts from.

        Raises:
            ValueError: for more than the model was trained with.
        """
        if self.context_frames is None:
            return config.history_size
        if self.context_frames > config.history_size:
            raise ValueError(
                f"planner {self.label} plans from context_frames={self.context_frames}, but the model has "
                f"history_size={config.history_size}: set context_frames to at most that"
            )
        return self.context_frames

    def override(self, changes: Mapping[str, Any]) -> "Planner":
        """A copy with some values changed; what differs from the file is recorded in `overrides`.

        Args:
            changes: fields of the planner or settings of its solver. See `solvers.change_solver` for what another
                solver takes over.

        Raises:
            ValueError: for an unknown field, the name or the version, or an invalid value.
        """
        if not changes:
            return self
        for name in changes:
            if name in ("name", "version", "overrides"):
                raise ValueError(f"{name} identifies the planner and cannot be overridden: write a planner file")
            check_key(name, planner_keys(), f"planner {self.name}")
        own = {name: value for name, value in changes.items() if name in _FIELDS and name != "solver"}
        search = {name: value for name, value in changes.items() if name not in _FIELDS}
        if "solver" in changes or search:
            own["solver"] = change_solver(self.solver, changes.get("solver"), **search)
        changed = dataclasses.replace(self, **own)
        before, after = self.to_dict(), changed.to_dict()
        recorded = {name: after[name] for name in after if name in changes and after[name] != before.get(name)}
        return dataclasses.replace(changed, overrides={**self.overrides, **recorded})


_FIELDS = tuple(entry.name for entry in dataclasses.fields(Planner) if entry.name != "overrides")


def planner_keys() -> set[str]:
    """All that a planner file may say: fields of `Planner` and settings of any solver."""
    return {*_FIELDS, *known_settings()}


def planner_names() -> list[str]:
    """Names of the planners that ship with the package."""
    return names_in(_folder())


def load_planner(name_or_path: str | Path | Planner, overrides: Mapping[str, Any] | None = None) -> Planner:
    """A planner of the package by name (`"paper"`, `"goal-time"`, `"small"`, ...) or a YAML file by path.

    Args:
        name_or_path: what a file leaves out has the value of `goal-time`; `name` and `version` it must say.
        overrides: values to change, by field; recorded in the planner and in every result.

    Raises:
        ValueError: for an unknown name, key or value, or a solver's setting given to another solver.
        FileNotFoundError: for a path that does not exist.
    """
    if isinstance(name_or_path, Planner):
        return name_or_path.override(overrides or {})
    content = read_named(name_or_path, _folder(), "planner")
    return planner_of(content, f"planner {name_or_path}").override(overrides or {})


def planner_of(content: Mapping[str, Any], where: str) -> Planner:
    """A planner from the flat values of its file.

    Args:
        where: for messages.

    Raises:
        ValueError: for an unknown key or value, or a missing name or version.
    """
    for key in content:
        check_key(key, planner_keys(), where)
    missing = [name for name in ("name", "version") if name not in content]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}: results name a planner by them")
    search = {name: value for name, value in content.items() if name not in _FIELDS}
    own = {name: value for name, value in content.items() if name in _FIELDS}
    try:
        own["solver"] = make_solver(own.get("solver", "cem"), **search)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Planner(**own)


def _described(function: Callable) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"


def _folder() -> Traversable:
    return files("lewm_hf.planning") / "planners"
