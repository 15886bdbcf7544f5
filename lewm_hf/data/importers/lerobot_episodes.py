"""What a LeRobot data set says of each episode: `meta/episodes.jsonl`, or `meta/episodes/*/*.parquet` in version 3."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ..storage.parquet import read_metadata
from .lerobot_info import INFO, LARGE
from .names import visible


def read_episodes(path: Path, packed: bool, video: str | None) -> tuple[list[dict[str, Any]], list[Path]]:
    """Metadata of each episode in order, and the files that hold it, `meta/info.json` first.

    Args:
        path: the data set's directory.
        packed: whether files hold many episodes, as version 3 has it.
        video: the camera, where it is one of videos.

    Raises:
        FileNotFoundError, ValueError: one line where metadata are missing or damaged.
    """
    if packed:
        files = visible((path / "meta" / "episodes").glob("*/*.parquet"), path)
        tables = [pq.read_table(file) for file in files if read_metadata(file)]
        rows = [
            row
            for table in tables
            for row in table.select([n for n in table.column_names if not n.startswith("stats/")]).to_pylist()
        ]
    else:
        files = [path / "meta" / "episodes.jsonl"]
        if not files[0].is_file():
            raise FileNotFoundError(f"there is no {files[0]}: the data set is incomplete; download it again")
        try:
            lines = files[0].read_text(encoding="utf-8-sig").splitlines()
            rows = [json.loads(line) for line in lines if line.strip()]
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{files[0]} is damaged ({error}): download it again") from error
    if not rows:
        raise ValueError(f"{path} has no episodes in its metadata: download it again")
    needed = ["episode_index", "length"]
    if packed:
        needed += ["data/chunk_index", "data/file_index"]
        if video is not None:
            places = ("chunk_index", "file_index", "from_timestamp")
            needed += [f"videos/{video}/{place}" for place in places]
    for row in rows:
        for name in needed:
            found = row.get(name) if isinstance(row, dict) else None
            if found is None:
                raise ValueError(f"an episode of {path} lacks {name!r} in its metadata: download it again")
            whole = type(found) is int or (name.endswith("timestamp") and isinstance(found, float))
            if not whole or not 0 <= found < LARGE:
                raise ValueError(f"an episode of {path} has {name}={found!r}: download its metadata again")
    rows.sort(key=lambda row: row["episode_index"])
    if [row["episode_index"] for row in rows] != list(range(len(rows))):
        raise ValueError(f"the episodes of {path} are not numbered 0 to {len(rows) - 1}: download it again")
    return rows, [path / INFO, *files]


def held_out_episodes(splits: Any, count: int) -> np.ndarray | None:
    """What `splits` sets apart as `test`, such as `"45:50"`; LeRobot itself knows `train` alone."""
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9})", str(splits.get("test"))) if isinstance(splits, dict) else None
    if found is None:
        return None
    first, stop = int(found[1]), int(found[2])
    return np.arange(first, stop) if 0 < stop - first < count and stop <= count else None
