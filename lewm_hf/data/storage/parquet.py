"""Episode files: immutable Parquet files that hold whole episodes of one split, in order."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...files import replacing
from ..schema import ACTION, IMAGE, SIM_GOAL, SIM_STATE, STATE, TASK, episode_features
from .encoding import FrameEncoder

if TYPE_CHECKING:  # those who only read need no environment
    from ..collect.recording import Episode
    from ..importers.source import ImportedEpisode

INDEX = "index"
# Rows of a row group: what a writer holds in memory, and what the Hub's viewer reads for one page.
ROW_GROUP_ROWS = 1000
KEY = b"lewm.collection"
CHUNKING = b"content_defined_chunking"


def write_episodes(
    path: Path,
    episodes: "Iterable[Episode | ImportedEpisode]",
    numbers: Sequence[int],
    encoder: FrameEncoder,
    fps: float,
    starts: Sequence[int],
    report: Callable[[int], object],
    check: Callable[[Path], None] | None = None,
    key: str | None = None,
) -> None:
    """Writes one file, which appears under its name when the last episode is in it.

    Args:
        episodes: `Episode`s, or `ImportedEpisode`s, which may lack some columns.
        numbers: indices of `episodes` in the data set.
        fps: frames per second, for the timestamps.
        starts: `index` of each episode's first row. Provisional where the lengths of the episodes before are unknown,
            an upper bound then; see `renumber`.
        report: called with 1 after every episode, and with 0 before the file takes its name.
        key: of the collection or import, see `content_key`; stored in the file.
        check: called with the complete file before it takes its name; what it raises keeps the file from appearing.

    Raises:
        OSError: one line where the disk is full.
        ValueError: one line for an action that is not finite before an episode's last row.
    """
    with replacing(path) as temporary:
        writer, pending = None, []
        try:
            for number, start, episode in zip(numbers, starts, episodes, strict=True):
                if writer is None:
                    writer = _open(temporary, _schema(episode, key))
                pending.append(_table(writer.schema, episode, number, encoder, fps, start))
                if sum(map(len, pending)) >= ROW_GROUP_ROWS:
                    _write(writer, pending)
                    pending = []
                report(1)
            if pending:
                _write(writer, pending)
        finally:
            if writer is not None:
                writer.close()
        if check is not None:
            check(temporary)
        report(0)


def renumber(paths: Sequence[Path]) -> None:
    """Makes `index` count the rows over all files, rewriting each file whose numbers are provisional."""
    offset = 0
    for path in paths:
        with pq.ParquetFile(path) as source:
            rows = source.metadata.num_rows
            if index_range(source.metadata) != (offset, offset + rows - 1):
                with replacing(path) as temporary, _open(temporary, source.schema_arrow) as writer:
                    start = offset
                    for group in range(source.num_row_groups):
                        table = source.read_row_group(group)
                        numbers = pa.array(np.arange(start, start + len(table)), pa.int64())
                        _write(writer, [table.set_column(table.schema.get_field_index(INDEX), INDEX, numbers)])
                        start += len(table)
        offset += rows


def content_key(content: Mapping[str, Any]) -> str:
    """A digest of what decides about the content of a data set's files."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def collection_key(metadata: pq.FileMetaData) -> str | None:
    """The key that `write_episodes` stored, from a file's footer; `None` in files of older versions."""
    found = (metadata.metadata or {}).get(KEY)
    return None if found is None else found.decode()


def index_range(metadata: pq.FileMetaData) -> tuple[int, int]:
    """Smallest and largest `index` of a file, from its footer."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(metadata.num_columns)]
    found = [column.statistics for column in columns if column.path_in_schema == INDEX]
    return min(one.min for one in found), max(one.max for one in found)


def read_metadata(path: Path) -> pq.FileMetaData:
    """The footer of a Parquet file.

    Raises:
        ValueError: one line where the file is empty, truncated or no Parquet file.
    """
    try:
        return pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path} is truncated or no Parquet file ({str(error).splitlines()[0]}): delete it and collect or download "
            "it again"
        ) from error


def read_columns(paths: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    """Columns of several files, without touching the frames.

    Raises:
        ValueError: one line where a file is damaged or lacks a column.
    """
    tables = []
    for path in paths:
        names = read_metadata(path).schema.to_arrow_schema().names
        missing = [name for name in columns if name not in names]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]!r}: its columns are {', '.join(names)}")
        tables.append(pq.read_table(path, columns=list(columns)).select(list(columns)))
    return pa.concat_tables(tables)


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists as a matrix `(rows, n)`; NaN where a number or a whole list is missing.

    Raises:
        ValueError: naming the first row whose length differs.
    """
    here = column.is_valid().to_numpy()
    present = column.drop_null() if column.null_count else column
    lengths = pc.list_value_length(present).to_numpy()
    width = int(lengths[0]) if len(lengths) else 0
    if (lengths != width).any():
        odd = int(np.flatnonzero(lengths != width)[0])
        row = int(np.flatnonzero(here)[odd])
        raise ValueError(f"row {row} has {lengths[odd]} entries, the rows before have {width}")
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), width) for chunk in present.chunks]
    values = np.concatenate(parts) if parts else np.zeros((0, width))
    if not column.null_count:
        return values
    everything = np.full((len(column), width), np.nan)
    everything[here] = values
    return everything


