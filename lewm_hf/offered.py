"""What installed packages offer to a register, by naming it in their metadata: an entry point of its group."""

import os
import sys
from functools import cache
from importlib.metadata import entry_points
from typing import Any

# What can be wrong with somebody else's module.
BROKEN = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, RuntimeError, OSError)


def offered_names(group: str) -> list[str]:
    """Names that installed packages offer in a group, sorted; nothing is imported for it.

    Reading what all packages say takes as long as a short plan: they are asked again where something was installed.
    """
    return list(_names(group, tuple((folder, _changed(folder)) for folder in sys.path)))


@cache
def _names(group: str, _folders: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    return tuple(sorted(set(entry_points(group=group).names)))


def _changed(folder: str) -> int:
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except OSError:
        return 0


def load_offered(group: str, name: str, kind: str) -> Any:
    """Imports what a package offers.

    Args:
        name: one of `offered_names`.
        kind: what it is, for messages: `"task"`.

    Raises:
        ImportError: one line where it cannot be imported.
    """
    (entry, *_) = entry_points(group=group, name=name)
    try:
        return entry.load()
    except BROKEN as error:
        raise ImportError(
            f"{kind} {name} of an installed package, {entry.value}, cannot be imported: "
            f"{' '.join(str(error).split())}; repair or uninstall the package"
        ) from error
