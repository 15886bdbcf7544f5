"""Recordings in another layout, opened like episodes of this package: imported once, and kept by content."""

import logging
from pathlib import Path

import datasets
from filelock import FileLock

from .importers import import_dataset
from .importers.mapping import ColumnMapping
from .importers.run import open_source
from .importers.source import content_sha256, sha256

logger = logging.getLogger(__name__)

IMPORTS = "lewm_imports"


def import_once(directory: Path, mapping: ColumnMapping, cache_dir: str | Path | None = None) -> Path:
    """Imports a LeRobot data set into a folder named after its content and the mapping, unless it is there.

    Args:
        directory: of the data set, version 2.0, 2.1 or 3.0, with pictures or videos.
        mapping: which camera and action, and how frames become square.
        cache_dir: the folder of that folder; default: the cache of `datasets`.

    Returns:
        A data set of this package, whose test split is a tenth of the episodes.

    Raises:
        See `import_dataset`.
    """
    source = open_source("lerobot", directory, mapping, None)
    try:
        key = sha256(content_sha256(source).encode(), source.mapping.as_dict())
    finally:
        source.close()
    root = Path(datasets.config.HF_DATASETS_CACHE if cache_dir is None else cache_dir) / IMPORTS
    # Named like the source, which its description and cards call it by.
    out = root / key[:16] / directory.resolve().name
    out.parent.mkdir(parents=True, exist_ok=True)
    logger.info("%s is a LeRobot data set: its import is kept in %s", directory, out)
    with FileLock(out.parent / "lock"):  # several ranks, or runs, want the same
        return import_dataset("lerobot", directory, out, mapping=mapping)
