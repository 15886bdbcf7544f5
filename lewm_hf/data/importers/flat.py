"""Columns with the rows of all episodes, one after the other: the layout of the released data sets, in any container.

`ep_len` and `ep_offset` tell the episodes where they are there, `episode_idx` or `ep_idx` the episode of each row,
`step_idx` its place in it. `pixels` are the frames. `action[t]` leaves row t.
"""

from abc import abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...tasks.task import Task
from .mapping import ColumnMapping, Defaults
from .source import Source, agreed_fps, check_total, require_columns, sha256

EPISODE_COLUMNS = ("episode_idx", "ep_idx")
LENGTH, OFFSET = "ep_len", "ep_offset"
STEP_COLUMNS = ("step_idx", "frame_index", "frame_idx", "step", "timestep")
FRAMES_AT_ONCE = 100
# What a file calls its columns where no task says it.
DEFAULTS = {"observation": [("observation",), ("proprio",), ("state",)]}


class Layout(NamedTuple):
    """What a column is before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"

    @property
    def is_pictures(self) -> bool:
        """`(rows, height, width, 3)` uint8."""
        return len(self.shape) == 4 and self.shape[-1] == 3 and self.dtype == np.uint8

    @property
    def is_numbers(self) -> bool:
        """A number, or some, per row."""
        return self.dtype.kind in "fiub" and (len(self.shape) == 1 or (len(self.shape) == 2 and self.shape[1] > 0))


class FlatSource(Source):
    """See the module. A container says which columns there are, and reads rows of one.

    Attributes:
        pictures: what a column of frames is, in words.

    Args:
        path: file or folder.
        mapping: columns, where they are not the released ones.
        task: decides about the columns that hold its environment's state.

    Raises:
        FileNotFoundError, ValueError: one line where it is missing, damaged, or its columns contradict each other.
    """

    pictures: str

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        self.path = path
        shapes = self._shapes()
        per_row = [name for name in shapes if name not in (LENGTH, OFFSET)]
        defaults: Defaults = {"image": [("pixels",)], "action": [("action",)], **((task and task.columns) or DEFAULTS)}
        numeric = [name for name in per_row if shapes[name].is_numbers]
        self.mapping = mapping.with_defaults(per_row, defaults).keeping(numeric)
        require_columns(path, self.mapping, per_row)
        self.fps = agreed_fps(path, None, mapping)
        self._check_shapes(shapes)
        self._read_episodes(shapes)
        self.metadata = {
            "sha256": {"layout": sha256({name: repr(shape) for name, shape in shapes.items()}),
                       "episode lengths": sha256(self.lengths),
                       "actions": sha256(*(self._read(name, 0, self._rows) for name in self.mapping.action))},
        }  # fmt: skip

    @abstractmethod
    def _shapes(self) -> dict[str, Layout]:
        """The columns by name.

        Raises:
            ValueError: one line where there are none.
        """

    @abstractmethod
    def _is_pictures(self, layout: Layout) -> bool:
        """Whether a column holds frames as this container does."""

    @abstractmethod
    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` (excluded) of a column of numbers.

        Raises:
            ValueError: one line where they are damaged.
        """

    def column(self, name: str, episode: int) -> np.ndarray:
        values = self._read(name, *self._span(episode))
        return values.reshape(len(values), -1)

    def _span(self, episode: int) -> tuple[int, int]:
        """The first row of an episode, and the one after its last."""
        return int(self._offsets[episode]), int(self._offsets[episode] + self.lengths[episode])

    def _check_shapes(self, shapes: dict[str, Layout]) -> None:
        image = self.mapping.camera
        if not self._is_pictures(shapes[image]):
            raise ValueError(
                f"column {image!r} of {self.path} is {shapes[image]}, expected {self.pictures}: name the frames' "
                "column with `image` in the mapping"
            )
        self._rows = shapes[image].shape[0]
        for names in self.mapping.vectors.values():
            for name in names:
                shape, dtype = shapes[name]
                if len(shape) not in (1, 2) or shape[0] != self._rows or dtype.kind not in "fiub":
                    raise ValueError(
                        f"column {name!r} of {self.path} is {shape} {dtype}, expected numbers ({self._rows}, n), as "
                        f"many rows as {image!r} has: repair the file, or map another column"
                    )

    def _read_episodes(self, shapes: dict[str, Layout]) -> None:
        name = self.mapping.episode or next((name for name in EPISODE_COLUMNS if name in shapes), None)
        step = self.mapping.frame or next((name for name in STEP_COLUMNS if name in shapes), None)
        for known in (LENGTH, OFFSET):
            shape, dtype = shapes.get(known, ((1,), np.dtype(int)))
            if not shape or dtype.kind not in "iuf":
                raise ValueError(f"column {known!r} of {self.path} is {shape} {dtype}, expected (episodes,) numbers")
        for column in (name, step):
            if column is not None and shapes.get(column, ((),))[0] != (self._rows,):
                found = shapes[column][0] if column in shapes else "missing"
                raise ValueError(f"column {column!r} of {self.path} is {found}, expected ({self._rows},): repair it")
        index = None if name is None else self._read(name, 0, self._rows)
        if LENGTH in shapes:
            lengths = self._read(LENGTH, 0, shapes[LENGTH][0][0]).astype(np.int64).ravel()
        elif index is not None:
            starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
            lengths = np.diff(np.r_[starts, len(index)])
            check_total(self.path, f"number of distinct {name}", len(np.unique(index)), len(lengths))
        else:
            raise ValueError(
                f"{self.path} has neither {LENGTH!r} nor {' or '.join(map(repr, EPISODE_COLUMNS))}: name the column "
                "that tells episodes apart with `episode` in the mapping"
            )
        if not len(lengths) or lengths.min() < 1:
            raise ValueError(f"{self.path} has no episodes, or empty ones: {LENGTH}={lengths[:5].tolist()}; repair it")
        check_total(self.path, f"sum({LENGTH})", int(lengths.sum()), self._rows)
        self.lengths, self._offsets = lengths, np.cumsum(lengths) - lengths
        if OFFSET in shapes:
            offsets = self._read(OFFSET, 0, shapes[OFFSET][0][0]).ravel()
            if not np.array_equal(offsets, self._offsets):
                raise ValueError(
                    f"{OFFSET} of {self.path} does not follow from {LENGTH}: {offsets[:5].tolist()} instead of "
                    f"{self._offsets[:5].tolist()}, ...; the file was not finished: download or write it again"
                )
        if index is not None:
            changes = np.flatnonzero(index[1:] != index[:-1]) + 1
            if not np.array_equal(changes, self._offsets[1:]):
                raise ValueError(f"{name!r} of {self.path} contradicts its {LENGTH}: download or write it again")
        if step is not None:
            steps = self._read(step, 0, self._rows).astype(np.int64)
            expected = np.arange(self._rows) - np.repeat(self._offsets, lengths)
            wrong = np.flatnonzero(steps != expected)
            if len(wrong):
                raise ValueError(
                    f"row {wrong[0]} of {self.path} has {step}={steps[wrong[0]]}, expected {expected[wrong[0]]}: rows "
                    "are missing or out of order; sort them by episode and step, or write the file again"
                )
