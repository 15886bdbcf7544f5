"""Recordings in another layout, opened like episodes of this package: imported once, and kept by content."""

import logging
from dataclasses import replace
from pathlib import Path

import datasets
from filelock import FileLock

from .importers import import_dataset
from .importers.formats import FORMATS, HDF5, open_source
from .importers.mapping import ColumnMapping
from .importers.names import VIDEOS, visible
from .importers.source import content_sha256, sha256

logger = logging.getLogger(__name__)

IMPORTS = "lewm_imports"
# What `datasets` makes a table of, whatever else lies in the folder.
TABLES = (".parquet", ".arrow")


def recording_format(path: Path) -> str | None:
    """The importer that reads a file or folder; `None` for a folder that may be any table.

    Videos are read where they lie at the top of a folder, one per episode. Below subfolders their names would have to
    be guessed at: `left/walk_1.mp4` beside `right/walk_1.mp4` are two cameras to one who recorded them so, and two
    episodes to another.

    Raises:
        ValueError: for a file that none reads, and for a folder of which only subfolders have videos.
    """
    found = next((name for name, format in FORMATS.items() if format.recognizes(path)), None)
    if found is None and path.is_file():
        suffixes = ", ".join(sorted((".parquet", *HDF5)))
        raise ValueError(f"{path} is not a recording: give a folder, or a file {suffixes}")
    if found is None and (video := _video_below(path)) is not None:
        raise ValueError(
            f"{path} has videos in its subfolders alone, such as {video.relative_to(path).as_posix()}: put the videos "
            "of all episodes, and the CSV files of their actions, at the top of one folder, under names that differ"
        )
    return found


def _video_below(folder: Path) -> Path | None:
    """A video in a subfolder, where no table lies beside."""
    files = visible((file for file in folder.rglob("*") if file.suffix.lower() in (*VIDEOS, *TABLES)), folder)
    tables = any(file.suffix.lower() in TABLES for file in files)
    return None if tables or not files else files[0]


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
    logger.info("%s is %s: its import is kept in %s", path, FORMATS[format].spoken, out)
    with FileLock(out.parent / "lock"):  # several ranks, or runs, want the same
        return import_dataset(format, path, out, mapping=mapping, largest=image_size, workers=workers)
