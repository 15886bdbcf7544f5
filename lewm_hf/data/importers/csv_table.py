"""Numbers in CSV files, as programs and offices of many countries write them."""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DELIMITERS = ",;\t"
# Where the comma does not separate cells it may separate decimals.
_DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)")
_NUMBERED = re.compile(r"(.+)_(\d+)")


@dataclass(frozen=True)
class Table:
    """A header and rows.

    Attributes:
        path: where they come from.
        header: names of the columns, each once.
        rows: (line in the file, cells).
        delimiter: what stood between the cells.
    """

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]
    delimiter: str

    def with_rows(self, rows: list[tuple[int, list[str]]]) -> "Table":
        return Table(self.path, self.header, rows, self.delimiter)

    def members(self, name: str) -> list[str]:
        """The columns of a name: the one called so, or `NAME_0`, `NAME_1`, ... in the order of their numbers.

        Raises:
            ValueError: one line where there are both, or a number is missing or there twice.
        """
        numbered = {found: int(match[2]) for found in self.header if (match := _numbered(found)) and match[1] == name}
        if name in self.header:
            if numbered:
                raise ValueError(
                    f"{self.path} has the column {name!r} and {', '.join(numbered)}: name the columns that are meant "
                    "in the mapping"
                )
            return [name]
        found = sorted(numbered, key=numbered.__getitem__)
        numbers = [numbered[column] for column in found]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
            raise ValueError(
                f"{self.path} has the columns {', '.join(found)}, expected {name}_0, {name}_1, ... without gaps or "
                "repeats: correct the header"
            )
        return found

    def numbers(self, columns: Sequence[str]) -> np.ndarray:
        """`(rows, columns)` float64; NaN where a cell is empty, 0 and 1 for false and true.

        Raises:
            ValueError: one line for anything else.
        """
        places = [self.header.index(name) for name in columns]
        values = np.empty((len(self.rows), len(columns)))
        for row, (line, cells) in enumerate(self.rows):
            for column, place in enumerate(places):
                try:
                    values[row, column] = self._number(cells[place].strip())
                except ValueError as error:
                    raise ValueError(
                        f"{self.path}, line {line}: {columns[column]}={cells[place].strip()!r} is not a number; repair "
                        "the line"
                    ) from error
        return values

    def holds_numbers(self, name: str) -> bool:
        """Whether a column is one of numbers, empty or not: none of clock times, nor of file names."""
        place, words = self.header.index(name), False
        for _, cells in self.rows:
            try:
                if not np.isnan(self._number(cells[place].strip())):
                    return True
            except ValueError:
                words = True
        return not words

    def _number(self, cell: str) -> float:
        if self.delimiter != "," and (found := _DECIMAL_COMMA.fullmatch(cell)):
            cell = f"{found[1]}.{found[2]}"
        if "_" in cell:  # Python reads 1_0 as 10
            raise ValueError(cell)
        words = {"": np.nan, "true": 1.0, "false": 0.0}
        return words[cell.lower()] if cell.lower() in words else float(cell)


def column_names(header: Sequence[str]) -> list[str]:
    """What a mapping may call columns: their names, and those of numbered groups."""
    return list(dict.fromkeys([*header, *(match[1] for name in header if (match := _numbered(name)))]))


def quantities(header: Sequence[str]) -> list[str]:
    """The columns, each numbered group once and by the group's name."""
    return list(dict.fromkeys(match[1] if (match := _numbered(name)) else name for name in header))


def read_table(path: Path) -> Table:
    """Reads a CSV file: UTF-8 or UTF-16, with or without a byte order mark, separated by commas, semicolons or tabs.

    Raises:
        ValueError: one line where it is no such text, a header is empty or there twice, or a row has another size.
    """
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error
    delimiter, skipped = _delimiter(text)
    reader = csv.reader(io.StringIO(text.partition("\n")[2] if skipped else text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num + skipped, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num + skipped}: {error}; save it as CSV UTF-8") from error
    if not rows:
        raise ValueError(f"{path} has no rows: write a header and one row per frame")
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {line}: {len(cells)} values, expected {len(header)}; repair the line")
    while header and not header[-1] and not any(cells[len(header) - 1].strip() for _, cells in rows):
        header.pop()  # spreadsheets write columns that were once used
    for name in header:
        if not name or header.count(name) > 1:
            found = "a column without a name" if not name else f"the column {name!r} {header.count(name)} times"
            raise ValueError(f"{path} has {found}: give each column a name of its own")
    return Table(path, header, rows, delimiter)


def _delimiter(text: str) -> tuple[str, int]:
    """What separates cells, and 1 where Excel's first line says so."""
    first = text.partition("\n")[0].strip("\r")
    if stated := re.fullmatch(r'"?sep=(.)"?', first):
        return stated[1], 1
    outside = re.sub(r'"[^"]*"', "", first)
    return max(DELIMITERS, key=outside.count), 0


def _numbered(name: str) -> re.Match | None:
    return _NUMBERED.fullmatch(name)
