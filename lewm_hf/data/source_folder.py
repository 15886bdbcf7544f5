"""Where the files of a data set lie: in a folder, or on the Hub, from where they are fetched."""

import re
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from .splits import described_splits
from .storage.dataset_card import DESCRIPTION_FILE, read_description
from .storage.layout import split_patterns
from .storage.parquet import read_metadata

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def source_folder(source: str | Path, split: str, revision: str | None) -> Path:
    """The directory of the data set, downloaded where it is a Hub id; a file is returned as it is.

    Args:
        source: directory, file or Hub id.
        split: of a data set of this package no other is downloaded.
        revision: branch, tag or commit of a Hub data set.

    Raises:
        FileNotFoundError: one line where it is none of them, or cannot be fetched.
    """
    path = Path(source)
    if path.exists():
        return path
    if not HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(f"there is no data set {source}: give a directory or a Hub id like org/name, or a file")
    download = {"repo_id": str(source), "repo_type": "dataset", "revision": revision}
    try:
        try:
            file = Path(hf_hub_download(filename=DESCRIPTION_FILE, **download))
            description = read_description(file.parent)
            described = described_splits(description)
            stored = "train" if split == "test" and described == ["train"] else split
            wanted = [DESCRIPTION_FILE, "README.md", *split_patterns(stored, description)]
        except EntryNotFoundError:
            wanted = None  # not of this package: its layout is for `datasets` to find out
        return Path(snapshot_download(allow_patterns=wanted, **download))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"there is no directory {source}, and the Hub data set cannot be fetched ({reason}): check the name, the "
            "revision and the network"
        ) from error


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
