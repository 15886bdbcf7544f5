"""Any table that `datasets` loads, with a column of pictures, one of actions and one that tells episodes apart.

A Parquet file, or a folder of Parquet, Arrow, CSV or JSON Lines files, or of pictures with a `metadata.csv`. A picture
is an `Image` of `datasets`, encoded bytes, or a path from the table's folder on. Rows of an episode need not stand
together; they are in the order of a frame index where there is one, else as they come. `episode` in the mapping names
the episode column (`episode_index` by default), which may hold numbers or names. A split `test` is held out; the same
number in two splits means two episodes.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.exceptions import DatasetGenerationError

from ...tasks.task import Task
from ..storage.arrow_copies import folder_splits, load_files, load_folder
from ..storage.encoding import decode
from ..storage.parquet import is_nested, is_numeric, vectors
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
                splits = folder_splits(path, None)
                parts = [load_folder(path, split, None)[0] for split in splits]
            self._table = datasets.concatenate_datasets(parts).with_format("arrow")
        except (DatasetGenerationError, datasets.exceptions.DatasetNotFoundError, ValueError, OSError) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(f"{path} is not a table that `datasets` loads ({reason})") from error
        names = self._table.column_names
        kinds = self._table.features
        if mapping.image is not None:
            pictures = [name for name in names if _holds_pictures(kinds[name])]
            mapping = replace(mapping, image=camera_named(mapping.camera, pictures))
        numeric = filter(self._is_regular, names) if mapping.keep == EVERYTHING else ()
        self.mapping = mapping.with_defaults(names, DEFAULTS).keeping(numeric)
        require_columns(path, self.mapping, names)
        if not _holds_pictures(kinds[self.mapping.camera]):
            raise ValueError(
                f"column {self.mapping.image!r} of {path} is {kinds[self.mapping.camera]}, expected pictures, their "
                "encoded bytes or their paths: name another with `image` in the mapping"
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
            data, name = _stored(self._table[row].column(self.mapping.image)[0].as_py())
            if data is None:
                file = self._beside(name or "")
                if not file.is_file():
                    where = f", and there is no {file}" if name else ""
                    raise ValueError(f"row {row} of {self.path} has no picture{where}: repair it, or skip its episode")
                data = file.read_bytes()
            try:
                yield decode(data)
            except ValueError as error:
                raise ValueError(f"row {row} of {self.path}: {error}") from error

    def files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path, *self._pictures_beside()]
        return visible((path for path in self.path.rglob("*") if path.is_file()), self.path)

    def close(self) -> None:
        """Nothing stays open but mapped memory."""

    @property
    def _folder(self) -> Path:
        return self.path.parent if self.path.is_file() else self.path

    def _beside(self, name: str) -> Path:
        """A picture file that a row names: from the table's folder, else from where the command is given."""
        beside = self._folder / name
        return beside if beside.is_file() else Path(name)

    def _pictures_beside(self) -> list[Path]:
        """Picture files below the table's folder that its rows name."""
        column = self._table.data.column(self.mapping.image)
        if pa.types.is_struct(column.type):
            column = pc.struct_field(column, "path") if column.type.get_field_index("path") >= 0 else None
        if column is None or not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return []
        names = column.unique().to_pylist()
        relative = (name for name in names if name and not Path(name).is_absolute() and ".." not in Path(name).parts)
        return sorted(file for file in map(self._folder.joinpath, relative) if file.is_file())

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
        numbered = [name for name in names if self._is_number(name)]
        frame = self.mapping.frame or next((name for name in FRAME_COLUMNS if name in numbered), None)
        if frame is not None and frame not in numbered:
            raise ValueError(
                f"{self.path} has no column of numbers {frame!r} for the frame: there are {', '.join(numbered)}"
            )
        numbers = None if frame is None else self._table.data.column(frame).to_numpy()
        found = []
        for (_, name), rows in sorted(episodes.groupby([part, episodes.to_numpy()]).indices.items()):
            if numbers is not None:
                rows = rows[np.argsort(numbers[rows], kind="stable")]
                if not np.array_equal(numbers[rows], np.arange(len(rows))):
                    raise ValueError(
                        f"episode {name} of {self.path} does not have the frames 0 to {len(rows) - 1}, each once: its "
                        f"{frame} has gaps or repeats; repair the column, or give it another name where it is none of "
                        "frames"
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
        return column.to_numpy().astype(np.float64) if self._is_number(TIMESTAMP) else None

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

    def _is_number(self, name: str) -> bool:
        """Whether a column holds one number in a row."""
        kind = self._table.data.column(name).type
        return is_numeric(kind) and not is_nested(kind)

    def _is_regular(self, name: str) -> bool:
        """Whether a column holds as many numbers in every row."""
        column = self._table.data.column(name)
        if not is_numeric(column.type) or column.null_count:
            return False
        if not is_nested(column.type):
            return True
        lengths = pc.list_value_length(column).unique().to_pylist()
        return len(lengths) == 1 and lengths[0] > 0

    def _numbers(self, name: str) -> np.ndarray:
        column = self._table.data.column(name)
        if not is_numeric(column.type):
            raise ValueError(f"column {name!r} of {self.path} is {column.type}, expected numbers: map another column")
        try:
            return vectors(column) if is_nested(column.type) else column.to_numpy().reshape(-1, 1)
        except ValueError as error:
            raise ValueError(f"column {name!r} of {self.path} has vectors of different sizes: {error}") from error


def _holds_pictures(kind: Any) -> bool:
    """Whether a feature may be one of pictures: as `datasets` knows them, a struct like that, encoded, or paths."""
    if isinstance(kind, dict):
        return "bytes" in kind and set(kind) <= {"bytes", "path"}
    encoded = isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary", "string", "large_string")
    return encoded or isinstance(kind, datasets.Image)


def _stored(value: Any) -> tuple[bytes | None, str | None]:
    """Bytes and path of what a row holds of a picture."""
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return (value, None) if isinstance(value, bytes) else (None, value)
