"""Data sets in LeRobot's layout, versions 2.0, 2.1 and 3.0, read without that library.

Version 2 has one Parquet file and one video per episode, listed in `meta/episodes.jsonl`; version 3 packs many episodes
into each, and `meta/episodes/*/*.parquet` tells where they are. `meta/info.json` has counts, frames per second, path
patterns and features. Frames are images in the Parquet files or videos, which need `av`. Rows are told apart by
`episode_index` and `frame_index`, in whatever order they stand. All of it may come from strangers: patterns are filled
with the known fields only, and lead to files below the data set's folder.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...tasks.task import Task
from ..storage.encoding import decode
from ..storage.parquet import is_nested, is_numeric, read_columns, read_metadata, vectors
from .lerobot_episodes import held_out_episodes, read_episodes
from .lerobot_info import INFO, read_info
from .mapping import ColumnMapping, Defaults
from .names import below, fill
from .source import Source, agreed_fps, camera_named, check_total, require_columns, sha256

NUMBERS = ("float", "double", "int", "uint", "bool")
DEFAULTS: Defaults = {
    "action": [("action",)],
    "observation": [("observation.state",)],
    "success": [("next.success",)],
}


class LeRobotSource(Source):
    """See the module.

    Args:
        path: the data set's directory.
        mapping: columns; the image need not be mapped where there is one camera.
        task: the episodes' task; its state is only known where the mapping tells.

    Raises:
        FileNotFoundError, ValueError: one line where files are missing, damaged, or contradict the metadata.
        ImportError: for a data set of videos where `av` is missing, naming the extra.
    """

    packages = ("pyarrow", "av")

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        if not path.is_dir():
            raise FileNotFoundError(f"there is no directory {path}: give the directory of a LeRobot data set")
        self.path = path
        self._tables: dict[Path, dict[str, np.ndarray]] = {}
        self._images: dict[tuple[Path, int], pa.ChunkedArray] = {}
        self._info = read_info(path)
        features = self._info["features"]
        cameras = [name for name, feature in features.items() if feature.get("dtype") in ("image", "video")]
        if not cameras:
            raise ValueError(f"{path} has no camera, but {', '.join(features)}: a world model learns from pictures")
        if len(cameras) != 1 and mapping.image is None:
            raise ValueError(
                f"{path} has {len(cameras)} cameras ({', '.join(cameras)}): choose one with `image` in the mapping, or "
                "image_key of a training; several are put side by side"
            )
        if mapping.image is not None:
            mapping = replace(mapping, image=camera_named(mapping.camera, cameras))
        mapping = mapping.with_defaults(features, {"image": [tuple(cameras)], **DEFAULTS})
        require_columns(path, mapping.keeping(()), features)
        if mapping.image not in cameras:
            raise ValueError(f"{mapping.image!r} of {path} is no camera: there are {', '.join(cameras)}")
        self.mapping = mapping
        self._is_video = features[mapping.camera]["dtype"] == "video"
        self.survives_fork = not self._is_video
        if self._is_video:
            from . import video  # noqa: F401  an ImportError now, not after an hour

        self.fps = agreed_fps(path, self._info["fps"], mapping)
        self._episodes, self._meta = read_episodes(path, self._packed, self.mapping.camera if self._is_video else None)
        self.lengths = np.array([episode["length"] for episode in self._episodes], dtype=np.int64)
        check_total(path, "total_episodes", self._info["total_episodes"], len(self.lengths))
        check_total(path, "total_frames", self._info["total_frames"], int(self.lengths.sum()))
        self._locate()
        self.mapping = mapping.keeping(self._vectors_there())
        self.held_out = held_out_episodes(self._info.get("splits"), len(self.lengths))
        self.metadata = {
            "source_version": self._info["codebase_version"],
            "sha256": {file.relative_to(path).as_posix(): sha256(file.read_bytes()) for file in self._meta},
        }

    def column(self, name: str, episode: int) -> np.ndarray:
        file, rows = self._places[episode]
        return self._table(file)[name][rows]

    def files(self) -> list[Path]:
        members = dict.fromkeys(file for file, _ in self._places.values())
        if self._is_video:
            return [*self._meta, *members, *dict.fromkeys(self._video(number)[0] for number in self._places)]
        return [*self._meta, *members, *self._pictures_beside(members)]

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        return self._video_frames(episode) if self._is_video else self._image_frames(episode)

    def close(self) -> None:
        self._tables, self._images = {}, {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}, "_images": {}}

    @property
    def _packed(self) -> bool:
        return self._info["codebase_version"] == "v3.0"

    def _locate(self) -> None:
        """Where each episode's rows are: (file, rows in it). Checks every file, without reading more than its index."""
        members: dict[Path, list[int]] = {}
        for number, episode in enumerate(self._episodes):
            if not episode["length"]:
                continue  # a recording that was broken off at once; whoever imports leaves it out
            if self._packed:
                where = {"chunk_index": episode["data/chunk_index"], "file_index": episode["data/file_index"]}
            else:
                where = {"episode_chunk": number // self._info.get("chunks_size", 1000), "episode_index": number}
            members.setdefault(self._below("data_path", where), []).append(number)
        self._places: dict[int, tuple[Path, slice | np.ndarray]] = {}
        for file, numbers in members.items():
            if not file.is_file():
                raise FileNotFoundError(f"there is no {file}: the data set is incomplete; download it again")
            check_total(file, "rows of its episodes", int(self.lengths[numbers].sum()), read_metadata(file).num_rows)
            for number, rows in zip(numbers, self._find_rows(file, numbers), strict=True):
                self._places[number] = file, rows
        if self._is_video:
            for number in self._places:
                if not self._video(number)[0].is_file():
                    raise FileNotFoundError(f"there is no {self._video(number)[0]}: download the data set again")

    def _find_rows(self, file: Path, numbers: list[int]) -> Iterator[slice | np.ndarray]:
        """The rows of these episodes in a file, in the order of `frame_index`."""
        table = read_columns([file], ["episode_index", "frame_index"])
        try:
            episode, frame = (table.column(name).to_numpy().astype(np.int64) for name in table.column_names)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} has no whole numbers as its index ({error}): download it again") from error
        order = np.lexsort((frame, episode))
        for number in numbers:
            first, last = np.searchsorted(episode[order], [number, number + 1])
            rows, length = order[first:last], self.lengths[number]
            if len(rows) != length or (frame[rows] != np.arange(length)).any():
                raise ValueError(
                    f"episode {number} in {file} does not have the frames 0 to {length - 1}, each once: its "
                    "frame_index has gaps or repeats; download it again"
                )
            contiguous = (np.diff(rows) == 1).all()
            yield slice(int(rows[0]), int(rows[0] + length)) if contiguous else rows

    def _vectors_there(self) -> list[str]:
        """Features that are a number, or a vector of them, in the files too: what can be kept without being asked."""
        files = {file for file, _ in self._places.values()}
        found = [dict(zip(one.names, one.types, strict=True)) for one in (
            read_metadata(file).schema.to_arrow_schema() for file in files
        )]  # fmt: skip
        return [
            name
            for name, feature in self._info["features"].items()
            if feature.get("dtype", "").startswith(NUMBERS)
            and len(feature.get("shape", ())) < 2
            and 0 not in feature.get("shape", ())
            and all(is_numeric(types.get(name, pa.null())) for types in found)
        ]

    def _table(self, file: Path) -> dict[str, np.ndarray]:
        """All mapped numbers of a file, `(rows, n)` each; keeps the last file's."""
        if file not in self._tables:
            names = dict.fromkeys(name for names in self.mapping.vectors.values() for name in names)
            try:
                table = read_columns([file], list(names))
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}): download it again") from error
            features = self._info["features"]
            self._tables = {file: {name: _matrix(file, name, table.column(name), features[name]) for name in names}}
        return self._tables[file]

    def _below(self, pattern: str, where: dict[str, int | str]) -> Path:
        """A path that `meta/info.json` gives a pattern of, with the fields in `where`."""
        found: Any = self._info.get(pattern)
        try:
            return below(self.path, fill(found, where))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{INFO} of {self.path} has {pattern}={found!r}, expected names and the fields {', '.join(where)} that "
                f"lead below the folder ({error}): correct it, or download it from whom you trust"
            ) from error

    def _image_frames(self, episode: int) -> Iterator[np.ndarray]:
        file, rows = self._places[episode]
        with pq.ParquetFile(file) as source:
            sizes = [source.metadata.row_group(group).num_rows for group in range(source.num_row_groups)]
            ends = np.cumsum(sizes)
            for row in np.arange(ends[-1])[rows]:
                group = int(np.searchsorted(ends, row, side="right"))
                column = self._group(source, file, group)
                yield self._image(file, column[int(row - ends[group] + sizes[group])].as_py())

    def _group(self, source: pq.ParquetFile, file: Path, group: int) -> pa.ChunkedArray:
        """The images of a row group; keeps the last, because episodes share them."""
        if (file, group) not in self._images:
            try:
                column = source.read_row_group(group, columns=[self.mapping.image]).column(0)
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}): download it again") from error
            self._images = {(file, group): column}
        return self._images[file, group]

    def _image(self, file: Path, stored: dict[str, Any] | None) -> np.ndarray:
        data, name = (stored or {}).get("bytes"), (stored or {}).get("path")
        if data is None:
            try:
                data = below(self.path, name or "").read_bytes()
            except (ValueError, OSError) as error:
                raise ValueError(f"{file} has a frame without bytes, and none beside it ({error})") from error
        try:
            return decode(data)
        except ValueError as error:
            raise ValueError(f"{file} has a frame that cannot be read: {error}") from error

    def _pictures_beside(self, files: Iterable[Path]) -> list[Path]:
        """Picture files that the Parquet files name, where they are there."""
        found = {}
        for file in files:
            try:
                paths = pq.read_table(file, columns=[f"{self.mapping.image}.path"]).column(0).chunks
            except (pa.ArrowInvalid, OSError, IndexError):  # no such field: all bytes are inside
                continue
            for name in pa.chunked_array([chunk.field("path") for chunk in paths], pa.string()).unique().to_pylist():
                with suppress(ValueError):
                    if (picture := below(self.path, name or "")).is_file():
                        found[picture] = True
        return sorted(found)

    def _video(self, episode: int) -> tuple[Path, int | None]:
        """The episode's video and its first frame there; `None` where it has a video of its own."""
        key, row = self.mapping.camera, self._episodes[episode]
        where: dict[str, int | str]
        if not self._packed:
            chunk = episode // self._info.get("chunks_size", 1000)
            where = {"episode_chunk": chunk, "video_key": key, "episode_index": episode}
            return self._below("video_path", where), None
        where = {"chunk_index": row[f"videos/{key}/chunk_index"], "file_index": row[f"videos/{key}/file_index"]}
        first = round(row[f"videos/{key}/from_timestamp"] * self.fps)
        return self._below("video_path", {"video_key": key, **where}), first

    def _video_frames(self, episode: int) -> Iterator[np.ndarray]:
        from .video import video_frames

        path, first = self._video(episode)
        return video_frames(path, int(self.lengths[episode]), self.fps, first)


def _matrix(file: Path, name: str, column: pa.ChunkedArray, feature: dict[str, Any]) -> np.ndarray:
    kind = column.type
    if not is_numeric(kind):
        raise ValueError(f"column {name!r} of {file} is {kind}, expected numbers: map another column")
    try:
        values = vectors(column) if is_nested(kind) else column.to_numpy().reshape(-1, 1)
    except ValueError as error:
        raise ValueError(f"column {name!r} of {file} has vectors of different sizes: {error}; repair it") from error
    stated = feature.get("shape")
    if stated is not None and int(np.prod(stated)) != values.shape[1]:
        raise ValueError(
            f"column {name!r} of {file} has {values.shape[1]} values, {INFO} says shape {list(stated)}: the "
            "files are of different data sets; download it again"
        )
    return values
