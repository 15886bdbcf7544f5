"""Folders of results: looked at before any work starts, and cleared of what an earlier run left."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...files import local_folder


def check_out(out: str | Path | None) -> None:
    """Refuses a place for results that cannot be one, before anything is computed for it.

    Raises:
        ValueError: where `out` or a folder above it is a file, nothing may be written there, or it is an address.
    """
    if out is None:
        return
    absolute = local_folder(out).absolute()
    existing = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"out={out} cannot be a folder, {existing} is a file: give another one")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"out={out} cannot be written, {existing} belongs to somebody else: give another folder")


def clear(out: str | Path, patterns: Iterable[str]) -> None:
    """Removes what an earlier run of the same command left in the folder, in this order."""
    for pattern in patterns:
        for path in Path(out).glob(pattern):
            path.unlink()


def read_object(path: str | Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        remedy: what to do where there is none.

    Raises:
        ValueError: one line for anything else in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers or nesting without end
        raise ValueError(f"{path} is not valid JSON ({error}): {remedy}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of an object: {remedy}")
    return content
