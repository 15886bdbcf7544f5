"""The flat layout of the released data sets in HDF5: one data set per column, whose first axis is all rows.

Frames are (rows, H, W, 3) uint8, often Blosc-compressed; see `flat` for the columns.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...tasks.task import Task
from .flat import FRAMES_AT_ONCE, FlatSource, Layout
from .hdf5_file import PACKAGES, Hdf5File
from .mapping import ColumnMapping


class Hdf5Source(FlatSource):
    """See the module.

    Args:
        path: the file, unpacked.
        mapping, task: see `FlatSource`.

    Raises:
        FileNotFoundError, ValueError: one line where it is missing, damaged, or its columns contradict each other.
    """

    packages = PACKAGES
    pictures = "(rows, height, width, 3) uint8"

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        self._file = Hdf5File(path)
        super().__init__(path, mapping, task)
        self.metadata = {"source_bytes": path.stat().st_size, **self.metadata}

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        start, stop = self._span(episode)
        for first in range(start, stop, FRAMES_AT_ONCE):
            yield from self._read(self.mapping.camera, first, min(first + FRAMES_AT_ONCE, stop))

    def files(self) -> list[Path]:
        return [self.path]

    def close(self) -> None:
        self._file.close()

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._file.read(name, start, stop)

    def _is_pictures(self, layout: Layout) -> bool:
        return layout.is_pictures

    def _shapes(self) -> dict[str, Layout]:
        top = self._file.open()
        shapes = self._file.layout(top)
        if not shapes:
            groups = ", ".join(top) or "nothing"
            raise ValueError(
                f"{self.path} has no columns at its top, but {groups}: this layout has one data set per column with "
                "the rows of all episodes, and another that tells the episodes apart; a file of data/demo_0, "
                "data/demo_1, ... is imported as robomimic; write others so, or as videos with CSV files"
            )
        return shapes
