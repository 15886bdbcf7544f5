"""An HDF5 file of somebody else's: opened when it is first read, closed before a fork, never left for another file."""

from pathlib import Path
from typing import Any

import numpy as np

from ...extras import requires_extra
from .flat import Layout

with requires_extra("hdf5"):
    import h5py
    import hdf5plugin  # noqa: F401  registers the Blosc filter

# Chunks of 100 frames take 15 MB: two consecutive episodes often share one.
CHUNK_CACHE = 256 << 20
PACKAGES = ("h5py", "hdf5plugin")


class Hdf5File:
    """See the module. It can be pickled; the copy opens the file anew.

    Args:
        path: the file, unpacked.

    Raises:
        FileNotFoundError, ValueError: one line where it is missing, or packed.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}: give an HDF5 file")
        if path.suffix == ".zst":
            raise ValueError(f"{path} is packed: unpack it first, with `zstd -d` or `tar --zstd -xf`")
        self.path = path
        self._file: h5py.File | None = None

    def open(self) -> "h5py.File":
        """The open file.

        Raises:
            ValueError: one line where it is truncated or no HDF5 file.
        """
        if self._file is None:
            try:
                self._file = h5py.File(self.path, "r", rdcc_nbytes=CHUNK_CACHE)
            except OSError as error:
                raise ValueError(
                    f"{self.path} is truncated or no HDF5 file ({_line(error)}): download or unpack it again"
                ) from error
        return self._file

    def group(self, name: str) -> "h5py.Group | None":
        """A group by its path from the top; `None` where there is none, or a link to nothing."""
        found: h5py.Group = self.open()
        for part in name.split("/"):
            item = self._member(found, part)
            if not isinstance(item, h5py.Group):
                return None
            found = item
        return found

    def layout(self, group: "h5py.Group") -> dict[str, Layout]:
        """The data sets of a group by name. Links to what is not there are passed over.

        Raises:
            ValueError: one line for what lies in another file, or is damaged.
        """
        found = {name: self._member(group, name) for name in group}
        return {
            name: Layout(item.shape or (), item.dtype) for name, item in found.items() if isinstance(item, h5py.Dataset)
        }

    def _member(self, group: "h5py.Group", name: str) -> Any:
        try:
            link = group.get(name, getlink=True)
            item = None if isinstance(link, h5py.ExternalLink) else group.get(name)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{_place(group, name)!r} of {self.path} cannot be read ({_line(error)}): the file is damaged; "
                "download or unpack it again"
            ) from error
        elsewhere = isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
        if isinstance(link, h5py.ExternalLink) or elsewhere:
            raise ValueError(
                f"{_place(group, name)!r} of {self.path} lies in another file, which need not be the one that was "
                "meant: write everything into one file"
            )
        return item

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` (excluded) of a data set.

        Raises:
            ValueError: one line where they are damaged.
        """
        try:
            return self.open()[name][start:stop]
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"rows {start} to {stop - 1} of {name!r} in {self.path} cannot be read ({_line(error)}): the file is "
                "damaged; download or unpack it again"
            ) from error

    def close(self) -> None:
        """Closes it; the next read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def _place(group: "h5py.Group", name: str) -> str:
    return f"{group.name}/{name}".lstrip("/")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
