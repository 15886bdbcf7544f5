"""Protocols: everything that decides what a success rate means, in one versioned and hashed file."""

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

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
        solver, samples, iterations, elites, initial_std, horizon, receding_horizon, action_block, context_frames: how
            the agent plans. Horizons are in action blocks.
        overrides: what differs from the file, by field; part of the hash because the fields are.
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
    solver: str
    samples: int
    iterations: int
    elites: int
    initial_std: float
    horizon: int
    receding_horizon: int
    action_block: int
    context_frames: int
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for entry in dataclasses.fields(self):
            if entry.name in ("seeds", "overrides"):
                continue
            value = getattr(self, entry.name)
            if entry.type is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, entry.name, value)
            if type(value) is not entry.type:
                raise ValueError(
                    f"protocol {self.name}: {entry.name}={value!r} must be of type {entry.type.__name__}, "
                    f"not {type(value).__name__}"
                )
        self._check_seeds()
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"protocol {self.name}: {name}={getattr(self, name)!r} is unknown: use {' or '.join(allowed)}"
                )
        for name in ("goal_offset", "pairs", "budget", "samples", "iterations", "elites", "horizon",
                     "receding_horizon", "action_block", "context_frames"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"protocol {self.name}: {name}={getattr(self, name)} must be at least 1")
        if not (math.isfinite(self.initial_std) and self.initial_std > 0):
            raise ValueError(f"protocol {self.name}: initial_std={self.initial_std} must be a positive number")
        for small, large in (("elites", "samples"), ("receding_horizon", "horizon")):
            if getattr(self, small) > getattr(self, large):
                raise ValueError(
                    f"protocol {self.name}: {small}={getattr(self, small)} exceeds {large}={getattr(self, large)}: "
                    f"change one of them"
                )

    def _check_seeds(self):
        seeds = self.seeds
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            seeds = (seeds,)
        if not isinstance(seeds, list | tuple) or not seeds or not all(type(s) is int and s >= 0 for s in seeds):
            raise ValueError(f"protocol {self.name}: seeds={self.seeds!r} must be a list of whole numbers >= 0")
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"protocol {self.name}: seeds={list(seeds)} repeat: each seed is one measurement")
        object.__setattr__(self, "seeds", tuple(seeds))

    @property
    def label(self) -> str:
        """`"paper-v3"`, with `" (modified)"` where values were overridden."""
        return f"{self.name}-v{self.version}" + (" (modified)" if self.overrides else "")

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical content; formatting and comments of the file do not count."""
        content = self.to_dict()
        del content["overrides"]
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
            if name in ("name", "version", "overrides"):
                raise ValueError(f"{name} identifies the protocol and cannot be overridden: write a protocol file")
            _check_key(name, f"protocol {self.name}")
        changed = dataclasses.replace(self, **changes)
        recorded = {
            name: value
            for name, value in changed.to_dict().items()
            if name in changes and value != self.to_dict()[name]
        }
        return dataclasses.replace(changed, overrides={**self.overrides, **recorded})


def content_hash(content: Any) -> str:
    """SHA-256 of plain values in canonical JSON: sorted keys, no white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def protocol_names() -> list[str]:
    """Names of the protocols that ship with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def load_protocol(name_or_path: str | Path | Protocol, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """A protocol of the package by name (`"paper"`, `"clean"`) or a YAML file by path.

    Args:
        overrides: values to change, by field; recorded in the protocol and in every result.

    Raises:
        ValueError: for an unknown name, key or value.
        FileNotFoundError: for a path that does not exist.
    """
    if isinstance(name_or_path, Protocol):
        return name_or_path.override(overrides or {})
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no protocol file {path}: give another, or one of {', '.join(protocol_names())}"
            )
        text = path.read_text(encoding="utf-8")
    elif str(name_or_path) in protocol_names():
        text = (_folder() / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        raise ValueError(
            f"unknown protocol {str(name_or_path)!r}: use one of {', '.join(protocol_names())} or a .yaml file"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"protocol {name_or_path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"protocol {name_or_path}: expected a mapping of fields, got {type(content).__name__}")
    for key in content:
        _check_key(key, f"protocol {name_or_path}")
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        raise ValueError(f"protocol {name_or_path}: missing {', '.join(missing)}: a protocol states every value")
    return Protocol(**content).override(overrides or {})


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """`["samples=200", "seeds=[1, 2]"]` -> `{"samples": 200, "seeds": [1, 2]}`; values are read as YAML.

    Raises:
        ValueError: for text without `=`, an unknown field, or a value that is not YAML.
    """
    overrides = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"override {text!r} has no '=': write field=value")
        _check_key(key.strip(), "override")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"override {text!r}: {value!r} is not a YAML value") from None
    return overrides


_FIELDS = tuple(entry.name for entry in dataclasses.fields(Protocol) if entry.name != "overrides")


def _check_key(key: Any, where: str) -> None:
    if key in _FIELDS:
        return
    close = difflib.get_close_matches(str(key), _FIELDS, n=1, cutoff=0.0)
    raise ValueError(f"{where}: unknown key {key!r}: the closest known one is {close[0]!r}")


def _folder():
    return files("lewm_hf.evaluation.success") / "protocols"
