"""Any table that `datasets` loads, with a column of pictures, one of actions and one that tells episodes apart.

A Parquet file, or a folder of Parquet, Arrow, CSV or JSON Lines files, or of pictures with a `metadata.csv`. Rows of an
episode need not stand together; they are in the order of a frame index where there is one, else as they come. `episode`
in the mapping names the episode column (`episode_index` by default), which may hold numbers or names. A split `test` is
held out; the same number in two splits means two episodes.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.exceptions import DatasetGenerationError

from ...tasks.task import Task
from ..storage.arrow_copies import load_files, load_folder
from ..storage.encoding import decode
from ..storage.parquet import vectors
from .mapping import EVERYTHING, ColumnMapping, Defaults
from .names import visible
from .source import Source, camera_named, require_columns, sha256

EPISODE = "episode_index"
FRAME_COLUMNS = ("frame_index", "frame", "step_idx", "step", "timestep")
TIMESTAMP = "timestamp"
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# Of a timestamp that is meant in seconds; milliseconds of a camera that is not slower than this are refused.
LONGEST_STEP = 10.0
DEFAULTS: Defaults = {
    "image": [("observation.image",), ("image",)],
    "action": [("action",)],
    "observation": [("observation.state",), ("state",)],
    "success": [("next.success",)],
}


class TableSource(Source):
    """See the module.

    Args:
        path: the folder, or a Parquet file.
        mapping: columns that have other names; `fps`, where no `timestamp` column tells it.
        task: where the episodes come from; its state is only known where the mapping tells.

    Raises:
        FileNotFoundError, ValueError: one line where the folder is no table, or its columns contradict each other.
    """

    packages = ("datasets", "pyarrow")

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        if not path.exists():
            raise FileNotFoundError(f"there is no folder {path}: give the folder of a data set, or a Parquet file")
        self.path = path
        try:
            if path.is_file():
                splits, parts = ["train"], [load_files([path], "train", None)[0]]
            else:
                splits = datasets.get_dataset_split_names(str(path))
                parts = [load_folder(path, split, None)[0] for split in splits]
            self._table = datasets.concatenate_datasets(parts).with_format("arrow")
        except (DatasetGenerationError, datasets.exceptions.DatasetNotFoundError, ValueError, OSError) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(f"{path} is not a table that `datasets` loads ({reason})") from error
        names = self._table.column_names
        kinds = self._table.features
        if mapping.image is not None:
            pictures = [name for name in names if isinstance(kinds[name], datasets.Image)]
            mapping = replace(mapping, image=camera_named(mapping.camera, pictures))
        numeric = filter(self._is_regular, names) if mapping.keep == EVERYTHING else ()
        self.mapping = mapping.with_defaults(names, DEFAULTS).keeping(numeric)
        require_columns(path, self.mapping, names)
        if not isinstance(self._table.features[self.mapping.image], datasets.Image):
            raise ValueError(
                f"column {self.mapping.image!r} of {path} is {self._table.features[self.mapping.image]}, expected "
                "pictures: name another with `image` in the mapping"
            )
        part = np.repeat(np.arange(len(parts)), [len(one) for one in parts])
        self._rows = self._order(self.mapping.episode or EPISODE, part)
        if "test" in splits and len(splits) > 1:
            held_out = part[[rows[0] for rows in self._rows]] == splits.index("test")
            self.held_out = np.flatnonzero(held_out)
        self.lengths = np.array([len(rows) for rows in self._rows], dtype=np.int64)
        self.fps = mapping.fps or self._measured_fps()
        wanted = [name for names in self.mapping.vectors.values() for name in names]
        self._values = {name: self._numbers(name) for name in dict.fromkeys(wanted)}
        self.metadata = {"sha256": {"actions": sha256(*(self._values[name] for name in self.mapping.action))}}

    def column(self, name: str, episode: int) -> np.ndarray:
        return self._values[name][self._rows[episode]]

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        for row in self._rows[episode].tolist():
            stored = self._table[row].column(self.mapping.image)[0].as_py() or {}
            data = stored.get("bytes")
            if data is None:
                if not stored.get("path") or not Path(stored["path"]).is_file():
                    raise ValueError(f"row {row} of {self.path} has no picture: repair it, or skip its episode")
                data = Path(stored["path"]).read_bytes()
            try:
                yield decode(data)
            except ValueError as error:
                raise ValueError(f"row {row} of {self.path}: {error}") from error

    def files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        return visible((path for path in self.path.rglob("*") if path.is_file()), self.path)

    def close(self) -> None:
        """Nothing stays open but mapped memory."""

    def _order(self, episode_column: str, part: np.ndarray) -> list[np.ndarray]:
        """Rows of each episode, in the order of their frames; `part` `(rows,)` is the number of a row's split."""
        names = self._table.column_names
        if episode_column not in names:
            raise ValueError(
                f"{self.path} has no column {episode_column!r} that tells episodes apart: name it with `episode` in "
                f"the mapping, or episode_key of a training; there are {', '.join(names)}"
            )
        column = self._table.data.column(episode_column)
        if pa.types.is_nested(column.type):
            raise ValueError(
                f"column {episode_column!r} of {self.path} is {column.type}, expected a number or a name that tells "
                "episodes apart: name another with `episode` in the mapping, or episode_key of a training"
            )
        episodes = column.to_pandas()
        if episodes.isna().any():
            raise ValueError(f"{self.path} has rows without {episode_column}: repair or drop them")
        frame = self.mapping.frame or next((name for name in FRAME_COLUMNS if name in names), None)
        if frame is not None and frame not in names:
            raise ValueError(f"{self.path} has no column {frame!r} for the frame: there are {', '.join(names)}")
        numbers = None if frame is None else self._table.data.column(frame).to_numpy()
        found = []
        for (_, name), rows in sorted(episodes.groupby([part, episodes.to_numpy()]).indices.items()):
            if numbers is not None:
                rows = rows[np.argsort(numbers[rows], kind="stable")]
                if not np.array_equal(numbers[rows], np.arange(len(rows))):
                    raise ValueError(
                        f"episode {name} of {self.path} does not have the frames 0 to {len(rows) - 1}, each once: its "
                        f"{frame} has gaps or repeats"
                    )
            found.append(rows)
        if numbers is None:
            self._check_times(found)
        return found

    def _times(self) -> np.ndarray | None:
        """`(rows,)` in seconds where the column has a unit, else as they are; `None` where it holds no times."""
        if TIMESTAMP not in self._table.column_names:
            return None
        column = self._table.data.column(TIMESTAMP)
        if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type):
            unit = UNITS[column.type.unit]
            whole = column.cast(pa.int64())
            # From the first on: nanoseconds since 1970 have more digits than a float.
            since = pc.subtract(whole, pc.min(whole))
            return since.to_numpy().astype(np.float64) * unit
        kind = column.type
        return column.to_numpy().astype(np.float64) if _is_numeric(kind) and not _is_nested(kind) else None

    def _check_times(self, episodes: list[np.ndarray]) -> None:
        """Rows that nothing else puts in order come in that of their times."""
        times = self._times()
        if times is None:
            return
        for rows in episodes:
            back = np.flatnonzero(~(np.diff(times[rows]) > 0))
            if len(back):
                raise ValueError(
                    f"row {rows[back[0] + 1]} of {self.path} has a {TIMESTAMP} that is not later than that of the "
                    "episode's row before: sort the rows, or name a frame column"
                )

    def _measured_fps(self) -> float | None:
        times = self._times()
        if times is None:
            return None
        steps = np.concatenate([np.diff(times[rows]) for rows in self._rows])
        if not len(steps):
            return None
        step, kind = float(np.median(steps)), self._table.data.column(TIMESTAMP).type
        if not step > 0:
            raise ValueError(f"{self.path} has rows whose {TIMESTAMP} does not grow: sort them, or name a frame column")
        if pa.types.is_integer(kind) or step > LONGEST_STEP:
            raise ValueError(
                f"{TIMESTAMP} of {self.path} grows by {step:g} from a row to the next ({kind}), and nothing says of "
                "what: give fps, or seconds as floating point numbers"
            )
        return float(np.round(1 / step, 3))

    def _is_regular(self, name: str) -> bool:
        """Whether a column holds as many numbers in every row."""
        column = self._table.data.column(name)
        if not _is_numeric(column.type) or column.null_count:
            return False
        if not _is_nested(column.type):
            return True
        lengths = pc.list_value_length(column).unique().to_pylist()
        return len(lengths) == 1 and lengths[0] > 0

    def _numbers(self, name: str) -> np.ndarray:
        column = self._table.data.column(name)
        if not _is_numeric(column.type):
            raise ValueError(f"column {name!r} of {self.path} is {column.type}, expected numbers: map another column")
        try:
            return vectors(column) if _is_nested(column.type) else column.to_numpy().reshape(-1, 1)
        except ValueError as error:
            raise ValueError(f"column {name!r} of {self.path} has vectors of different sizes: {error}") from error


def _is_nested(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_numeric(kind: pa.DataType) -> bool:
    value = kind.value_type if _is_nested(kind) else kind
    return pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)
