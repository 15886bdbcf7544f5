"""Folders as earlier versions of this package laid them out."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq


def as_before(folder: Path) -> Path:
    """Turns a finished data set into what version 0.1 of the layout was: the splits in the files' names, indices of 32
    bits, vectors of one number as lists, and nothing of LeRobot's."""
    description = json.loads((folder / "episodes.json").read_text())
    counts = description.pop("files")
    for chunk, (split, count) in enumerate(counts.items()):
        for number in range(count):
            source = folder / f"data/chunk-{chunk:03d}/file-{number:03d}.parquet"
            pq.write_table(_before(pq.read_table(source)), folder / f"data/{split}-{number:05d}-of-{count:05d}.parquet")
            source.unlink()
        (folder / f"data/chunk-{chunk:03d}").rmdir()
    for path in sorted((folder / "meta").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "meta").rmdir()
    if "columns" in description:
        description["columns"].remove("task_index")
    (folder / "episodes.json").write_text(json.dumps({**description, "format": "lewm-episodes-1"}))
    card = (folder / "README.md").read_text().replace("- LeRobot\n", "")
    for chunk, split in enumerate(counts):
        card = card.replace(f"data/chunk-{chunk:03d}/*.parquet", f"data/{split}-*")
    lines = [line for line in card.splitlines() if "LeRobot" not in line and "lerobot" not in line]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
    return folder


def _before(table: pa.Table) -> pa.Table:
    features = datasets.Features.from_arrow_schema(table.schema)
    del features["task_index"]
    features |= {"episode_index": datasets.Value("int32"), "frame_index": datasets.Value("int32")}
    columns = [table.column(name) for name in features]
    if isinstance(features["action"], datasets.Value):
        features["action"] = datasets.List(datasets.Value("float32"), length=1)
        at = list(features).index("action")
        columns[at] = pa.FixedSizeListArray.from_arrays(columns[at].combine_chunks(), 1)
    schema = datasets.Features(features).arrow_schema
    return pa.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
