"""The flat HDF5 layout of the released data sets: one data set per column, whose first axis is all rows.

`ep_len` and `ep_offset` tell the episodes, `episode_idx` or `ep_idx` the episode of each row, `step_idx` its place in
it. Frames are `pixels` (rows, H, W, 3) uint8, often Blosc-compressed. `action[t]` leaves row t.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...extras import requires_extra
from ...tasks.task import Task
from .mapping import ColumnMapping, Defaults
from .source import Source, agreed_fps, check_total, require_columns, sha256

with requires_extra("hdf5"):
    import h5py
    import hdf5plugin  # noqa: F401  registers the Blosc filter

EPISODE_COLUMNS = ("episode_idx", "ep_idx")
LENGTH, OFFSET = "ep_len", "ep_offset"
STEP_COLUMNS = ("step_idx", "frame_index", "frame_idx", "step", "timestep")
FRAMES_AT_ONCE = 100
# Chunks of 100 frames take 15 MB: two consecutive episodes often share one.
CHUNK_CACHE = 256 << 20
# What a file calls its columns where no task says it.
DEFAULTS = {"observation": [("observation",), ("proprio",), ("state",)]}


class Hdf5Source(Source):
    """See the module.

    Args:
        path: the file, unpacked.
        mapping: columns, where they are not the released ones.
        task: decides about the columns that hold its environment's state.

    Raises:
        FileNotFoundError, ValueError: one line where it is missing, damaged, or its columns contradict each other.
    """

    packages = ("h5py", "hdf5plugin")

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}: give an HDF5 file")
        if path.suffix == ".zst":
            raise ValueError(f"{path} is packed: unpack it first, with `zstd -d` or `tar --zstd -xf`")
        self.path, self._file = path, None
        shapes = self._shapes()
        per_row = [name for name in shapes if name not in (LENGTH, OFFSET)]
        defaults: Defaults = {"image": [("pixels",)], "action": [("action",)], **((task and task.columns) or DEFAULTS)}
        numeric = [name for name in per_row if shapes[name][1].kind in "fiub" and _is_rows(shapes[name][0])]
        self.mapping = mapping.with_defaults(per_row, defaults).keeping(numeric)
        require_columns(path, self.mapping, per_row)
        self.fps = agreed_fps(path, None, mapping)
        self._check_shapes(shapes)
        self._read_episodes(shapes)
        self.metadata = {
            "source_bytes": path.stat().st_size,
            "sha256": {"layout": sha256({name: repr(shape) for name, shape in shapes.items()}),
                       "episode lengths": sha256(self.lengths),
                       "actions": sha256(*(self._read(name, 0, self._rows) for name in self.mapping.action))},
        }  # fmt: skip

    def column(self, name: str, episode: int) -> np.ndarray:
        start = self._offsets[episode]
        values = self._read(name, start, start + self.lengths[episode])
        return values.reshape(len(values), -1)

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        start, stop = self._offsets[episode], self._offsets[episode] + self.lengths[episode]
        for first in range(start, stop, FRAMES_AT_ONCE):
            yield from self._read(self.mapping.camera, first, min(first + FRAMES_AT_ONCE, stop))

    def files(self) -> list[Path]:
        return [self.path]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _open(self) -> "h5py.File":
        if self._file is None:
            try:
                self._file = h5py.File(self.path, "r", rdcc_nbytes=CHUNK_CACHE)
            except OSError as error:
                raise ValueError(
                    f"{self.path} is truncated or no HDF5 file ({_line(error)}): download or unpack it again"
                ) from error
        return self._file

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        try:
            return self._open()[name][start:stop]
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"rows {start} to {stop - 1} of {name!r} in {self.path} cannot be read ({_line(error)}): the file is "
                "damaged; download or unpack it again"
            ) from error

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        file = self._open()
        shapes = {}
        for name in file:
            link = file.get(name, getlink=True)
            external = isinstance(link, h5py.ExternalLink)
            item = None if external else file.get(name)
            if item is None and not external:  # a link to what is not there
                continue
            if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
                raise ValueError(
                    f"{name!r} of {self.path} lies in another file, which need not be the one that was meant: write "
                    "everything into one file"
                )
            if isinstance(item, h5py.Dataset):
                shapes[name] = item.shape, item.dtype
        if not shapes:
            groups = ", ".join(file) or "nothing"
            raise ValueError(
                f"{self.path} has no columns at its top, but {groups}: this layout has one data set per column with "
                "the rows of all episodes, and another that tells the episodes apart; write it so, or as videos with "
                "CSV files"
            )
        return shapes

    def _check_shapes(self, shapes: dict[str, tuple[tuple[int, ...], np.dtype]]) -> None:
        image = self.mapping.camera
        shape, dtype = shapes[image]
        if len(shape) != 4 or shape[-1] != 3 or dtype != np.uint8:
            raise ValueError(
                f"column {image!r} of {self.path} is {shape} {dtype}, expected (rows, height, width, 3) uint8: name "
                "the frames' column with `image` in the mapping"
            )
        self._rows = shape[0]
        for names in self.mapping.vectors.values():
            for name in names:
                shape, dtype = shapes[name]
                if len(shape) not in (1, 2) or shape[0] != self._rows or dtype.kind not in "fiub":
                    raise ValueError(
                        f"column {name!r} of {self.path} is {shape} {dtype}, expected numbers ({self._rows}, n), as "
                        f"many rows as {image!r} has: repair the file, or map another column"
                    )

    def _read_episodes(self, shapes: dict[str, tuple[tuple[int, ...], np.dtype]]) -> None:
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


def _is_rows(shape: tuple[int, ...]) -> bool:
    """One number, or some numbers, per row."""
    return len(shape) == 1 or (len(shape) == 2 and shape[1] > 0)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
