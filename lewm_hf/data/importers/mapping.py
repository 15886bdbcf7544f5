"""Which columns of a foreign data set are what: a small YAML file, checked before anything is read.

```yaml
fps: 10                       # required where the source does not say; otherwise it must agree
action_dim: 2                 # optional: refuses a source whose actions are of another size
every: 5                      # optional: rows are so many steps apart, and their actions are blocks of so many
action_shift: 1               # optional: an action stands so many rows after the one it leaves; 0 is usual, 1 beside
                              # the picture that it led to
action_choices: [3, 2]        # optional: an action is two choices, of three and of two values; its columns hold their
                              # numbers, counted from 0, or a 1 among zeros for each choice
columns:
  image: observation.images.top   # or several, which are put side by side: [top, wrist]
  action: action              # one column or several, which are concatenated
  observation: [observation.state, observation.gripper]
  state: [qpos, qvel]         # the simulator's state, what `set_state` of `env` takes
  goal: goal_state
  success: next.success
  episode: episode_index
  frame: frame_index          # the row's place in its episode
keep: all                     # every other column of numbers too, under its own name; or a list of them
skip_episodes: [3, 17]        # positions in the source, from 0
fit: crop                     # crop, pad or stretch frames to squares, and resize them to the size asked for
```
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from ...pictures import FITS
from ...plain_numbers import make_plain
from ...yaml_text import parse_yaml
from ..schema import episode_features

MANY = ("action", "observation", "state", "goal")
ONE = ("image", "success", "episode", "frame")
KEPT = "kept:"
EVERYTHING = ("*",)
SHIFTS = (0, 1)
FEWEST_VALUES = 2
# By role the columns that a format usually has for it, the likeliest first.
Defaults = Mapping[str, Sequence[tuple[str, ...]]]
# What this package writes itself.
WRITTEN = frozenset(episode_features(1, 1, 1))
# And what other tables call what it writes.
BOOKKEEPING = WRITTEN | {"episode", "episode_idx", "ep_idx", "step_idx"}


@dataclass(frozen=True)
class ColumnMapping:
    """Columns of a source by their role; what is `None` or empty is left to the format's defaults, or missing.

    Attributes:
        image: frames; of several cameras, the columns that are put side by side.
        action, observation, state, goal: columns that are concatenated to one vector.
        success: whether the goal is reached after the row's action.
        episode: which episode a row belongs to, where the format needs it.
        frame: the row's place in its episode, where it has another than its usual name.
        fps: frames per second.
        keep: columns of numbers that are stored beside, as they are; `("*",)` keeps all that are mapped to no role.
        action_dim: size of one action.
        every: simulator steps from a row to the next, where a row's action is the flattened block of as many.
        action_shift: how many rows after the one it leaves an action stands: 0, or 1 where the source has it beside the
            picture that it led to; `None`: what the format says, 0 in most.
        action_choices: how many values each choice has, where an action is choices; see `choices.one_hot`.
        skip_episodes: positions of episodes that are left out.
        fit: `"crop"`, `"pad"` or `"stretch"` makes frames square; `None` takes square frames only.

    Raises:
        ValueError: one line for frames per second, a `fit`, an `action_shift` or `action_choices` that cannot be, a
            camera or a column of actions that is named twice, or a column to keep whose name this package writes
            itself.
    """

    image: str | tuple[str, ...] | None = None
    action: tuple[str, ...] = ()
    observation: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    goal: tuple[str, ...] = ()
    success: str | None = None
    episode: str | None = None
    frame: str | None = None
    keep: tuple[str, ...] = ()
    fps: float | None = None
    action_dim: int | None = None
    every: int | None = None
    action_shift: int | None = None
    action_choices: tuple[int, ...] = ()
    skip_episodes: tuple[int, ...] = ()
    fit: str | None = None

    def __post_init__(self) -> None:
        make_plain(self)
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps={self.fps} must be a number above 0: say how many frames make a second")
        if self.fit not in (None, *FITS):
            raise ValueError(f"fit={self.fit!r} is unknown: use one of {', '.join(FITS)}")
        if self.action_shift not in (None, *SHIFTS):
            raise ValueError(f"action_shift={self.action_shift!r} must be 0 or 1: see `lewm_hf.data.importers.mapping`")
        if not all(size >= FEWEST_VALUES for size in self.action_choices):
            raise ValueError(
                f"action_choices={list(self.action_choices)} must be numbers of values, at least {FEWEST_VALUES} each"
            )
        cameras = self.image if isinstance(self.image, tuple) else ()
        for role, names in (("image", cameras), ("action", self.action)):
            if len(set(names)) < len(names):
                raise ValueError(f"{role} names a column twice ({', '.join(names)}): name each once")
        if own := WRITTEN.intersection(self.keep):
            raise ValueError(
                f"keep names {', '.join(sorted(own))}, which every data set of this package has with a meaning of its "
                "own: give the column another name in the source, or a role"
            )

    @property
    def camera(self) -> str:
        """The column of pictures, of sources that take one."""
        if not isinstance(self.image, str):
            raise ValueError(f"image: {self.image!r} must be one column: several are read by a source each")
        return self.image

    @property
    def vectors(self) -> dict[str, tuple[str, ...]]:
        """The numeric roles that are mapped, with their columns."""
        roles = {role: getattr(self, role) for role in MANY} | {"success": (self.success,) if self.success else ()}
        kept = {f"{KEPT}{name}": (name,) for name in self.keep}
        return {role: names for role, names in roles.items() if names} | kept

    def keeping(self, numeric: Iterable[str]) -> "ColumnMapping":
        """With the columns that `*` stands for: those of numbers that have no role, nor count rows or episodes."""
        if self.keep != EVERYTHING:
            return self
        taken: set[str | None] = {name for names in replace(self, keep=()).vectors.values() for name in names}
        taken |= {*BOOKKEEPING, self.episode, self.frame, self.success}
        return replace(self, keep=tuple(name for name in numeric if name not in taken))

    def with_defaults(self, present: Iterable[str], defaults: Defaults) -> "ColumnMapping":
        """Fills roles that are not mapped with the first of their default columns that are all present."""
        there = set(present)
        filled: dict[str, Any] = {}
        for role, candidates in defaults.items():
            if not getattr(self, role):
                found = next((names for names in candidates if set(names) <= there), None)
                if found:
                    filled[role] = found[0] if role in ONE else found
        return replace(self, **filled)

    def as_dict(self) -> dict[str, Any]:
        """What is set, as JSON knows it."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if value not in (None, [])}


