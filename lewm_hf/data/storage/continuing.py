"""Continuing a data set that was begun before: what is there already, and whether it is the same data set."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .dataset_card import read_description
from .parquet import read_metadata

logger = logging.getLogger(__name__)


def known_description(out: Path) -> dict[str, Any] | None:
    """What `episodes.json` of a data set says that was begun in `out`; `None` where `out` is new or empty.

    Raises:
        ValueError: one line where `out` is a file, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a directory")
    known = read_description(out) if out.exists() else None
    if known is None and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no collection: give a new or empty directory")
    return known


def check_same(out: Path, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses to mix two data sets.

    Raises:
        ValueError: one line, naming the first argument that differs.
    """
    # Collections of older versions say nothing of `every`.
    flat = [{"every": 1, **content, **content["collector"], **content["env_kwargs"]} for content in (known, wanted)]
    for name in dict.fromkeys([*flat[1], *flat[0]]):
        if name in ("versions", "collector", "env_kwargs", "splits", "action_mean", "action_std", "action_dim"):
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


def is_complete(path: Path) -> bool:
    """Whether an episode file is there and readable; a damaged one is logged, to be made again."""
    if not path.exists():
        return False
    try:
        return read_metadata(path).num_rows > 0
    except ValueError as error:
        logger.warning("collecting a damaged file again: %s", error)
        return False
