"""Data sets in LeRobot's layout, versions 2.0, 2.1 and 3.0, read without that library.

Version 2 has one Parquet file and one video per episode, listed in `meta/episodes.jsonl`; version 3 packs many episodes
into each, and `meta/episodes/*/*.parquet` tells where they are. `meta/info.json` has counts, frames per second, path
patterns and features. Frames are images in the Parquet files or videos, which need `av`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..encoding import decode
from ..parquet import read_columns, read_metadata, vectors
from .mapping import ColumnMapping
from .source import Source, agreed_fps, check_total, require_columns, sha256

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
NUMBERS = ("float", "double", "int", "uint", "bool")
DEFAULTS = {
    "action": [("action",)],
    "observation": [("observation.state",)],
    "success": [("next.success",)],
}


class LeRobotSource(Source):
    """See the module.

    Args:
        path: the data set's directory.
        mapping: columns; the image need not be mapped where there is one camera.
        env: short name of the environment; its state is only known where the mapping tells.

    Raises:
        FileNotFoundError, ValueError: one line where files are missing, damaged, or contradict the metadata.
        ImportError: for a data set of videos where `av` is missing, naming the extra.
    """

    packages = ("pyarrow", "av")

    def __init__(self, path: Path, mapping: ColumnMapping, env: str | None):
        if not path.is_dir():
            raise FileNotFoundError(f"there is no directory {path}: give the directory of a LeRobot data set")
        self.path, self._tables, self._images = path, {}, {}
        self._info = self._read_info()
        features = self._info["features"]
        cameras = [name for name, feature in features.items() if feature.get("dtype") in ("image", "video")]
        if len(cameras) != 1 and mapping.image is None:
            raise ValueError(
                f"{path} has {len(cameras)} cameras ({', '.join(cameras)}): choose one with `image` in the mapping"
            )
        self.mapping = mapping.with_defaults(features, {"image": [tuple(cameras)], **DEFAULTS})
        require_columns(path, self.mapping, features)
        if self.mapping.image not in cameras:
            raise ValueError(f"{self.mapping.image!r} of {path} is no camera: there are {', '.join(cameras)}")
        self._is_video = features[self.mapping.image]["dtype"] == "video"
        if self._is_video:
            from . import video  # noqa: F401  an ImportError now, not after an hour

        self.fps = agreed_fps(path, self._info["fps"], mapping)
        self._episodes, digests = self._read_episodes()
        self.lengths = np.array([episode["length"] for episode in self._episodes], dtype=np.int64)
        check_total(path, "total_episodes", self._info["total_episodes"], len(self.lengths))
        check_total(path, "total_frames", self._info["total_frames"], int(self.lengths.sum()))
        self._locate()
        self.metadata = {
            "source_version": self._info["codebase_version"],
            "sha256": {INFO: sha256((path / INFO).read_bytes()), **digests},
        }

    def column(self, name: str, episode: int) -> np.ndarray:
        file, start = self._places[episode]
        values = self._table(file)[name]
        return values[start : start + self.lengths[episode]]

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        return self._video_frames(episode) if self._is_video else self._image_frames(episode)

    def close(self) -> None:
        self._tables, self._images = {}, {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}, "_images": {}}

    def _read_info(self) -> dict[str, Any]:
        file = self.path / INFO
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}: give the directory of a LeRobot data set")
        try:
            info = json.loads(file.read_text(encoding="utf-8"))
            for name in ("codebase_version", "fps", "features", "total_episodes", "total_frames", "data_path"):
                info[name]
        except json.JSONDecodeError as error:
            raise ValueError(f"{file} is no JSON ({error}): download it again") from None
        except (KeyError, TypeError):
            raise ValueError(f"{file} has no {name!r}: it is no description of a LeRobot data set") from None
        if info["codebase_version"] not in VERSIONS:
            raise ValueError(
                f"{self.path} has version {info['codebase_version']!r}, expected one of {', '.join(VERSIONS)}: convert "
                "it with LeRobot"
            )
        return info

    @property
    def _packed(self) -> bool:
        return self._info["codebase_version"] == "v3.0"

    def _read_episodes(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Metadata of each episode in order, and digests of the files it comes from."""
        if self._packed:
            files = sorted((self.path / "meta" / "episodes").glob("*/*.parquet"))
            tables = [pq.read_table(file) for file in files if read_metadata(file)]
            rows = [
                row
                for table in tables
                for row in table.select([n for n in table.column_names if not n.startswith("stats/")]).to_pylist()
            ]
        else:
            files = [self.path / "meta" / "episodes.jsonl"]
            if not files[0].is_file():
                raise FileNotFoundError(f"there is no {files[0]}: the data set is incomplete; download it again")
            try:
                rows = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines() if line.strip()]
            except json.JSONDecodeError as error:
                raise ValueError(f"{files[0]} is damaged ({error}): download it again") from None
        if not rows:
            raise ValueError(f"{self.path} has no episodes in its metadata: download it again")
        needed = ["episode_index", "length"]
        if self._packed:
            needed += ["data/chunk_index", "data/file_index"]
            if self._is_video:
                places = ("chunk_index", "file_index", "from_timestamp")
                needed += [f"videos/{self.mapping.image}/{place}" for place in places]
        for row in rows:
            missing = next((name for name in needed if row.get(name) is None), None)
            if missing:
                raise ValueError(f"an episode of {self.path} lacks {missing!r} in its metadata: download it again")
        rows.sort(key=lambda row: row["episode_index"])
        if [row["episode_index"] for row in rows] != list(range(len(rows))):
            raise ValueError(f"the episodes of {self.path} are not numbered 0 to {len(rows) - 1}: download it again")
        return rows, {file.relative_to(self.path).as_posix(): sha256(file.read_bytes()) for file in files}

    def _locate(self) -> None:
        """Where each episode's rows are: (file, first row in it). Checks every file's rows without reading them."""
        self._places: list[tuple[Path, int]] = []
        self._inside: dict[Path, list[tuple[int, int]]] = {}
        rows: dict[Path, int] = {}
        for number, episode in enumerate(self._episodes):
            if self._packed:
                where = {"chunk_index": episode["data/chunk_index"], "file_index": episode["data/file_index"]}
            else:
                where = {"episode_chunk": number // self._info.get("chunks_size", 1000), "episode_index": number}
            file = self.path / self._info["data_path"].format(**where)
            self._places.append((file, rows.get(file, 0)))
            rows[file] = rows.get(file, 0) + episode["length"]
            self._inside.setdefault(file, []).append((number, self._places[-1][1]))
        for file, count in rows.items():
            if not file.is_file():
                raise FileNotFoundError(f"there is no {file}: the data set is incomplete; download it again")
            check_total(file, "rows of its episodes", count, read_metadata(file).num_rows)
        if self._is_video:
            for number in range(len(self._episodes)):
                if not self._video(number)[0].is_file():
                    raise FileNotFoundError(f"there is no {self._video(number)[0]}: download the data set again")

    def _table(self, file: Path) -> dict[str, np.ndarray]:
        """All mapped numbers of a file, `(rows, n)` each; keeps the last file's."""
        if file not in self._tables:
            names = dict.fromkeys(name for names in self.mapping.vectors.values() for name in names)
            try:
                table = read_columns([file], [*names, "episode_index", "frame_index"])
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}): download it again") from None
            features = self._info["features"]
            found = {name: _matrix(file, name, table.column(name), features[name]) for name in names}
            self._check_order(file, table)
            self._tables = {file: found}
        return self._tables[file]

    def _check_order(self, file: Path, table: pa.Table) -> None:
        episode, frame = table.column("episode_index").to_numpy(), table.column("frame_index").to_numpy()
        for number, start in self._inside[file]:
            rows = slice(start, start + self.lengths[number])
            if (episode[rows] != number).any() or (frame[rows] != np.arange(self.lengths[number])).any():
                raise ValueError(f"episode {number} is not at row {start} of {file}, in order: download it again")

    def _image_frames(self, episode: int) -> Iterator[np.ndarray]:
        file, start = self._places[episode]
        stop = start + self.lengths[episode]
        with pq.ParquetFile(file) as source:
            first = 0
            for group in range(source.num_row_groups):
                rows = source.metadata.row_group(group).num_rows
                if first < stop and start < first + rows:
                    column = self._group(source, file, group)
                    for row in range(max(start - first, 0), min(stop - first, rows)):
                        yield self._image(file, column[row].as_py())
                first += rows

    def _group(self, source: pq.ParquetFile, file: Path, group: int) -> pa.ChunkedArray:
        """The images of a row group; keeps the last, because episodes share them."""
        if (file, group) not in self._images:
            try:
                column = source.read_row_group(group, columns=[self.mapping.image]).column(0)
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}): download it again") from None
            self._images = {(file, group): column}
        return self._images[file, group]

    def _image(self, file: Path, stored: dict[str, Any] | None) -> np.ndarray:
        data = (stored or {}).get("bytes")
        if data is None:
            beside = self.path / str((stored or {}).get("path"))
            if not beside.is_file():
                raise ValueError(f"{file} has a frame without bytes, and there is no {beside}: download it again")
            data = beside.read_bytes()
        return decode(data)

    def _video(self, episode: int) -> tuple[Path, int | None]:
        """The episode's video and its first frame there; `None` where it has a video of its own."""
        key, row = self.mapping.image, self._episodes[episode]
        if not self._packed:
            chunk = episode // self._info.get("chunks_size", 1000)
            where = {"episode_chunk": chunk, "video_key": key, "episode_index": episode}
            return self.path / self._info["video_path"].format(**where), None
        where = {"chunk_index": row[f"videos/{key}/chunk_index"], "file_index": row[f"videos/{key}/file_index"]}
        first = round(row[f"videos/{key}/from_timestamp"] * self.fps)
        return self.path / self._info["video_path"].format(video_key=key, **where), first

    def _video_frames(self, episode: int) -> Iterator[np.ndarray]:
        from .video import video_frames

        path, first = self._video(episode)
        return video_frames(path, int(self.lengths[episode]), self.fps, first)


def _matrix(file: Path, name: str, column: pa.ChunkedArray, feature: dict[str, Any]) -> np.ndarray:
    kind = column.type
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not str(kind.value_type if nested else kind).startswith(NUMBERS):
        raise ValueError(f"column {name!r} of {file} is {kind}, expected numbers: map another column")
    try:
        values = vectors(column) if nested else column.to_numpy().reshape(-1, 1)
    except ValueError as error:
        raise ValueError(f"column {name!r} of {file} has vectors of different sizes: {error}; repair it") from None
    stated = feature.get("shape")
    if stated is not None and int(np.prod(stated)) != values.shape[1]:
        raise ValueError(
            f"column {name!r} of {file} has {values.shape[1]} values, {INFO} says shape {list(stated)}: the "
            "files are of different data sets; download it again"
        )
    return values
