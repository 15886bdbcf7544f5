"""Protocols: which problems an agent gets, in one versioned and hashed file. How it solves them is the planner's.

The hash covers every value that decides which problems there are, what counts as success and what the agent is told.
Results of one protocol's hash are comparable, whoever planned; `default_planner` is no part of it.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ...named_settings import check_key, content_hash, label, names_in, parse_assignments, read_named
from ...plain_numbers import make_plain
from ...planning.planners import planner_keys

CHOICES = {
    "split": ("train", "test"),
    "draw": ("rows", "episodes"),
    "shoulder": ("raw", "periodic"),
    "first_frame": ("stored", "rendered"),
    "goal_frame": ("stored", "rendered"),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way of measuring planning. Every field is explained in `protocols/*.yaml`.

    Args:
        name, version: identity of the file; `label` joins them.
        split, draw, goal_offset, drop_solved, opposite_rooms, shoulder, pairs, seeds: which start-goal pairs.
        budget, first_frame, goal_frame, rest_start: what an episode is. Steps are environment steps.
        deadline: whether the agent is told when the goal is due: `goal_offset` steps after the start. It is information
            that a user may not have; planners that do not use it are not affected.
        default_planner: who plans where nobody asks for another; no part of the hash.
        overrides: what differs from the file, by field; part of the hash because the fields are.

    Raises:
        ValueError: for a value that is unknown, of another type or out of range.
    """

    name: str
    version: int
    split: str
    draw: str
    goal_offset: int
    drop_solved: bool
    opposite_rooms: bool
    shoulder: str
    pairs: int
    seeds: tuple[int, ...]
    budget: int
    first_frame: str
    goal_frame: str
    rest_start: bool
    deadline: bool
    default_planner: str = "goal-time"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)
        for entry in dataclasses.fields(self):
            if entry.name in ("seeds", "overrides"):
                continue
            value = getattr(self, entry.name)
            if type(value) is not entry.type:
                raise ValueError(
                    f"protocol {self.name}: {entry.name}={value!r} must be of type "
                    f"{getattr(entry.type, '__name__', entry.type)}, not {type(value).__name__}"
                )
        self._check_seeds()
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"protocol {self.name}: {name}={getattr(self, name)!r} is unknown: use {' or '.join(allowed)}"
                )
        for name in ("goal_offset", "pairs", "budget"):
            if getattr(self, name) < 1:
                raise ValueError(f"protocol {self.name}: {name}={getattr(self, name)} must be at least 1")

    def _check_seeds(self) -> None:
        seeds = self.seeds
        if type(seeds) is int:
            seeds = (seeds,)
        if not isinstance(seeds, list | tuple) or not seeds or not all(type(s) is int and s >= 0 for s in seeds):
            raise ValueError(f"protocol {self.name}: seeds={self.seeds!r} must be a list of whole numbers >= 0")
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"protocol {self.name}: seeds={list(seeds)} repeat: each seed is one measurement")
        object.__setattr__(self, "seeds", tuple(seeds))

    @property
    def label(self) -> str:
        """`"paper-v3"`, with `" (modified)"` where values were overridden."""
        return label(self.name, self.version, self.overrides)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical content; formatting and comments of the file do not count."""
        content = self.to_dict()
        del content["overrides"], content["default_planner"]
        return content_hash(content)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the file, and `overrides`."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return values | {"seeds": list(self.seeds), "overrides": dict(self.overrides)}

    def override(self, changes: Mapping[str, Any]) -> "Protocol":
        """A copy with some values changed; what differs from the file is recorded in `overrides`.

        Raises:
            ValueError: for an unknown field, the name or the version, or an invalid value.
        """
        for name in changes:
            if name in ("name", "version", "overrides", "default_planner"):
                raise ValueError(f"{name} identifies the protocol and cannot be overridden: write a protocol file")
            check_key(name, _FIELDS, f"protocol {self.name}")
        changed = dataclasses.replace(self, **changes)
        recorded = {
            name: value
            for name, value in changed.to_dict().items()
            if name in changes and value != self.to_dict()[name]
        }
        return dataclasses.replace(changed, overrides={**self.overrides, **recorded})


def protocol_names() -> list[str]:
    """Names of the protocols that ship with the package."""
    return names_in(_folder())


def load_protocol(name_or_path: str | Path | Protocol, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """A protocol of the package by name (`"paper"`, `"clean"`) or a YAML file by path.

    Args:
        name_or_path: name, path of a YAML file, or a `Protocol`.
        overrides: values to change, by field; recorded in the protocol and in every result.

    Raises:
        ValueError: for an unknown name, key or value, or a planner's value among a protocol's.
        FileNotFoundError: for a path that does not exist.
    """
    if isinstance(name_or_path, Protocol):
        return name_or_path.override(overrides or {})
    content, where = read_named(name_or_path, _folder(), "protocol"), f"protocol {name_or_path}"
    planning = [key for key in content if key not in _FIELDS and (key in planner_keys() or key == "action_block")]
    if planning:
        raise ValueError(
            f"{where}: {', '.join(planning)} say how an agent plans, which is not the protocol's: move them to a "
            "planner file (`lewm eval --planner FILE`); action_block is the model's frameskip"
        )
    for key in content:
        check_key(key, _FIELDS, where)
    missing = [name for name in _FIELDS if name not in content and name != "default_planner"]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}: a protocol states every value")
    return Protocol(**content).override(overrides or {})


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Changes of a protocol, and changes of a planner.

    Raises:
        ValueError: for a key of neither, naming the closest one.
    """
    known = {*_FIELDS, *planner_keys()}
    for key in overrides:
        check_key(key, known, "override")
    of_protocol = {key: value for key, value in overrides.items() if key in _FIELDS}
    return of_protocol, {key: value for key, value in overrides.items() if key not in _FIELDS}


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """`["samples=200", "seeds=[1, 2]"]` -> `{"samples": 200, "seeds": [1, 2]}`, keys of protocols and planners.

    Raises:
        ValueError: for text without `=`, an unknown key, or a value that is not YAML.
    """
    return parse_assignments(assignments, {*_FIELDS, *planner_keys()})


_FIELDS = tuple(entry.name for entry in dataclasses.fields(Protocol) if entry.name != "overrides")


def _folder() -> Traversable:
    return files("lewm_hf.evaluation.success") / "protocols"
