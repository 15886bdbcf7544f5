"""A folder with one video per episode, and the numbers of its rows in CSV files.

Either `NAME.csv` stands beside each `NAME.mp4` (or .mov, .mkv, .avi, .webm), or one CSV file holds all rows, with a
column `episode` (or as mapped) that has the videos' names. A row belongs to the frame that its `frame_index` says
(`frame` in the mapping); without such a column row t has the numbers of frame t. The action of an episode's last row
may be empty. A column of the mapping is one column of the CSV file, or the group `NAME_0`, `NAME_1`, ... Episodes are
numbered in natural order of the videos' names: `walk_2` before `walk_10`.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...tasks.task import Task
from .csv_table import Table, column_names, quantities, read_table
from .mapping import ColumnMapping, Defaults
from .names import VIDEOS, visible
from .source import Source, agreed_fps, require_columns, sha256
from .video import video_facts, video_frames

VIDEO = "video"
EPISODE = "episode"
FRAME_COLUMNS = ("frame_index", "frame_idx", "frame", "step_idx", "step", "timestep")
TIME_COLUMNS = ("timestamp", "time")
# Phones count seconds, not frames: the rate of one video is not quite that of the next.
FPS_TOLERANCE = 0.02
DEFAULTS: Defaults = {
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
        task: the episodes' task; without one there is no simulator state.

    Raises:
        FileNotFoundError, ValueError: one line where files are missing, damaged, or contradict each other.
        ImportError: where `av` is missing, naming the extra.
    """

    packages = ("av",)
    survives_fork = False

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {path}: give a folder of videos and CSV files")
        self.path = path
        found = visible(path.iterdir(), path)
        self._videos = [file for file in found if file.suffix.lower() in VIDEOS and file.is_file()]
        if not self._videos:
            raise FileNotFoundError(f"{path} has no *.mp4: give a folder with one video per episode")
        name, times = Counter(video.stem for video in self._videos).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{path} has {times} videos called {name!r}: give each a name of its own")
        tables = self._tables([file for file in found if file.suffix.lower() == ".csv"], mapping.episode or EPISODE)
        tables = [_in_order(table, mapping.frame) for table in tables]
        header = tables[0].header
        names = [VIDEO, *column_names(header)]
        defaults = (
            DEFAULTS if task else {role: names for role, names in DEFAULTS.items() if role not in ("state", "goal")}
        )
        numeric = [name for name in quantities(header) if _is_numeric(name, tables)] if mapping.keep else ()
        self.mapping = mapping.with_defaults(names, defaults).keeping(numeric)
        require_columns(path, self.mapping, names)
        wanted = dict.fromkeys(name for names in self.mapping.vectors.values() for name in names)
        self._values = {name: [table.numbers(table.members(name)) for table in tables] for name in wanted}
        self.lengths = np.array([len(table.rows) for table in tables])
        self.fps = mapping.fps
        for video, length in zip(self._videos, self.lengths, strict=True):
            facts = video_facts(video)
            if facts.frames not in (None, length):
                raise ValueError(
                    f"{video} has {facts.frames} frames, but its CSV file {length} rows: write one row per frame"
                )
            self.fps = agreed_fps(video, facts.fps, mapping, FPS_TOLERANCE) if self.fps is None else self.fps
            agreed_fps(video, facts.fps, ColumnMapping(fps=self.fps), FPS_TOLERANCE)
        self._csvs = list(dict.fromkeys(table.path for table in tables))
        self.metadata = {
            "source_bytes": sum(file.stat().st_size for file in self.files()),
            "sha256": {"CSV files": sha256(*(file.read_bytes() for file in self._csvs))},
        }

    def column(self, name: str, episode: int) -> np.ndarray:
        return self._values[name][episode]

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        return video_frames(self._videos[episode], int(self.lengths[episode]), self.fps)

    def files(self) -> list[Path]:
        return [*self._videos, *self._csvs]

    def close(self) -> None:
        """Nothing stays open."""

    def _tables(self, found: list[Path], episode_column: str) -> list[Table]:
        """The rows of each video."""
        names = {file.stem: file for file in found}
        stems = [video.stem for video in self._videos]
        if len(found) == 1 and not names.keys() & set(stems):
            return self._split(read_table(found[0]), episode_column)
        for video in self._videos:
            if video.stem not in names:
                raise FileNotFoundError(
                    f"{video} has no {video.stem}.csv beside it: write the numbers of its rows there"
                )
        lonely = [file for file in found if file.stem not in stems or names[file.stem] != file]
        if lonely:
            raise FileNotFoundError(f"{lonely[0]} has no video: add it, or take the file away")
        tables = [read_table(names[stem]) for stem in stems]
        for table in tables:
            if table.header != tables[0].header:
                raise ValueError(
                    f"{table.path} has the columns {', '.join(table.header)}, but {tables[0].path.name} has "
                    f"{', '.join(tables[0].header)}: import them separately"
                )
        return tables

    def _split(self, table: Table, episode_column: str) -> list[Table]:
        if episode_column not in table.header:
            raise ValueError(
                f"{table.path} has no column {episode_column!r} that names each row's video: its columns are "
                f"{', '.join(table.header)}; name it with `episode` in the mapping"
            )
        at = table.header.index(episode_column)
        rows: dict[str, list] = {video.stem: [] for video in self._videos}
        called = {name: video.stem for video in self._videos for name in (video.stem, video.name)}
        for line, cells in table.rows:
            name = cells[at].strip()
            if name not in called:
                raise ValueError(f"{table.path}, line {line}: there is no video {name!r}; add it or drop the rows")
            rows[called[name]].append((line, cells))
        empty = next((stem for stem, found in rows.items() if not found), None)
        if empty is not None:
            raise ValueError(f"{table.path} has no rows for the video {empty!r}: add them, or take the video away")
        return [table.with_rows(found) for found in rows.values()]


