"""A data set of this package as a LeRobot v3 data set: the same frames, bit for bit, in the layout that lerobot opens.

`data/chunk-000/` has the training episodes, `data/chunk-001/` the test episodes, one row group per episode;
`meta/info.json` declares every column, `meta/episodes/` says where each episode is, `meta/tasks.parquet` what it is
for, `meta/stats.json` how its numbers are spread. Episodes are numbered from 0 in the order of the rows.
"""

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from ...pictures import PNG_SIGNATURE
from ..schema import IMAGE
from .dataset_card import CARD_FILE, SIZE_CATEGORIES, check_complete, read_description, split_files
from .encoding import decode
from .parquet import read_metadata, vectors

VERSION = "v3.0"
# Of a PNG file: where its header tells the kind of colors, and which is RGB.
COLOR_TYPE, TRUE_COLOR = 25, 2
INFO_FILE = "meta/info.json"
FILES_OF_A_CHUNK = 1000
SAMPLED_FRAMES = 100
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
WHOLE = ("episode_index", "frame_index", "index", "task_index")


def is_lerobot(folder: Path) -> bool:
    """Whether a folder says that it is a LeRobot data set, of whatever version."""
    return (folder / INFO_FILE).is_file()


def lerobot_cameras(folder: Path) -> list[str]:
    """Columns of pictures or videos that a LeRobot data set declares; none where its description is damaged."""
    try:
        features = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))["features"]
        return [name for name, feature in features.items() if feature["dtype"] in ("image", "video")]
    except (ValueError, KeyError, TypeError, AttributeError):  # refused by its importer, with the reason
        return []


def write_lerobot(source: str | Path, out: str | Path, *, task: str | None = None) -> Path:
    """Writes the LeRobot v3 form of a collected or imported data set into a new directory.

    Args:
        source: directory of the finished data set.
        out: the directory, new or empty; it appears when it is complete.
        task: what the episodes are for, in words. Default: names the environment.

    Raises:
        FileNotFoundError, ValueError: one line for a source that is missing or unfinished, frames per second that are
            no whole number (which LeRobot cannot say), or a directory that holds something.
        OSError: where the disk is full; nothing appears then.
    """
    source, out = Path(source), Path(out)
    description = read_description(source) if source.is_dir() else None
    if description is None:
        raise FileNotFoundError(f"{source} is no data set of this package: collect or import the episodes first")
    check_complete(source, description)
    fps = description["fps"]
    if fps != round(fps) or fps < 1:
        raise ValueError(f"{source} has {fps:g} frames per second, but LeRobot knows whole numbers only")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty: give a new or empty directory")
    for split, files in split_files(source).items():
        if len(files) > FILES_OF_A_CHUNK:
            raise ValueError(
                f"{source} has {len(files)} {split} files, more than the {FILES_OF_A_CHUNK} of a LeRobot chunk: "
                "collect with more episodes per file"
            )
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        _write(source, temporary, description, task or f"reach the goal ({description.get('env') or 'recorded'})")
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _write(source: Path, out: Path, description: Mapping[str, Any], task: str) -> None:
    meta = out / "meta"
    (meta / "episodes/chunk-000").mkdir(parents=True)
    split_paths = split_files(source)
    first = next(iter(split_paths.values()))[0]
    features = _features(read_metadata(first).schema.to_arrow_schema())
    schema = features.arrow_schema
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in features if name != IMAGE}
    frames, episodes, splits, rows = [], [], {}, 0
    total = sum(read_metadata(path).num_rows for paths in split_paths.values() for path in paths)
    sampled = set(np.linspace(0, total - 1, min(SAMPLED_FRAMES, total)).astype(int).tolist())
    for chunk, (split, paths) in enumerate(split_paths.items()):
        begin = len(episodes)
        for number, path in enumerate(paths):
            target = out / f"data/chunk-{chunk:03d}/file-{number:03d}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            # Frames are compressed already, and repeat nothing that a dictionary would find.
            with pq.ParquetWriter(target, schema, compression="zstd", use_dictionary=False) as writer:
                for table in _episodes(path):
                    length = len(table)
                    columns = {
                        "episode_index": np.full(length, len(episodes)),
                        "index": rows + np.arange(length),
                        "task_index": np.zeros(length, np.int64),
                    }
                    written = pa.table([_column(table, columns, field) for field in schema], schema=schema)
                    writer.write_table(written, row_group_size=length)
                    for name, parts in numbers.items():
                        parts.append(_matrix(written.column(name)))
                    for row in sampled.intersection(range(rows, rows + length)):
                        frames.append(decode(written.column(IMAGE)[row - rows].as_py()["bytes"]))
                    episodes.append({
                        "episode_index": len(episodes), "tasks": [task], "length": length,
                        "dataset_from_index": rows, "dataset_to_index": rows + length,
                        "data/chunk_index": chunk, "data/file_index": number,
                        "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
                    })  # fmt: skip
                    rows += length
        splits[split] = f"{begin}:{len(episodes)}"
    pq.write_table(pa.Table.from_pylist(episodes), meta / "episodes/chunk-000/file-000.parquet")
    tasks = pd.DataFrame({"task_index": [0]}, index=pd.Index([task], name="task", dtype=object))
    tasks.to_parquet(meta / "tasks.parquet")
    info = {
        "codebase_version": VERSION,
        "robot_type": description.get("env"),
        "total_episodes": len(episodes),
        "total_frames": rows,
        "total_tasks": 1,
        "chunks_size": FILES_OF_A_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": round(description["fps"]),
        "splits": splits,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {name: _declared(feature, frames[0].shape) for name, feature in features.items()},
    }
    statistics = {name: _statistics(np.concatenate(parts)) for name, parts in numbers.items()}
    statistics[IMAGE] = _image_statistics(np.stack(frames))
    for name, content in (("info", info), ("stats", statistics)):
        (meta / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / CARD_FILE).write_text(_card(description, splits, rows), encoding="utf-8")


