"""Continuing a data set that was begun before: what is there already, and whether it is the same data set."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ...files import only_one
from ..schema import TASK
from .dataset_card import read_description
from .layout import FILES
from .licenses import LICENSE_KEYS
from .parquet import collection_key, read_metadata

logger = logging.getLogger(__name__)

_LOCK = ".lewm-{part}-of-{parts}.lock"
_NOT_ARGUMENTS = (
    "versions", "collector", "env_kwargs", "splits", "action_mean", "action_std", "action_dim", "action_bounds",
    "format", "files", *LICENSE_KEYS,
)  # fmt: skip
# What a command that was killed early leaves in an otherwise empty folder.
_LEFT_BEHIND = re.compile(r"\.lewm-.*\.lock|\.episodes\.json\..*\.(tmp|lock)")


def known_description(out: Path) -> dict[str, Any] | None:
    """What `episodes.json` of a data set says that was begun in `out`; `None` where `out` is new or empty.

    Raises:
        ValueError: one line where `out` is a file, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a directory")
    known = read_description(out) if out.exists() else None
    if known is None and out.exists() and not all(_LEFT_BEHIND.fullmatch(path.name) for path in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no collection: give a new or empty directory")
    return known


def check_same(out: object, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses to mix two data sets.

    Args:
        out: what messages call the place of the data set.
        known: what its description says.
        wanted: what it would say of what was asked for.

    Raises:
        ValueError: one line, naming the first argument that differs.
    """
    # Collections of older versions say nothing of `every`.
    flat = [{"every": 1, **content, **content["collector"], **content["env_kwargs"]} for content in (known, wanted)]
    for content in flat:  # nor of tasks
        if "columns" in content:
            content["columns"] = [name for name in content["columns"] if name != TASK]
    for name in dict.fromkeys([*flat[1], *flat[0]]):
        if name in _NOT_ARGUMENTS:
            continue
        there, here = (values.get(name) for values in flat)
        if there != here:
            raise ValueError(
                f"{out} was collected with {name}={there!r}, not {here!r}: repeat the arguments, or give another "
                "directory"
            )
    if known["versions"] != wanted["versions"]:
        logger.warning(
            "%s was begun with %s, this is %s: frames or motion may differ in the last bit",
            out, known["versions"], wanted["versions"],
        )  # fmt: skip


def check_layout(out: object, known: Mapping[str, Any]) -> None:
    """Refuses to go on with what an earlier version began, whose files have other names and columns.

    Raises:
        ValueError: one line.
    """
    if FILES not in known:
        made_by = known["versions"].get("lewm-hf", "an earlier one")
        raise ValueError(
            f"{out} was begun by lewm-hf {made_by}, which laid out files in another way, and is not finished: finish "
            "it with that version, or give another directory"
        )


def is_complete(path: Path, key: str) -> bool:
    """Whether an episode file is there and readable; a damaged one is logged, to be made again.

    Args:
        key: of the collection or import that the file has to be of; files of older versions have none.

    Raises:
        ValueError: one line where it is of another one, which is not for us to replace.
    """
    if not path.exists():
        return False
    try:
        metadata = read_metadata(path)
    except ValueError as error:
        logger.warning("collecting a damaged file again: %s", error)
        return False
    return complete_by(path, metadata, key)


def complete_by(name: str | Path, footer: pq.FileMetaData | None, key: str) -> bool:
    """Whether an episode file is complete by what stands at its end; `None` where that is damaged.

    Raises:
        ValueError: one line where it is of another collection, which is not for us to replace.
    """
    if footer is None:
        logger.warning("collecting a damaged file again: %s", name)
        return False
    found = collection_key(footer)
    if found not in (None, key):
        raise ValueError(
            f"{name} was collected with other arguments than the rest of the data set: move it away, or give another "
            "directory"
        )
    return footer.num_rows > 0


@contextmanager
def at_work(out: Path, part: int = 0, parts: int = 1) -> Iterator[None]:
    """Refuses a second command that would write the same files of `out`; other shards may be at work beside this one.

    Raises:
        OSError: one line, see `only_one`.
    """
    with ExitStack() as held:
        held.enter_context(only_one(out / _LOCK.format(part=part, parts=parts)))
        for other in out.glob(_LOCK.format(part="*", parts="*")):
            # Shards of another division overlap with this one.
            if not other.name.endswith(f"-of-{parts}.lock"):
                held.enter_context(only_one(other))
        yield


def finishing(out: Path) -> AbstractContextManager[None]:
    """One shard finishes the data set; another that wants to waits, and finds it done."""
    return only_one(out / ".lewm-finish.lock", wait=True)