def _is_numeric(name: str, tables: list[Table]) -> bool:
    """Whether every cell of a column, or of a numbered group, is a number or empty."""
    try:
        return all(len(table.numbers(table.members(name))) for table in tables)
    except ValueError:
        return False


def _in_order(table: Table, frame_column: str | None) -> Table:
    """The rows of one episode in the order of their frames, where a column tells it.

    Raises:
        ValueError: one line where frames are missing, there twice, or contradict the rows' times.
    """
    if frame_column is not None and frame_column not in table.header:
        raise ValueError(f"{table.path} has no column {frame_column!r} for the frame: {', '.join(table.header)}")
    usual = [name for name in (*FRAME_COLUMNS, *TIME_COLUMNS) if name in table.header and table.holds_numbers(name)]
    column = frame_column or next((name for name in usual if name in FRAME_COLUMNS), None)
    if column is not None:
        frames = table.numbers([column])[:, 0]
        order = np.argsort(frames, kind="stable")
        wrong = np.flatnonzero(frames[order] != np.arange(len(frames)))
        if len(wrong):
            line, _ = table.rows[order[wrong[0]]]
            raise ValueError(
                f"{table.path}, line {line}: {column}={frames[order[wrong[0]]]:g} where {wrong[0]} was expected; the "
                f"frames of an episode are 0 to {len(frames) - 1}, each once: repair the column, or omit it"
            )
        table = table.with_rows([table.rows[row] for row in order])
    for name in (name for name in usual if name in TIME_COLUMNS and name != column):
        times = table.numbers([name])[:, 0]
        back = np.flatnonzero(~(np.diff(times) > 0)) + 1
        if len(back):
            line, _ = table.rows[back[0]]
            raise ValueError(
                f"{table.path}, line {line}: {name}={times[back[0]]:g} after {times[back[0] - 1]:g}; rows must be in "
                f"the order of time: sort them, or rename the column"
            )
    return table
