"""The Arrow copy of a data set that `datasets` makes and maps into memory, kept by content.

`datasets` recognizes files by path and modification time, so files that were replaced under the same name and with the
same time (as archives, reproducible images and object stores set it) would be answered with the rows of the old ones.
Here every copy lies in a folder that is named after the content of its files.
"""

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path

import datasets

from ...files import replacing

COPIES, DIGESTS = "lewm_episodes", "lewm_digests"


def load_files(paths: Sequence[Path], split: str, cache_dir: str | Path | None) -> tuple[datasets.Dataset, str]:
    """The rows of Parquet files, in this order, and the digest of the files' content."""
    digest, folder = _folder(paths, cache_dir)
    # `datasets` takes paths for patterns: `run[1]` would be `run1`.
    files = {split: [glob.escape(str(path)) for path in paths]}
    return datasets.load_dataset("parquet", data_files=files, split=split, cache_dir=str(folder)), digest


def load_folder(directory: Path, split: str, cache_dir: str | Path | None) -> tuple[datasets.Dataset, str, bool]:
    """A split of a folder whose layout is for `datasets` to find out, and the digest of the folder's content.

    The third value tells that these are all episodes, as there is no other split than `"train"`, which takes the place
    of `"test"` too.
    """
    digest, folder, plain = _readable(directory, cache_dir)
    whole = datasets.get_dataset_split_names(plain) == ["train"] and split in ("train", "test")
    split = "train" if whole else split
    return datasets.load_dataset(plain, split=split, cache_dir=str(folder)), digest, whole


def folder_splits(directory: Path, cache_dir: str | Path | None) -> list[str]:
    """Names of the splits that `datasets` finds in a folder."""
    return datasets.get_dataset_split_names(_readable(directory, cache_dir)[2])


def _readable(directory: Path, cache_dir: str | Path | None) -> tuple[str, Path, str]:
    """Digest of a folder's content, where its copy lies, and a name that `datasets` takes for this folder alone."""
    digest, folder = _folder(sorted(path for path in directory.rglob("*") if path.is_file()), cache_dir)
    if glob.escape(str(directory)) != str(directory):
        # The same files under a name without patterns, because there is no way to escape a folder's name. Not below
        # `folder`: there `datasets` puts its copies into a folder of that same name, and would read them as data next.
        directory = _mirror(directory, folder.with_name(f"{folder.name}-files"))
    return digest, folder, str(directory.absolute())  # `csv` alone would be a kind of file


def _mirror(directory: Path, mirror: Path) -> Path:
    for path in directory.rglob("*"):
        link = mirror / path.relative_to(directory)
        if path.is_file():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
    return mirror


def _folder(paths: Sequence[Path], cache_dir: str | Path | None) -> tuple[str, Path]:
    root = Path(datasets.config.HF_DATASETS_CACHE if cache_dir is None else cache_dir)
    digest = content_digest(paths, root / DIGESTS)
    return digest, root / COPIES / digest[:32]


def content_digest(paths: Sequence[Path], notes: Path) -> str:
    """SHA-256 over the content of files, in this order.

    Files that nobody has touched since are not read again. The time of the last change of status (`st_ctime`) tells:
    unlike the modification time, no program can set it.

    Args:
        notes: folder where the digest is noted down.
    """
    known = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        seen = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        known.update(f"{path.resolve()}|{seen}\n".encode())
    note = notes / known.hexdigest()
    if note.is_file():
        return note.read_text(encoding="ascii")
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    with replacing(note) as temporary:
        temporary.write_text(digest.hexdigest(), encoding="ascii")
    return digest.hexdigest()
