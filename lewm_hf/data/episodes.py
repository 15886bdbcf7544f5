"""`load_episodes`: whatever holds episodes, opened as `EpisodeData`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.exceptions import DatasetGenerationError

from ..files import is_address
from .episode_data import EpisodeData
from .frame_column import Decoder
from .schema import ACTION, IMAGE
from .source_folder import check_files, source_folder
from .splits import described_splits, part_of_train
from .stated import check_statistics
from .storage.arrow_copies import load_files, load_folder
from .storage.dataset_card import check_complete, read_description
from .storage.encoding import decode
from .storage.layout import split_files
from .storage.parquet import read_metadata
from .storage.remote import RemoteFolder

__all__ = ["COLUMN_KEYS", "EpisodeData", "load_episodes"]

# Arguments of `load_episodes` that say how a recording is read.
COLUMN_KEYS = ("image_key", "action_key", "action_choices", "episode_key", "fps", "fit")


def load_episodes(
    source: str | Path,
    split: str = "train",
    revision: str | None = None,
    *,
    image_key: str | Sequence[str] | None = None,
    action_key: str | Sequence[str] | None = None,
    action_choices: Sequence[int] | None = None,
    episode_key: str | None = None,
    fps: float | None = None,
    fit: str | None = None,
    image_size: int | None = None,
    if_needed: bool = False,
    decode: Decoder = decode,
    cache_dir: str | Path | None = None,
) -> EpisodeData:
    """Opens a data set of this package, or a recording in another layout: a directory, a file, or what is elsewhere.

    Recordings are LeRobot data sets, folders of videos with their numbers in CSV files, HDF5 files (demonstrations of
    robomimic and LIBERO too), Lance tables, and whatever table `datasets` loads. One whose columns are not called and
    ordered as here is imported first, once; see `import_once`.

    Args:
        source: directory, Parquet or HDF5 file, Hub id, or the address of a directory that fsspec knows
            (`"s3://bucket/set"`), of which a copy is kept here as of a Hub data set.
        split: `"train"`, `"test"` or whatever the data set has. One that has `"train"` alone is divided: its last
            tenth of episodes is `"test"`, and `"train"` is the rest.
        revision: branch, tag or commit of a Hub data set.
        image_key: of a recording: the image column, or several, whose pictures are put side by side; a LeRobot data
            set with one camera needs none, and `top` is short for `observation.images.top`.
        action_key: of a recording: another column than `action`, or several, which are joined.
        action_choices: of a recording whose actions are choices: how many values each has; its columns hold their
            numbers, counted from 0, or a 1 among zeros for each choice.
        episode_key: of a table, or of videos with one CSV file: the column that tells episodes apart.
        fps: of a recording that does not tell it: frames per second.
        fit: of a recording: `"crop"`, `"pad"` or `"stretch"` makes frames square.
        image_size: of a recording with `fit`: larger frames are kept at this side.
        if_needed: pass over these arguments where the data set is one of this package, instead of refusing them.
        decode: turns the bytes of one frame into `(H, W, 3)` uint8.
        cache_dir: where `datasets` keeps its Arrow copy, and what was copied from an address; default: its own cache.

    Raises:
        FileNotFoundError: one line where `source` or the split does not exist.
        OSError, ImportError: one line where an address is out of reach, or its library is missing.
        ValueError: one line for missing, damaged or contradictory files; see `EpisodeData`.
    """
    directory = source_folder(source, split, revision, cache_dir)
    # The Hub's cache names the folder of a snapshot after its commit, whatever branch or tag was asked for.
    commit = None if is_address(source) or Path(source).exists() else directory.name
    if is_address(source):
        source = str(RemoteFolder(str(source)))  # which says no password
    given = zip(COLUMN_KEYS, (image_key, action_key, action_choices, episode_key, fps, fit), strict=True)
    named = [name for name, value in given if value is not None]
    description = read_description(directory) if directory.is_dir() else None
    if description is None:
        images = _names(image_key)
        columns = {
            "image": images[0] if len(images) == 1 else images or None, "action": _names(action_key),
            "action_choices": tuple(action_choices or ()), "episode": episode_key, "fps": fps, "fit": fit,
        }  # fmt: skip
        directory = _imported(directory, columns, bool(named), image_size, cache_dir)
        description = read_description(directory) if directory.is_dir() else None
    elif named and not if_needed:
        raise ValueError(
            f"{source} is a data set of this package, whose columns are known: omit {', '.join(named)}, which "
            "are for recordings"
        )
    return _opened(source, directory, description, split, decode, commit, cache_dir)


def _imported(
    directory: Path, columns: Mapping[str, Any], named: bool, image_size: int | None, cache_dir: str | Path | None
) -> Path:
    """The folder of a recording's import, made where there is none yet; `directory` itself where it is readable as it
    is.

    Args:
        columns: fields of `ColumnMapping`; `named`: whether one of them was given.
    """
    from .importers.mapping import ColumnMapping
    from .recordings import import_once, recording_format  # which needs what reads those formats

    format = recording_format(directory) or (None if _is_ready(directory) and not named else "table")
    if format is None:
        return directory
    return import_once(format, directory, ColumnMapping(**columns), cache_dir, image_size=image_size)


def _opened(
    source: str | Path,
    directory: Path,
    description: dict[str, Any] | None,
    split: str,
    decode: Decoder,
    commit: str | None,
    cache_dir: str | Path | None,
) -> EpisodeData:
    """A split of a folder whose columns are this package's.

    Args:
        source: what the user calls it.
        description: content of the folder's `episodes.json`, where it has one.
        commit: of a Hub data set.
    """
    there = split_files(directory, description) if directory.is_dir() else {}
    found = sorted(there)
    part = found == ["train"] and "test" not in described_splits(description) and split in ("train", "test")
    stored = "train" if part else split
    files = there.get(stored, [])
    if description is not None and not files:
        raise FileNotFoundError(
            f"{source} has no split {split!r}: " + (f"it has {', '.join(found)}" if found else "collect episodes first")
        )
    if files:
        check_complete(directory, description, [stored])
    check_files(files or _parquet_files(directory))
    try:
        if files:
            dataset, digest = load_files(files, stored, cache_dir)
        else:
            dataset, digest, part = load_folder(directory, split, cache_dir)
    except DatasetGenerationError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(f"{source} cannot be read ({cause}): collect or download it again") from error
    if part:
        dataset = part_of_train(dataset, split, str(source))
    episodes = EpisodeData(dataset, split, description, IMAGE, decode, str(source), commit, digest)
    if description is not None:
        check_statistics(directory, description, episodes)
    return episodes


def _names(key: str | Sequence[str] | None) -> tuple[str, ...]:
    """`"top,wrist"` or a list -> names."""
    names = key.split(",") if isinstance(key, str) else key or ()
    return tuple(name.strip() for name in names)


def _is_ready(directory: Path) -> bool:
    """Whether the Parquet files of a folder have this package's columns, so that nothing need be imported."""
    files = _parquet_files(directory)
    if not files:
        return False
    names = read_metadata(files[0]).schema.to_arrow_schema().names
    return {"episode_index", ACTION, IMAGE} <= set(names)


def _parquet_files(directory: Path) -> list[Path]:
    """Those that `datasets` would read: none of hidden files and folders."""
    files = (file.relative_to(directory) for file in directory.rglob("*.parquet"))
    return sorted(directory / file for file in files if not any(part.startswith(".") for part in file.parts))
