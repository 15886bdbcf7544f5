"""The formats that are read: what each is called, how it is recognized, and where the class is that reads it.

A new one is a module with a `Source`, and its entry here; a reader is imported when it is first asked for, because it
may need libraries that only an extra brings.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from ...tasks.task import Task
from ..storage.lerobot import is_lerobot
from .mapping import ColumnMapping, read_mapping
from .names import VIDEOS, lance_tables, visible
from .source import Source
from .tiled import TiledSource

HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True)
class Format:
    """One format of recordings.

    Attributes:
        spoken: what a line calls such a source.
        reader: `module:class` below this package, a `Source` that is made of a path, a mapping and a task or `None`.
        recognizes: whether a path that exists is such a source, by its name and by what lies at its top.
    """

    spoken: str
    reader: str
    recognizes: Callable[[Path], bool]

    def load(self) -> Callable[[Path, ColumnMapping, Task | None], Source]:
        """The reader's class.

        Raises:
            ImportError: where its libraries are missing, naming the pip extra.
        """
        module, _, name = self.reader.partition(":")
        return getattr(import_module(f".{module}", __package__), name)


def _is_videos(path: Path) -> bool:
    return path.is_dir() and any(file.suffix.lower() in VIDEOS for file in path.iterdir())


def _is_hdf5(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in HDF5


def _is_demonstrations(path: Path) -> bool:
    if path.is_dir():
        return any(_is_hdf5(file) for file in visible(path.iterdir(), path))
    if not _is_hdf5(path):
        return False
    from .demonstrations import holds_demonstrations

    return holds_demonstrations(path)


# The first that recognizes a path reads it.
FORMATS = {
    "lerobot": Format("a LeRobot data set", "lerobot:LeRobotSource", is_lerobot),
    "mp4csv": Format("a folder of videos", "mp4csv:Mp4CsvSource", _is_videos),
    "robomimic": Format("demonstrations in HDF5", "robomimic:RobomimicSource", _is_demonstrations),
    "lance": Format("a Lance table", "lance:LanceSource", lambda path: bool(lance_tables(path))),
    "hdf5": Format("an HDF5 file", "hdf5:Hdf5Source", _is_hdf5),
    "table": Format("a table", "table:TableSource", lambda path: path.is_file() and path.suffix.lower() == ".parquet"),
}


def open_source(format: str, path: Path, mapping: str | Path | ColumnMapping | None, task: Task | None) -> Source:
    """Opens a source and checks its metadata. Only the format's own libraries are imported.

    Raises:
        See `import_dataset`.
    """
    columns = mapping if isinstance(mapping, ColumnMapping) else read_mapping(mapping)
    if isinstance(columns.image, tuple):
        return TiledSource([open_source(format, path, replace(columns, image=name), task) for name in columns.image])
    return FORMATS[format].load()(path, columns, task)
