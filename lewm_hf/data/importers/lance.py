"""The flat layout of the released data sets in Lance, as stable-worldmodel writes it: a row per frame, of all episodes.

A frame is an encoded picture (JPEG, PNG, ...), in a binary column or one of Lance's blobs; vectors are lists of fixed
size. See `flat` for the columns.
"""

import os
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
from .names import LANCE_VERSIONS as VERSIONS
from .names import lance_tables, visible

with requires_extra("lance"):
    import lance
if not hasattr(lance, "dataset"):  # any folder called lance below the working directory passes for a package
    raise ImportError("the module 'lance' is not pylance: install it with `pip install 'lewm-hf[lance]'`", name="lance")

DATA = "data"
# How a field's metadata mark what Lance keeps beside its rows.
BLOB = b"lance-encoding:blob"
ENCODED = np.dtype("S")
# What Lance raises, whatever the reason; its panics, which damaged files provoke too, are no `Exception` and have no
# name to import.
ERRORS = (ValueError, OSError, RuntimeError)
PANIC = "PanicException"
# How it words what no type of error tells.
NEWER, NO_COLUMN = ("Not supported",), ("No field named", "FieldNotFound")

Found = TypeVar("Found")


class LanceSource(FlatSource):
    """See the module.

    Args:
        path: the table's folder, or one that holds no other.
        mapping, task: see `FlatSource`.

    Raises:
        FileNotFoundError, OSError, ValueError: one line where it is missing, may not be read, is damaged or of a newer
            Lance, or its columns contradict each other.
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
        self._version: int | None = None
        self._numbers: dict[str, np.ndarray] = {}
        super().__init__(path, mapping, task)

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        name, (start, stop) = self.mapping.camera, self._span(episode)
        for first in range(start, stop, FRAMES_AT_ONCE):
            rows = list(range(first, min(first + FRAMES_AT_ONCE, stop)))
            encoded = self._asked(partial(_encoded, name=name, rows=rows), name)
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
            column = self._asked(lambda table: table.to_table(columns=[name]), name).column(0)
            self._numbers[name] = vectors(column) if pa.types.is_nested(column.type) else column.to_numpy()
        return self._numbers[name][start:stop]

    def _asked(self, question: Callable[[Any], Found], column: str | None = None) -> Found:
        """An answer of the open table, in the version that was opened first: others may be at work with it.

        Args:
            column: what the question is about.

        Raises:
            FileNotFoundError, OSError, ValueError: one line that tells why there is none.
        """
        try:
            if self._table is None:
                self._table = lance.dataset(str(self._folder), version=self._version)
                self._version = self._table.version
            return question(self._table)
        except BaseException as error:
            if not isinstance(error, ERRORS) and type(error).__name__ != PANIC:
                raise
            raise self._reason(" ".join(str(error).split())[:300], column) from error

    def _reason(self, said: str, column: str | None) -> ValueError | OSError:
        """What Lance's error comes from. The files themselves are asked first: its words may change."""
        folder = self._folder
        if (failed := _unreadable(folder)) is not None:
            return OSError(f"{failed.filename} cannot be read ({failed.strerror}): allow it, or copy the table again")
        if not any((folder / VERSIONS).glob("*.manifest")):
            return FileNotFoundError(f"{folder} is no Lance table, {VERSIONS} holds no manifest: copy the whole folder")
        if self._table is not None and column is not None and any(words in said for words in NO_COLUMN):
            listed = ", ".join(self._table.schema.names)
            return ValueError(
                f"Lance finds no column {column!r} in {folder}, which has {listed}: rename or map another"
            )
        if any(words in said for words in NEWER):
            return ValueError(
                f"{folder} was written by a newer Lance than pylance {lance.__version__} ({said}): write it again with "
                "this one, or upgrade it"
            )
        if lacking := self._lacking():
            return FileNotFoundError(f"{folder} lacks {lacking}: copy the whole folder, or download it again")
        return ValueError(f"{folder} is damaged ({said}): copy or download it again")

    def _lacking(self) -> str | None:
        """The first of the open table's files that is not there."""
        fragments = [] if self._table is None else self._table.get_fragments()
        names = [f"{DATA}/{file.path}" for fragment in fragments for file in fragment.data_files()]
        return next((name for name in names if not (self._folder / name).is_file()), None)


def _unreadable(folder: Path) -> OSError | None:
    """What keeps this process from reading the first of a folder's files that it may not read."""
    failed: list[OSError] = []
    for place, _, names in os.walk(folder, onerror=failed.append):
        for name in names:
            try:
                open(os.path.join(place, name), "rb").close()
            except OSError as error:
                failed.append(error)
    return failed[0] if failed else None


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
