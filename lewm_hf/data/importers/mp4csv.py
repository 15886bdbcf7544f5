"""A folder with one MP4 per episode, and the numbers of its rows in CSV files.

Either `NAME.csv` stands beside each `NAME.mp4`, or one CSV file holds all rows, with a column `episode` (or as mapped)
that has the videos' names. Row t has the numbers of frame t; the action of an episode's last row may be empty. A column
of the mapping is one column of the CSV file, or the group `NAME_0`, `NAME_1`, ...
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .mapping import ColumnMapping
from .source import Source, agreed_fps, require_columns, sha256
from .video import video_facts, video_frames

VIDEO = "video"
EPISODE = "episode"
DEFAULTS = {
    "image": [(VIDEO,)],
    "action": [("action",)],
    "observation": [("observation",), ("state",)],
    "state": [("state",)],
    "goal": [("goal",)],
    "success": [("success",)],
}


class Mp4CsvSource(Source):
    """See the module.

    Args:
        path: the folder.
        mapping: columns that are not called action, observation, state, goal or success.
        env: short name of the environment; without one there is no simulator state.

    Raises:
        FileNotFoundError, ValueError: one line where files are missing, damaged, or contradict each other.
        ImportError: where `av` is missing, naming the extra.
    """

    packages = ("av",)

    def __init__(self, path: Path, mapping: ColumnMapping, env: str | None):
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {path}: give a folder of MP4 and CSV files")
        self.path = path
        self._videos = sorted(path.glob("*.mp4"))
        if not self._videos:
            raise FileNotFoundError(f"{path} has no *.mp4: give a folder with one video per episode")
        tables, header = self._tables(mapping.episode or EPISODE)
        self._groups = _groups(header)
        defaults = (
            DEFAULTS if env else {role: names for role, names in DEFAULTS.items() if role not in ("state", "goal")}
        )
        self.mapping = mapping.with_defaults([VIDEO, *self._groups], defaults)
        require_columns(path, self.mapping, [VIDEO, *self._groups])
        wanted = [name for names in self.mapping.vectors.values() for name in names]
        self._values = {
            name: [_numbers(table, header, self._groups[name]) for table in tables] for name in dict.fromkeys(wanted)
        }
        self.lengths = np.array([len(table.rows) for table in tables])
        self.fps = mapping.fps
        for video, length in zip(self._videos, self.lengths, strict=True):
            facts = video_facts(video)
            if facts.frames not in (None, length):
                raise ValueError(
                    f"{video} has {facts.frames} frames, but its CSV file {length} rows: write one row per frame"
                )
            self.fps = agreed_fps(video, facts.fps, mapping) if self.fps is None else self.fps
            agreed_fps(video, facts.fps, ColumnMapping(fps=self.fps))
        csvs = sorted({table.path for table in tables})
        self.metadata = {
            "source_bytes": sum(file.stat().st_size for file in [*self._videos, *csvs]),
            "sha256": {"CSV files": sha256(*(file.read_bytes() for file in csvs))},
        }

    def column(self, name: str, episode: int) -> np.ndarray:
        return self._values[name][episode]

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        return video_frames(self._videos[episode], int(self.lengths[episode]), self.fps)

    def close(self) -> None:
        """Nothing stays open."""

    def _tables(self, episode_column: str) -> tuple[list["_Table"], list[str]]:
        """Rows of each episode, and the common header."""
        beside = [video.with_suffix(".csv") for video in self._videos]
        found = sorted(self.path.glob("*.csv"))
        if not any(file.is_file() for file in beside) and len(found) == 1:
            return self._split(_read(found[0]), episode_column)
        for video, file in zip(self._videos, beside, strict=True):
            if not file.is_file():
                raise FileNotFoundError(f"{video} has no {file.name} beside it: write the numbers of its rows there")
        lonely = set(found) - set(beside)
        if lonely:
            raise FileNotFoundError(f"{min(lonely)} has no video: add it, or take the file away")
        tables = [_read(file) for file in beside]
        for table in tables:
            if table.header != tables[0].header:
                raise ValueError(
                    f"{table.path} has the columns {', '.join(table.header)}, but {tables[0].path.name} has "
                    f"{', '.join(tables[0].header)}: import them separately"
                )
        return tables, tables[0].header

    def _split(self, table: "_Table", episode_column: str) -> tuple[list["_Table"], list[str]]:
        if episode_column not in table.header:
            raise ValueError(
                f"{table.path} has no column {episode_column!r} that names each row's video: its columns are "
                f"{', '.join(table.header)}; name it with `episode` in the mapping"
            )
        at = table.header.index(episode_column)
        rows: dict[str, list] = {video.stem: [] for video in self._videos}
        for line, cells in table.rows:
            stem = cells[at].removesuffix(".mp4")
            if stem not in rows:
                raise ValueError(f"{table.path}, line {line}: there is no {stem}.mp4; add the video or drop the rows")
            rows[stem].append((line, cells))
        empty = next((stem for stem, found in rows.items() if not found), None)
        if empty is not None:
            raise ValueError(f"{table.path} has no rows for {empty}.mp4: add them, or take the video away")
        return [_Table(table.path, table.header, found) for found in rows.values()], table.header


class _Table:
    """Rows of a CSV file: (line number, cells)."""

    def __init__(self, path: Path, header: list[str], rows: list[tuple[int, list[str]]]):
        self.path, self.header, self.rows = path, header, rows


def _read(path: Path) -> _Table:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, cells) for cells in reader if cells]
    if not rows:
        raise ValueError(f"{path} has no rows: write a header and one row per frame")
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {line}: {len(cells)} values, expected {len(header)}; repair the line")
    return _Table(path, header, rows)


def _groups(header: Sequence[str]) -> dict[str, list[str]]:
    """Columns by their name, and `NAME` for the group NAME_0, NAME_1, ..."""
    groups: dict[str, list[str]] = {name: [name] for name in header}
    numbered: dict[str, list[tuple[int, str]]] = {}
    for name in header:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        if match:
            numbered.setdefault(match[1], []).append((int(match[2]), name))
    for name, members in numbered.items():
        groups.setdefault(name, [member for _, member in sorted(members)])
    return groups


def _numbers(table: _Table, header: list[str], names: list[str]) -> np.ndarray:
    places = [header.index(name) for name in names]
    values = np.empty((len(table.rows), len(names)))
    for row, (line, cells) in enumerate(table.rows):
        for column, place in enumerate(places):
            cell = cells[place].strip()
            try:
                values[row, column] = float(cell) if cell else np.nan
            except ValueError:
                if cell.lower() not in ("true", "false"):
                    raise ValueError(
                        f"{table.path}, line {line}: {names[column]}={cell!r} is no number; repair the line"
                    ) from None
                values[row, column] = cell.lower() == "true"
    return values
