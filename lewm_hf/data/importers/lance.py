"""The flat layout of the released data sets in Lance, as stable-worldmodel writes it: a row per frame, of all episodes.

A frame is an encoded picture (JPEG, PNG, ...), in a binary column or one of Lance's blobs; vectors are lists of fixed
size. See `flat` for the columns.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ...extras import requires_extra
from ...tasks.task import Task
from ..storage.encoding import decode
from ..storage.parquet import vectors
from .flat import FRAMES_AT_ONCE, FlatSource, Layout
from .mapping import ColumnMapping
from .names import lance_tables, visible

with requires_extra("lance"):
    import lance

# How a field's metadata mark what Lance keeps beside its rows.
BLOB = b"lance-encoding:blob"
ENCODED = np.dtype("S")
# What Lance raises where files are damaged or missing.
ERRORS = (ValueError, OSError, RuntimeError)

Found = TypeVar("Found")


class LanceSource(FlatSource):
    """See the module.

    Args:
        path: the table's folder, or one that holds no other.
        mapping, task: see `FlatSource`.

    Raises:
        FileNotFoundError, ValueError: one line where it is missing, damaged, or its columns contradict each other.
    """

    packages = ("pylance", "pyarrow")
    pictures = "encoded pictures (binary)"
    survives_fork = False  # its threads hang in the child of a process that has used them

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        tables = lance_tables(path)
        if len(tables) != 1:
            if not tables:
                raise FileNotFoundError(
                    f"there is no Lance table {path}: give its folder, which has a _versions inside"
                )
            listed = ", ".join(table.name for table in tables)
            raise ValueError(f"{path} holds several Lance tables ({listed}): give the folder of one")
        self._folder = tables[0]
        self._table: Any = None
        self._numbers: dict[str, np.ndarray] = {}
        super().__init__(path, mapping, task)

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        name, (start, stop) = self.mapping.camera, self._span(episode)
        for first in range(start, stop, FRAMES_AT_ONCE):
            rows = list(range(first, min(first + FRAMES_AT_ONCE, stop)))
            encoded = self._asked(partial(_encoded, name=name, rows=rows))
            for row, data in zip(rows, encoded, strict=True):
                if data is None:
                    raise ValueError(f"row {row} of {self.path} has no picture: repair it, or skip its episode")
                try:
                    yield decode(data)
                except ValueError as error:
                    raise ValueError(f"row {row} of {self.path}: {error}") from error

    def files(self) -> list[Path]:
        return visible((path for path in self._folder.rglob("*") if path.is_file()), self._folder)

    def close(self) -> None:
        self._table = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def _shapes(self) -> dict[str, Layout]:
        rows = self._asked(lambda table: table.count_rows())
        return {field.name: _layout(field, rows) for field in self._asked(lambda table: table.schema)}

    def _is_pictures(self, layout: Layout) -> bool:
        return layout.dtype == ENCODED

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        # A scan reaches over the whole column anyway, and numbers are few beside pictures.
        if name not in self._numbers:
            column = self._asked(lambda table: table.to_table(columns=[name])).column(0)
            self._numbers[name] = vectors(column) if pa.types.is_nested(column.type) else column.to_numpy()
        return self._numbers[name][start:stop]

    def _asked(self, question: Callable[[Any], Found]) -> Found:
        """An answer of the open table.

        Raises:
            ValueError: one line where it is damaged.
        """
        try:
            if self._table is None:
                self._table = lance.dataset(str(self._folder))
            return question(self._table)
        except ERRORS as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{self._folder} is damaged or no Lance table ({reason}): download it again") from error


def _layout(field: pa.Field, rows: int) -> Layout:
    kind: pa.DataType = field.type
    shape: tuple[int, ...] = (rows,)
    if _is_blob(field) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Layout(shape, ENCODED)
    if pa.types.is_fixed_size_list(kind):
        kind, shape = kind.value_type, (rows, kind.list_size)
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return Layout(shape, np.dtype(kind.to_pandas_dtype()) if numeric else np.dtype(object))


def _is_blob(field: pa.Field) -> bool:
    return (field.metadata or {}).get(BLOB) == b"true"


def _encoded(table: Any, name: str, rows: list[int]) -> list[bytes | None]:
    """The files of pictures, a row each."""
    if _is_blob(table.schema.field(name)):
        return [blob.readall() for blob in table.take_blobs(name, indices=rows)]
    return table.take(rows, columns=[name]).column(0).to_pylist()
