"""Where the files of a data set lie: in a folder, or on the Hub, from where they are fetched."""

import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from ..files import is_address
from .splits import described_splits
from .storage.dataset_card import CARD_FILE, DESCRIPTION_FILE, read_description
from .storage.layout import split_patterns
from .storage.parquet import read_metadata
from .storage.remote import RemoteFolder

# Below the cache of `datasets`.
FETCHED = "lewm_fetched"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def source_folder(source: str | Path, split: str, revision: str | None, cache_dir: str | Path | None = None) -> Path:
    """The directory of the data set, downloaded where it is elsewhere; a file is returned as it is.

    Args:
        source: directory, file, Hub id, or the address of a directory that fsspec knows.
        split: of a data set of this package no other is downloaded.
        revision: branch, tag or commit of a Hub data set.
        cache_dir: where what comes from an address is kept; default: the cache of `datasets`.

    Raises:
        FileNotFoundError: one line where it is none of them, or cannot be fetched from the Hub.
        OSError, ValueError, ImportError: one line where an address cannot be read, or is of an unknown kind.
    """
    if is_address(source):
        if revision is not None:
            raise ValueError(f"revision={revision} is of a data set on the Hub, which has no address: omit it")
        return _fetched(RemoteFolder(str(source)), split, cache_dir)
    path = Path(source)
    if path.exists():
        return path
    if not HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(
            f"there is no data set {source}: give a directory or a Hub id like org/name, or a file, or an address"
        )
    download = {"repo_id": str(source), "repo_type": "dataset", "revision": revision}
    try:
        try:
            file = Path(hf_hub_download(filename=DESCRIPTION_FILE, **download))
            wanted = _wanted(read_description(file.parent), split)
        except EntryNotFoundError:
            wanted = None  # not of this package: its layout is for `datasets` to find out
        return Path(snapshot_download(allow_patterns=wanted, **download))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"there is no directory {source}, and the Hub data set cannot be fetched ({reason}): check the name, the "
            "revision and the network"
        ) from error


def _wanted(description: Mapping[str, Any] | None, split: str) -> list[str]:
    """Patterns of the files that one split takes, of a data set with this description."""
    stored = "train" if split == "test" and described_splits(description) == ["train"] else split
    return [DESCRIPTION_FILE, CARD_FILE, *split_patterns(stored, description)]


def _fetched(remote: RemoteFolder, split: str, cache_dir: str | Path | None) -> Path:
    """A copy on this machine, of what is there now; what was copied before is not copied again."""
    if remote.local is not None:
        return source_folder(remote.local, split, None)
    there = remote.files()
    if not there:
        raise FileNotFoundError(f"there is no data set at {remote}: check the address, which must be a directory's")
    version = json.dumps([str(remote), there], sort_keys=True, default=str)
    key = hashlib.sha256(version.encode()).hexdigest()[:16]
    root = Path(datasets.config.HF_DATASETS_CACHE if cache_dir is None else cache_dir) / FETCHED
    folder = root / key / remote.name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / "lock"):  # several ranks, or runs, want the same
        names = list(there)
        if DESCRIPTION_FILE in there:
            _copy(remote, [DESCRIPTION_FILE], folder)
            patterns = _wanted(read_description(folder), split)
            names = [name for name in there if any(fnmatchcase(name, pattern) for pattern in patterns)]
        _copy(remote, names, folder)
    return folder


def _copy(remote: RemoteFolder, names: list[str], folder: Path) -> None:
    for name in names:
        if not (folder / name).is_file():
            remote.download(name, folder / name)


def _short(path: Path) -> str:
    """Files of several folders may have one name."""
    return f"{path.parent.name}/{path.name}"


def check_files(paths: list[Path]) -> None:
    """Refuses damaged files and files that do not fit together, before `datasets` copies the first."""
    first = None
    for path in paths:
        fields = {field.name: field.type for field in read_metadata(path).schema.to_arrow_schema()}
        if first is None:
            first = path, fields
        for name in first[1].keys() | fields.keys():
            here, there = fields.get(name), first[1].get(name)
            if here != there:
                raise ValueError(
                    f"column {name!r} is {here} in {_short(path)}, but {there} in {_short(first[0])}: the files belong "
                    "to different data sets; separate them"
                )