def is_nested(kind: pa.DataType) -> bool:
    """Whether a column holds a list in each row."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column holds a number in each row, or a list of them."""
    value = kind.value_type if is_nested(kind) else kind
    return pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, or of equally long lists of them, as a matrix `(rows, n)`.

    Raises:
        ValueError: naming the first row whose length differs.
    """
    return vectors(column) if pa.types.is_nested(column.type) else column.to_numpy().reshape(-1, 1)


def _open(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Frames are compressed already, and their smallest and largest would be stored beside every row group.
    scalars = [field.name for field in schema if not pa.types.is_nested(field.type)]
    lists = [field.name for field in schema if pa.types.is_fixed_size_list(field.type)]
    return pq.ParquetWriter(
        path,
        schema,
        compression=dict.fromkeys([*scalars, *(f"{name}.list.element" for name in lists)], "zstd"),
        use_dictionary=False,
        write_statistics=scalars,
        # What the Hub recommends: readers find single pages, and an upload of a changed file sends what changed.
        write_page_index=True,
        use_content_defined_chunking=datasets.config.DEFAULT_CDC_OPTIONS,
    )


def _write(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> None:
    table = pa.concat_tables(tables)
    writer.write_table(table, row_group_size=len(table))


def _schema(episode: "Episode | ImportedEpisode", key: str | None) -> pa.Schema:
    known = episode.states, episode.observations
    state_dim, observation_dim = (None if matrix is None else matrix.shape[1] for matrix in known)
    goal, success = episode.goals is not None, episode.next_success is not None
    kept = {name: values.shape[1] for name, values in getattr(episode, "kept", {}).items()}
    schema = episode_features(episode.actions.shape[1], state_dim, observation_dim, goal, success, kept).arrow_schema
    more = {CHUNKING: json.dumps(datasets.config.DEFAULT_CDC_OPTIONS)} | ({} if key is None else {KEY: key})
    return schema.with_metadata({**schema.metadata, **more})


def _table(
    schema: pa.Schema, episode: "Episode | ImportedEpisode", number: int, encoder: FrameEncoder, fps: float, start: int
) -> pa.Table:
    rows = len(episode)
    frames = np.arange(rows)
    row_actions = episode.row_actions
    _check_actions(row_actions, number)
    encoded = pa.array([encoder(image) for image in episode.images], pa.binary())
    columns = {
        "episode_index": np.full(rows, number),
        "frame_index": frames,
        INDEX: start + frames,
        TASK: np.zeros(rows, dtype=np.int64),
        "timestamp": (frames / fps).astype(np.float32),
        IMAGE: pa.StructArray.from_arrays([encoded, pa.nulls(rows, pa.string())], ["bytes", "path"]),
        STATE: _lists(episode.observations),
        ACTION: _lists(row_actions),
        "next.done": frames == rows - 1,
        "next.success": episode.next_success,
        SIM_STATE: _lists(episode.states),
        SIM_GOAL: _lists(episode.goals),
    }
    for name, values in getattr(episode, "kept", {}).items():
        columns[name] = _lists(values)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _check_actions(actions: np.ndarray, number: int) -> None:
    wrong = ~np.isfinite(actions).all(1)
    if np.isnan(actions[-1]).all():
        wrong[-1] = False
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"row {row} of episode {number} has action={actions[row].tolist()}: actions must be finite in float32; "
            "leave the episode out, or repair it"
        )


def _lists(matrix: np.ndarray | None) -> pa.Array | None:
    if matrix is None:
        return None
    flat, width = pa.array(np.ascontiguousarray(matrix).ravel()), matrix.shape[1]
    return flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
