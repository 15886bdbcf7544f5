"""Recordings in another layout, opened like episodes of this package: imported once, and kept by content."""

import logging
from dataclasses import replace
from pathlib import Path

import datasets
from filelock import FileLock

from .importers import import_dataset
from .importers.mapping import ColumnMapping
from .importers.run import open_source
from .importers.source import content_sha256, sha256
from .storage.lerobot import is_lerobot

logger = logging.getLogger(__name__)

IMPORTS = "lewm_imports"
VIDEOS = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm"})
FILES = {".parquet": "table", ".h5": "hdf5", ".hdf5": "hdf5"}
# How a line names what cannot be opened as it is.
SPOKEN = {
    "lerobot": "a LeRobot data set", "mp4csv": "a folder of videos", "hdf5": "an HDF5 file", "table": "a table",
}  # fmt: skip


def recording_format(path: Path) -> str | None:
    """The importer that reads a file or folder; `None` for a folder that may be any table.

    Raises:
        ValueError: for a file that none reads.
    """
    if path.is_file():
        if path.suffix.lower() not in FILES:
            raise ValueError(f"{path} is not a recording: give a folder, or a file {', '.join(sorted(FILES))}")
        return FILES[path.suffix.lower()]
    if is_lerobot(path):
        return "lerobot"
    return "mp4csv" if any(file.suffix.lower() in VIDEOS for file in path.iterdir()) else None


def import_once(
    format: str,
    path: Path,
    mapping: ColumnMapping,
    cache_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
) -> Path:
    """Imports a recording into a folder named after its content and how it is read, unless it is there.

    Args:
        format: the importer, see `import_dataset`.
        path: of the recording.
        mapping: which columns are what, and how frames become square; all other numbers are kept.
        cache_dir: the folder of that folder; default: the cache of `datasets`.
        image_size: side that larger frames are resized to where the mapping says `fit`.

    Returns:
        A data set of this package, whose test split is the recording's own or a tenth of the episodes.

    Raises:
        See `import_dataset`.
    """
    mapping = replace(mapping, keep=mapping.keep or ("*",))
    source = open_source(format, path, mapping, None)
    try:
        resized = {"image_size": image_size} if image_size and mapping.fit else {}
        # How fast it is may have been measured in a way that was wrong before.
        read = source.mapping.as_dict() | {"fps": source.fps} | resized
        key = sha256(content_sha256(source).encode(), read)
        # A training is no program that may be started again for every worker; FFmpeg uses all cores by itself.
        workers = None if source.survives_fork else 1
    finally:
        source.close()
    root = Path(datasets.config.HF_DATASETS_CACHE if cache_dir is None else cache_dir) / IMPORTS
    # Named like the source, which its description and cards call it by.
    out = root / key[:16] / path.resolve().name
    out.parent.mkdir(parents=True, exist_ok=True)
    logger.info("%s is %s: its import is kept in %s", path, SPOKEN[format], out)
    with FileLock(out.parent / "lock"):  # several ranks, or runs, want the same
        return import_dataset(format, path, out, mapping=mapping, largest=image_size, workers=workers)