def _episodes(path: Path) -> Iterator[pa.Table]:
    """The episodes of a file, whose row groups hold whole ones."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            index = table.column("episode_index").to_numpy()
            starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
            for start, stop in zip(starts, [*starts[1:], len(index)], strict=True):
                yield table.slice(start, stop - start)


def _features(schema: pa.Schema) -> datasets.Features:
    """Columns as LeRobot wants them: whole numbers of 64 bits, vectors of one number as numbers."""
    features = {}
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
    return datasets.Features({**features, "task_index": datasets.Value("int64")})


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


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    nested = pa.types.is_nested(column.type)
    values = vectors(column) if nested else column.to_numpy().reshape(-1, 1)
    return values.astype(np.float64)


def _declared(feature: Any, frame: tuple[int, ...]) -> dict[str, Any]:
    if isinstance(feature, datasets.Image):
        return {"dtype": "image", "shape": list(frame), "names": ["height", "width", "channels"]}
    if isinstance(feature, datasets.List):
        return {"dtype": feature.feature.dtype, "shape": [feature.length], "names": None}
    return {"dtype": feature.dtype, "shape": [1], "names": None}


def _statistics(values: np.ndarray) -> dict[str, list]:
    """Of the rows `(n, dims)` without missing numbers: an episode's last action is none."""
    known = values[np.isfinite(values).all(1)]
    return {
        "min": known.min(0).tolist(), "max": known.max(0).tolist(), "mean": known.mean(0).tolist(),
        "std": known.std(0).tolist(), "count": [len(known)],
        **{name: np.quantile(known, share, 0).tolist() for name, share in QUANTILES.items()},
    }  # fmt: skip


def _image_statistics(frames: np.ndarray) -> dict[str, list]:
    """Per channel, in units of [0, 1], of sampled frames; shaped (3, 1, 1)."""
    found = _statistics(frames.reshape(-1, 3) / 255)
    return {name: [[[value]] for value in values] for name, values in found.items()} | {"count": [len(frames)]}


def _card(description: Mapping[str, Any], splits: Mapping[str, str], rows: int) -> str:
    header = {
        "license": "apache-2.0",
        "task_categories": ["robotics"],
        "tags": ["LeRobot", "lewm", "world-model"],
        "size_categories": [next((name for bound, name in SIZE_CATEGORIES if rows < bound), "n>10M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/chunk-{chunk:03d}/*.parquet"} for chunk, split in enumerate(splits)
                ],
            }
        ],
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