def read_mapping(path: str | Path | None) -> ColumnMapping:
    """Reads a mapping; `None` gives an empty one.

    Raises:
        FileNotFoundError, ValueError: one line, naming the entry that is wrong.
    """
    if path is None:
        return ColumnMapping()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no mapping {path}: give a YAML file")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML ({' '.join(str(error).split())}): correct it") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not isinstance(content.get("columns", {}), dict):
        raise ValueError(f"{path} must hold entries like `fps: 10` and `columns: {{action: ...}}`")
    columns = content.pop("columns", {})
    other = [field.name for field in fields(ColumnMapping) if field.name not in MANY + ONE]
    for found, known in ((content, (*other, "columns")), (columns, MANY + ONE)):
        for name in found:
            if name not in known:
                raise ValueError(f"{path} has an unknown entry {name!r}: use one of {', '.join(known)}")
    values: dict[str, Any] = {role: _names(path, role, names) for role, names in columns.items()}
    return ColumnMapping(**values, **{name: _setting(path, name, value) for name, value in content.items()})


def _names(path: Path, role: str, value: Any) -> str | tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    single = role in ONE and role != "image"
    if not names or not all(isinstance(name, str) and name for name in names) or (single and len(names) > 1):
        expected = "the name of a column" if single else "a column's name, or a list of them"
        raise ValueError(f"{path} has {role}: {value!r}, expected {expected}")
    return names[0] if role in ONE and len(names) == 1 else tuple(names)


def _setting(path: Path, name: str, value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name == "fps" and (whole or isinstance(value, float)) and 0 < value < float("inf"):
        return float(value)
    if name in ("action_dim", "every") and whole and value > 0:
        return value
    if name == "action_shift" and whole and value in SHIFTS:
        return value
    if name == "action_choices" and isinstance(value, list) and value and all(type(one) is int for one in value):
        return tuple(value)
    if name == "skip_episodes" and isinstance(value, list) and all(type(one) is int and one >= 0 for one in value):
        return tuple(sorted(set(value)))
    if name == "fit" and value in FITS:
        return value
    if name == "keep" and value == "all":
        return EVERYTHING
    if name == "keep" and isinstance(value, list) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    expected = {
        "fps": "a number above 0",
        "action_dim": "a whole number above 0",
        "every": "a whole number above 0",
        "action_shift": "0 or 1",
        "action_choices": "a list of how many values each choice has",
        "skip_episodes": "a list of positions from 0",
        "fit": f"one of {', '.join(FITS)}",
        "keep": "all, or a list of columns",
    }
    raise ValueError(f"{path} has {name}: {value!r}, expected {expected[name]}")
