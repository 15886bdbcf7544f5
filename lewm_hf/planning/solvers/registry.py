"""Solvers by name: those of this package, of other packages, and of one's own code."""

import dataclasses
import difflib
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from typing import Any

from ...offered import load_offered, offered_names
from .base import Solver
from .cem import CEM
from .gradient import Gradient
from .hybrid import Hybrid
from .icem import ICEM
from .keep import Keep
from .mppi import MPPI
from .random_shooting import RandomShooting

ENTRY_POINTS = "lewm_hf.solvers"
_KINDS: dict[str, type] = {
    "cem": CEM,
    "icem": ICEM,
    "mppi": MPPI,
    "gradient": Gradient,
    "random": RandomShooting,
    "hybrid": Hybrid,
    "keep": Keep,
}


def register_solver(name: str, kind: type) -> None:
    """Makes a solver known by a name, for planner files, `lewm eval --set solver=NAME` and the pipeline.

    Args:
        name: not yet taken.
        kind: a frozen dataclass with the members of `Solver`, all of whose fields have defaults.

    Raises:
        ValueError: for a name that is taken, or a class that is no such dataclass.
    """
    if name in _KINDS and _KINDS[name] is not kind:
        raise ValueError(f"there is a solver {name!r} already, {_KINDS[name].__qualname__}: choose another name")
    _check_kind(name, kind)
    _KINDS[name] = kind


def solver_names() -> list[str]:
    """Names of all solvers that can be made."""
    return sorted({*_KINDS, *offered_names(ENTRY_POINTS)})


def solver_settings(name: str) -> dict[str, Any]:
    """Settings of a solver and their defaults.

    Raises:
        ValueError: for an unknown name.
    """
    return {field.name: field.default for field in dataclasses.fields(_kind(name))}


def known_settings() -> set[str]:
    """Names of the settings of all solvers, as far as their packages can be imported."""
    return {field.name for kind in {**_KINDS, **_offered()}.values() for field in dataclasses.fields(kind)}


def make_solver(name: str, **settings: Any) -> Solver:
    """A solver by name.

    Raises:
        ValueError: for an unknown name or setting, or a value out of range.
    """
    _check_settings(name, solver_settings(name), settings)
    return _kind(name)(**settings)


def change_solver(solver: Solver, chosen: str | Solver | None = None, **settings: Any) -> Solver:
    """A solver with other settings, or another solver.

    Args:
        solver: the one before.
        chosen: another one; to one that is given by name go all values that both know and that are no defaults of the
            old one.
        settings: to change.

    Raises:
        ValueError: for an unknown name or setting, or a value out of range.
    """
    if isinstance(chosen, str):
        known, kept = solver_settings(chosen), {}
        for entry in dataclasses.fields(solver):
            if entry.name in known and getattr(solver, entry.name) != entry.default:
                kept[entry.name] = getattr(solver, entry.name)
        return make_solver(chosen, **kept | settings)
    solver = solver if chosen is None else chosen
    if settings:
        _check_settings(solver_name(solver), [entry.name for entry in dataclasses.fields(solver)], settings)
        solver = dataclasses.replace(solver, **settings)
    return solver


def solver_name(solver: Solver) -> str:
    """The name that a solver is known by, else that of its class."""
    for kinds in (_KINDS, _offered()):
        for name, kind in kinds.items():
            if type(solver) is kind:
                return name
    return f"{type(solver).__module__}.{type(solver).__qualname__}"


def _check_settings(name: str, known: Collection[str], settings: Collection[str]) -> None:
    for key in settings:
        if key not in known:
            known_kinds = sorted({**_KINDS, **_offered()})
            owners = [other for other in known_kinds if other != name and key in solver_settings(other)]
            closest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            reason = f" (the closest one is {closest[0]})" if closest else ""
            reason = f" (it belongs to {', '.join(owners)})" if owners else reason
            takes = ", ".join(known) or "none"
            raise ValueError(f"{key} is not a setting of solver {name!r}{reason}; {name} takes {takes}")


def _kind(name: str) -> type:
    if name in _KINDS:
        return _KINDS[name]
    if name in offered_names(ENTRY_POINTS):
        return _installed(name)
    raise ValueError(f"solver={name!r} is unknown: use one of {solver_names()}, or pass a solver of your own")


def _offered() -> dict[str, type]:
    """Those of installed packages; a broken one stands in the way of those alone who ask for it."""
    found = {}
    for name in offered_names(ENTRY_POINTS):
        with suppress(ImportError, ValueError):
            found[name] = _installed(name)
    return found


@cache
def _installed(name: str) -> type:
    kind = load_offered(ENTRY_POINTS, name, "solver")
    _check_kind(name, kind)
    return kind


def _check_kind(name: str, kind: type) -> None:
    fields = {field.name: field for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    without = [field for field, entry in fields.items() if entry.default is dataclasses.MISSING]
    if not isinstance(kind, type) or "__call__" not in dir(kind) or without:
        raise ValueError(
            f"solver {name!r}: {kind!r} must be a dataclass with __call__ whose fields all have defaults"
            + (f", unlike {', '.join(without)}" if without else "")
        )
    for member in ("samples", "iterations"):
        if not hasattr(kind, member):
            raise ValueError(f"solver {name!r}: {kind.__qualname__} has no {member}: the planner draws its noise by it")
