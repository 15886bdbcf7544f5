"""Which file of a data set holds what: LeRobot's names, and those that earlier versions gave.

Files are numbered within chunks of a thousand, and a split has chunks of its own, so that their order is that of the
rows. `episodes.json` says how many files a split has. Earlier versions said it in the names alone,
`data/train-00003-of-00005.parquet`, and so may a data set without that description.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILES_OF_A_CHUNK = 1000
SPLITS = ("train", "test")
# In `episodes.json`: files of each split.
FILES = "files"
_NUMBERED = re.compile(r"(?P<split>.+)-(?P<number>\d+)-of-(?P<total>\d+)\.parquet")
_PLACED = re.compile(r"data/chunk-(?P<chunk_index>\d+)/file-(?P<file_index>\d+)\.parquet")


def file_names(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Names of the files of each split, in the order of their rows.

    Args:
        counts: how many files each split has; `"train"` comes before `"test"`.
    """
    names: dict[str, list[str]] = {}
    chunk = 0
    for split in SPLITS:
        count = counts.get(split, 0)
        places = (divmod(number, FILES_OF_A_CHUNK) for number in range(count))
        names[split] = [DATA_PATH.format(chunk_index=chunk + more, file_index=file) for more, file in places]
        chunk += -(-count // FILES_OF_A_CHUNK)
    return names


def earlier_file_names(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Like `file_names`, as earlier versions named them."""
    return {
        split: [f"data/{split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
        for split, count in counts.items()
    }


def place(name: str) -> tuple[int, int]:
    """Chunk and number within it of a file that `file_names` named."""
    found = _PLACED.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is not a file of a data set in this layout: expected a name like {DATA_PATH}")
    return int(found["chunk_index"]), int(found["file_index"])


def split_files(directory: Path, description: Mapping[str, Any] | None) -> dict[str, list[Path]]:
    """Episode files that are there, by split, in order; splits without a file are left out.

    Args:
        directory: of a data set.
        description: the content of its `episodes.json`, where there is one.
    """
    if description is not None and FILES in description:
        found = {
            split: [directory / name for name in names if (directory / name).is_file()]
            for split, names in file_names(description[FILES]).items()
        }
    else:
        paths = sorted((directory / "data").glob("*.parquet"))
        splits = dict.fromkeys([*SPLITS, *(path.name.partition("-")[0] for path in paths)])
        found = {split: [path for path in paths if path.name.startswith(f"{split}-")] for split in splits}
    return {split: paths for split, paths in found.items() if paths}


def split_patterns(split: str, description: Mapping[str, Any] | None) -> list[str]:
    """Names, or patterns of them, of the files of a split: what is to be downloaded."""
    if description is not None and FILES in description:
        return file_names(description[FILES]).get(split, [])
    return [f"data/{split}-*"]


def viewer_patterns(splits: Iterable[str], description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same for a data set's card, as short as they can be told: `{"split": ..., "path": ...}` each."""
    if FILES not in description:
        return [{"split": split, "path": f"data/{split}-*"} for split in splits]
    names = file_names(description[FILES])
    chunks = {split: list(dict.fromkeys(name.rpartition("/")[0] for name in names[split])) for split in splits}
    patterns = {split: [f"{chunk}/*.parquet" for chunk in found] for split, found in chunks.items()}
    return [
        {"split": split, "path": found[0] if len(found) == 1 else found} for split, found in patterns.items() if found
    ]


def check_files(
    directory: Path, description: Mapping[str, Any] | None, splits: Iterable[str] | None, described: Iterable[str]
) -> None:
    """Whether all episode files are there, by their names alone.

    Args:
        directory, description: see `split_files`.
        splits: those to look at. Default: all.
        described: splits that have episodes by the description.

    Raises:
        ValueError: one line that names a missing file, or one that does not belong there.
    """
    if description is not None and FILES in description:
        expected = file_names(description[FILES])
    else:
        expected = _numbered(directory)
    there = {path.relative_to(directory).as_posix() for path in (directory / "data").rglob("*.parquet")}
    there = {name for name in there if not Path(name).name.startswith(".")}
    for split in dict.fromkeys([*described, *expected]) if splits is None else splits:
        names = expected.get(split, [])
        if split in described and not there.intersection(names):
            raise ValueError(
                f"{directory} lacks all {split} files, but the description counts {split} episodes: restore the files, "
                "or collect again"
            )
        if missing := [name for name in names if name not in there]:
            raise ValueError(
                f"{directory} lacks {len(missing)} of {len(names)} {split} files, such as {missing[0]}: restore them, "
                "or run the command that collects again"
            )
    strange = sorted(there.difference(*expected.values()))
    if strange and description is not None and FILES in description:
        raise ValueError(
            f"{directory} has {strange[0]}, which is not among its {sum(map(len, expected.values()))} files: take it "
            "away, or separate the data sets"
        )


def _numbered(directory: Path) -> dict[str, list[str]]:
    totals: dict[str, set[int]] = {}
    for path in (directory / "data").glob("*.parquet"):
        if found := _NUMBERED.fullmatch(path.name):
            totals.setdefault(found["split"], set()).add(int(found["total"]))
    for split, counts in totals.items():
        if len(counts) > 1:
            some = " and ".join(f"of {total}" for total in sorted(counts))
            raise ValueError(f"{directory} mixes {split} files numbered {some}: separate the data sets")
    return earlier_file_names({split: counts.pop() for split, counts in totals.items()})
