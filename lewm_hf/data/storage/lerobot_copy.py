"""A copy of a data set that lerobot opens, where it does not open the data set itself: of an earlier version's folder,
or one whose episodes have gaps in their numbers. The same frames, bit for bit, and the same numbers.

Training episodes come first, then the test episodes, numbered from 0 in the order of the rows, one row group each.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from ...files import local_folder
from ...folders import new_folder
from ...pictures import PNG_SIGNATURE
from ..schema import IMAGE, TASK
from .dataset_card import CARD_FILE, SIZE_CATEGORIES, check_complete, read_description
from .encoding import decode
from .layout import FILES, file_names, split_files, viewer_patterns
from .lerobot import TAG, VERSION, whole_fps, write_metadata
from .licenses import license_of
from .parquet import read_metadata

# Of a PNG file: where its header tells the kind of colors, and which is RGB.
COLOR_TYPE, TRUE_COLOR = 25, 2
WHOLE = ("episode_index", "frame_index", "index", TASK)


def write_lerobot(source: str | Path, out: str | Path, *, task: str | None = None) -> Path:
    """Writes the LeRobot v3 form of a collected or imported data set into a new directory.

    Args:
        source: directory of the finished data set.
        out: the directory, new or empty; it appears when it is complete.
        task: what the episodes are for, in words. Default: see `default_task`.

    Raises:
        FileNotFoundError, ValueError: one line for a source that is missing or unfinished, frames per second that are
            no whole number (which LeRobot cannot say), or a directory that holds something.
        OSError: where the disk is full; nothing appears then.
    """
    source, out = Path(source), local_folder(out)
    description = read_description(source) if source.is_dir() else None
    if description is None:
        raise FileNotFoundError(f"{source} is not a data set of this package: collect or import the episodes first")
    check_complete(source, description)
    whole_fps(description, source)
    with new_folder(out) as folder:
        _write(source, folder, description, task)
    return out


def _write(source: Path, out: Path, description: Mapping[str, Any], task: str | None) -> None:
    there = split_files(source, description)
    counts = {split: len(paths) for split, paths in there.items()}
    written = {split: [out / name for name in names] for split, names in file_names(counts).items() if names}
    schema = _schema(read_metadata(next(iter(there.values()))[0]).schema.to_arrow_schema())
    episode, row, splits = 0, 0, {}
    for split, paths in there.items():
        begin = episode
        for path, target in zip(paths, written[split], strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Frames are compressed already, and repeat nothing that a dictionary would find.
            with pq.ParquetWriter(target, schema, compression="zstd", use_dictionary=False) as writer:
                for table in _episodes(path):
                    length = len(table)
                    made = {
                        "episode_index": np.full(length, episode),
                        "index": row + np.arange(length),
                        TASK: np.zeros(length, np.int64),
                    }
                    columns = [_column(table, made, field) for field in schema]
                    writer.write_table(pa.table(columns, schema=schema), row_group_size=length)
                    episode, row = episode + 1, row + length
        splits[split] = f"{begin}:{episode}"
    write_metadata(out, description, written, task)
    (out / CARD_FILE).write_text(_card(description, splits, counts, row), encoding="utf-8")


def _episodes(path: Path) -> Iterator[pa.Table]:
    """The episodes of a file, whose row groups hold whole ones."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            index = table.column("episode_index").to_numpy()
            starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
            for start, stop in zip(starts, [*starts[1:], len(index)], strict=True):
                yield table.slice(start, stop - start)


def _schema(schema: pa.Schema) -> pa.Schema:
    """Columns as LeRobot wants them: whole numbers of 64 bits, vectors of one number as numbers."""
    features: dict[str, Any] = {}
    for field in schema:
        kind = field.type
        if field.name == IMAGE:
            features[field.name] = datasets.Image()
        elif field.name in WHOLE:
            features[field.name] = datasets.Value("int64")
        elif pa.types.is_fixed_size_list(kind):
            value = datasets.Value(_dtype(kind.value_type))
            features[field.name] = value if kind.list_size == 1 else datasets.List(value, length=kind.list_size)
        else:
            features[field.name] = datasets.Value(_dtype(kind))
    return datasets.Features({**features, TASK: datasets.Value("int64")}).arrow_schema


def _dtype(kind: pa.DataType) -> str:
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def _column(table: pa.Table, made: Mapping[str, np.ndarray], field: pa.Field) -> pa.Array:
    if field.name in made:
        return pa.array(made[field.name], field.type)
    if field.name == IMAGE:
        stored = [_true_color(frame.as_py()["bytes"]) for frame in table.column(IMAGE)]
        return pa.array([{"bytes": data, "path": None} for data in stored], field.type)
    column = table.column(field.name).combine_chunks()
    if pa.types.is_fixed_size_list(column.type) and not pa.types.is_nested(field.type):
        column = column.flatten()
    return column.cast(field.type)


def _true_color(data: bytes) -> bytes:
    """The same frame in a file that needs no conversion to RGB: lerobot would read a palette's indices as gray."""
    if not data.startswith(PNG_SIGNATURE) or data[COLOR_TYPE] == TRUE_COLOR:
        return data
    file = io.BytesIO()
    Image.fromarray(decode(data)).save(file, "PNG", compress_level=3)
    return file.getvalue()


def _card(description: Mapping[str, Any], splits: Mapping[str, str], counts: Mapping[str, int], rows: int) -> str:
    header = {
        **license_of(description),
        "task_categories": ["robotics"],
        "tags": [TAG, "lewm", "world-model"],
        "size_categories": [next((name for bound, name in SIZE_CATEGORIES if rows < bound), "n>10M")],
        "configs": [{"config_name": "default", "data_files": viewer_patterns(splits, {FILES: counts})}],
    }
    env = f"`{description['env']}`" if description.get("env") else "Recorded"
    return f"""---
{yaml.safe_dump(header, sort_keys=False).strip()}
---

# {env} episodes, LeRobot {VERSION}

```python
from lerobot.datasets.lerobot_dataset import LeRobotDataset

episodes = LeRobotDataset("org/name")
```

{rows:,} frames at {description["fps"]:g} per second; {", ".join(f"{split} {part}" for split, part in splits.items())}
(episode numbers, the last excluded). Frames are lossless. An episode's last action is NaN: none was taken there.
"""
