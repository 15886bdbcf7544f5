"""The layout of robomimic's and LIBERO's HDF5 files: groups `data/demo_0`, `data/demo_1`, ..., and lists in `mask`."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .flat import Layout
from .hdf5_file import Hdf5File
from .names import visible

logger = logging.getLogger(__name__)

SUFFIXES = (".h5", ".hdf5")
DATA, OBSERVED, AFTERWARDS, MASKS = "data", "obs", "next_obs", "mask"
ACTIONS = "actions"
# robosuite's word for which row of a picture comes first.
CONVENTION = "macros_image_convention"
BOTTOM_FIRST = "opengl"
_DEMO = re.compile(r"demo_(\d+)")


@dataclass(frozen=True)
class Demo:
    """One demonstration.

    Attributes:
        file: where it is.
        name: `demo_3`.
        columns: its data sets by name: those at its top and in `obs` by their own, others as `group.name`.
        places: where each is below the demonstration.
    """

    file: Hdf5File
    name: str
    columns: dict[str, Layout]
    places: dict[str, str]

    def __str__(self) -> str:
        return f"{self.name} of {self.file.path}"

    @property
    def observed(self) -> dict[str, Layout]:
        """The columns of `obs`, in the order of their names."""
        return {name: kind for name, kind in self.columns.items() if self.places[name].startswith(f"{OBSERVED}/")}

    def rows(self, name: str) -> int:
        """How many a column has; 0 where it is missing, or a single value."""
        return self.columns[name].shape[0] if name in self.columns and self.columns[name].shape else 0

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of a column that has some."""
        return self.file.read(
            f"{DATA}/{self.name}/{self.places[name]}", start, self.rows(name) if stop is None else stop
        )


def holds_demonstrations(path: Path) -> bool:
    """Whether a file has a group `data` with `demo_0` or the like; a damaged one has none."""
    file = Hdf5File(path)
    try:
        group = file.group(DATA)
        return group is not None and any(_DEMO.fullmatch(name) for name in group)
    except ValueError:
        return False
    finally:
        file.close()


def files_of(path: Path) -> list[Hdf5File]:
    """The file itself, or those at the top of a folder in natural order.

    Raises:
        FileNotFoundError, ValueError: one line where there are none.
    """
    if not path.is_dir():
        return [Hdf5File(path)]
    found = [file for file in visible(path.iterdir(), path) if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not found:
        raise FileNotFoundError(f"{path} has no *{' or *'.join(SUFFIXES)}: give a file of demonstrations, or a folder")
    return [Hdf5File(file) for file in found]


def demos_of(file: Hdf5File) -> list[Demo]:
    """The demonstrations of a file, by their numbers.

    Raises:
        ValueError: one line where there are none, or one is a link to nothing or into another file.
    """
    data = file.group(DATA)
    if data is None:
        raise ValueError(
            f"{file.path} has no group {DATA!r}, but {', '.join(file.open()) or 'nothing'}: expected {DATA}/demo_0, "
            f"{DATA}/demo_1, ...; a file of columns with the rows of all episodes is imported as hdf5, by itself"
        )
    names = [name for name in data if _DEMO.fullmatch(name)]
    if not names:
        raise ValueError(f"{DATA!r} of {file.path} has no demonstrations: expected {DATA}/demo_0, {DATA}/demo_1, ...")
    if other := sorted(set(data) - set(names)):
        logger.warning("%s of %s are no demonstrations (demo_0, ...), and left out", ", ".join(other), file.path)
    return [_demo(file, name) for name in sorted(names, key=lambda name: (int(name.removeprefix("demo_")), name))]


def _demo(file: Hdf5File, name: str) -> Demo:
    group = file.group(f"{DATA}/{name}")
    if group is None:
        raise ValueError(
            f"{DATA}/{name} of {file.path} is no group, or a link to nothing: expected {ACTIONS} and {OBSERVED} there; "
            "repair it, or take it away"
        )
    columns = file.layout(group)
    places = {at: at for at in columns}
    for part in sorted(set(group) - set(columns) - {AFTERWARDS}):
        inside = file.group(f"{DATA}/{name}/{part}")
        for at, kind in sorted(file.layout(inside).items()) if inside is not None else ():
            short = at if part == OBSERVED and at not in places else f"{part}.{at}"
            columns[short], places[short] = kind, f"{part}/{at}"
    return Demo(file, name, columns, places)


def attribute(file: Hdf5File, name: str, demo: str | None = None) -> Any:
    """An attribute of `data`, or of a demonstration, as Python knows it; `None` where there is none."""
    group = file.group(DATA if demo is None else f"{DATA}/{demo}")
    value = None if group is None else group.attrs.get(name)
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def control_frequency(file: Hdf5File) -> float | None:
    """Steps per second, `env_kwargs.control_freq` in the JSON of `env_args`; `None` where it does not say.

    Raises:
        ValueError: one line where it says what cannot be.
    """
    said = attribute(file, "env_args")
    if said is None:
        return None
    try:
        found = json.loads(said)["env_kwargs"].get("control_freq")
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError, RecursionError):
        logger.warning("env_args of %s is no JSON with env_kwargs, and says nothing of frames per second", file.path)
        return None
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < float("inf"):
        raise ValueError(f"env_args of {file.path} has control_freq={found!r}, expected a number above 0: correct it")
    return float(found)


def mask(file: Hdf5File, name: str) -> list[str] | None:
    """The demonstrations that a filter key lists; `None` where there is none of that name.

    Raises:
        ValueError: one line where it is no list of names.
    """
    masks = file.group(MASKS)
    kind = None if masks is None else file.layout(masks).get(name)
    if kind is None:
        return None
    if len(kind.shape) != 1 or kind.dtype.kind not in "SO":
        raise ValueError(f"{MASKS}/{name} of {file.path} is {kind}, expected a list of names such as demo_0: repair it")
    found = file.read(f"{MASKS}/{name}", 0, kind.shape[0])
    return [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in found]
