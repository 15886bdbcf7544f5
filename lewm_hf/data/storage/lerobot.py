"""What makes a folder of episodes a LeRobot v3 data set: `meta/`, which declares every column and says where each
episode is.

`meta/info.json` has counts, frames per second and types; `meta/episodes/` the rows and the file of each episode;
`meta/tasks.parquet` in words what they are for; `meta/stats.json` how numbers and pixels are spread. The files of
episodes themselves are this package's own, see `schema` and `layout`: lerobot opens the very folder.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...files import replacing
from ..schema import IMAGE
from .encoding import decode
from .layout import DATA_PATH, FILES, FILES_OF_A_CHUNK, place, split_files
from .parquet import matrix, read_columns, read_metadata

logger = logging.getLogger(__name__)

VERSION = "v3.0"
# Which the Hub's pages know it by.
TAG = "LeRobot"
INFO_FILE = "meta/info.json"
EPISODES_FILE = "meta/episodes/chunk-000/file-000.parquet"
TASKS_FILE = "meta/tasks.parquet"
STATS_FILE = "meta/stats.json"
SAMPLED_FRAMES = 100
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def is_lerobot(folder: Path) -> bool:
    """Whether a folder says that it is a LeRobot data set, of whatever version."""
    return (folder / INFO_FILE).is_file()


def default_task(description: Mapping[str, Any]) -> str:
    """What episodes are for, in words: as those who collected them said it, else by the name of the environment."""
    said = description.get("collector", {}).get("task_sentence")
    return said or f"reach the goal ({description.get('env') or 'recorded'})"


def whole_fps(description: Mapping[str, Any], name: str | Path) -> int:
    """Frames per second, which LeRobot wants to be a whole number.

    Raises:
        ValueError: one line where it is none.
    """
    fps = description["fps"]
    if fps != round(fps) or fps < 1:
        raise ValueError(f"{name} has {fps:g} frames per second, but LeRobot knows whole numbers only")
    return round(fps)


def obstacle(description: Mapping[str, Any]) -> str | None:
    """Why lerobot cannot open a data set of which `episodes.json` says this; `None` where it can."""
    if FILES not in description:
        return "its files are laid out as earlier versions did"
    try:
        whole_fps(description, "it")
    except ValueError as error:
        return str(error)
    numbers = sorted(number for part in description["splits"].values() for number in part["episodes"])
    if numbers != list(range(len(numbers))):
        return "its episodes are not numbered from 0 without gaps, because some were left out"
    return None


def finished_metadata(directory: Path, description: Mapping[str, Any]) -> bool:
    """Writes `meta/` where lerobot can open the data set, and says in the log why not otherwise; whether it can."""
    reason = obstacle(description)
    if reason is not None:
        logger.info("%s is not a LeRobot data set: %s", directory, reason)
        return False
    write_metadata(directory, description, split_files(directory, description))
    return True


def write_metadata(
    directory: Path, description: Mapping[str, Any], paths: Mapping[str, Sequence[Path]], task: str | None = None
) -> None:
    """Writes `meta/` beside complete episode files, whose rows are numbered; `meta/info.json` last.

    Args:
        directory: of the data set.
        description: `fps`, and perhaps `env` and `collector`.
        paths: episode files by split, in order.
        task: what the episodes are for, in words. Default: see `default_task`.

    Raises:
        ValueError: one line for frames per second that are no whole number.
        OSError: where the disk is full.
    """
    fps, task = whole_fps(description, directory), task or default_task(description)
    files = [path for members in paths.values() for path in members]
    episodes = _episodes(directory, files, task)
    rows = sum(episode["length"] for episode in episodes)
    schema = read_metadata(files[0]).schema.to_arrow_schema()
    frames = _sampled(files, rows)
    stats = {name: _statistics(matrix(read_columns(files, [name]).column(0))) for name in schema.names if name != IMAGE}
    stats[IMAGE] = _image_statistics(frames)
    info = {
        "codebase_version": VERSION,
        "robot_type": description.get("env"),
        "total_episodes": len(episodes),
        "total_frames": rows,
        "total_tasks": 1,
        "chunks_size": FILES_OF_A_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": _splits(paths, len(episodes)),
        "data_path": DATA_PATH,
        "video_path": None,
        "features": {field.name: _declared(field, frames[0].shape) for field in schema},
    }
    tasks = pd.DataFrame({"task_index": [0]}, index=pd.Index([task], name="task", dtype=object))
    with replacing(directory / EPISODES_FILE) as temporary:
        pq.write_table(pa.Table.from_pylist(sorted(episodes, key=lambda one: one["episode_index"])), temporary)
    with replacing(directory / TASKS_FILE) as temporary:
        tasks.to_parquet(temporary)
    for name, content in ((STATS_FILE, stats), (INFO_FILE, info)):
        with replacing(directory / name) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_metadata(directory: Path, description: Mapping[str, Any]) -> None:
    """Whether `meta/` speaks of the episodes that `episodes.json` does.

    Raises:
        ValueError: one line where it does not.
    """
    try:
        info = json.loads((directory / INFO_FILE).read_text(encoding="utf-8"))
        found = info["codebase_version"], info["total_episodes"], info["total_frames"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{directory / INFO_FILE} is damaged ({error!r}): delete the folder meta and run the command that collects "
            "again"
        ) from error
    lengths = [length for part in description["splits"].values() for length in part["lengths"]]
    expected = VERSION, len(lengths), sum(lengths)
    missing = [name for name in (EPISODES_FILE, TASKS_FILE, STATS_FILE) if not (directory / name).is_file()]
    if found != expected or missing:
        said = f"lacks {missing[0]}" if missing else f"says {found} in {INFO_FILE}, the episodes are {expected}"
        raise ValueError(
            f"{directory} {said} (version, episodes, frames): restore the folder meta, or collect into a new directory"
        )


def _episodes(directory: Path, files: Sequence[Path], task: str) -> list[dict[str, Any]]:
    """Where each episode is, in the order of the rows."""
    found, row = [], 0
    for path in files:
        chunk, number = place(path.relative_to(directory).as_posix())
        index = read_columns([path], ["episode_index"]).column(0).to_numpy()
        starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(index)], strict=True):
            found.append({
                "episode_index": int(index[start]), "tasks": [task], "length": stop - start,
                "dataset_from_index": row + start, "dataset_to_index": row + stop,
                "data/chunk_index": chunk, "data/file_index": number,
                "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
            })  # fmt: skip
        row += len(index)
    return found


def _splits(paths: Mapping[str, Sequence[Path]], episodes: int) -> dict[str, str]:
    """Episodes of each split as LeRobot tells them, as a stretch of numbers; drawn ones are none, and all are one."""
    found, begin = {}, 0
    for split, members in paths.items():
        numbers = np.unique(read_columns(members, ["episode_index"]).column(0).to_numpy())
        if numbers[0] != begin or numbers[-1] != begin + len(numbers) - 1:
            return {"train": f"0:{episodes}"}
        found[split] = f"{begin}:{begin + len(numbers)}"
        begin += len(numbers)
    return found


def _sampled(files: Sequence[Path], rows: int) -> list[np.ndarray]:
    """Frames evenly spread over all rows."""
    wanted = np.linspace(0, rows - 1, min(SAMPLED_FRAMES, rows)).astype(int)
    frames, first = [], 0
    for path in files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                here = wanted[(wanted >= first) & (wanted < first + count)] - first
                if len(here):
                    column = file.read_row_group(group, columns=[IMAGE]).column(0)
                    frames += [decode(column[row].as_py()["bytes"]) for row in here.tolist()]
                first += count
    return frames


def _declared(field: pa.Field, frame: tuple[int, ...]) -> dict[str, Any]:
    kind = field.type
    if field.name == IMAGE:
        return {"dtype": "image", "shape": list(frame), "names": ["height", "width", "channels"]}
    size = 1
    if pa.types.is_fixed_size_list(kind):
        kind, size = kind.value_type, kind.list_size
    return {"dtype": _dtype(kind), "shape": [size], "names": None}


def _dtype(kind: pa.DataType) -> str:
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def _statistics(values: np.ndarray) -> dict[str, list]:
    """Of the rows `(n, dims)` without missing numbers: an episode's last action is none."""
    values = values.astype(np.float64)
    known = values[np.isfinite(values).all(1)]
    if not len(known):
        return {"count": [0]}
    return {
        "min": known.min(0).tolist(), "max": known.max(0).tolist(), "mean": known.mean(0).tolist(),
        "std": known.std(0).tolist(), "count": [len(known)],
        **{name: np.quantile(known, share, 0).tolist() for name, share in QUANTILES.items()},
    }  # fmt: skip


def _image_statistics(frames: Sequence[np.ndarray]) -> dict[str, list]:
    """Per channel, in units of [0, 1], of sampled frames; shaped (3, 1, 1)."""
    found = _statistics(np.concatenate([frame.reshape(-1, 3) for frame in frames]) / 255)
    return {name: [[[value]] for value in values] for name, values in found.items()} | {"count": [len(frames)]}
