"""What a class's docstring says of its fields, for the help of commands that take them."""

import inspect
import re
from typing import Any

_ENTRY = re.compile(r"    (\w+(?:, \w+)*):(?: (.*))?")


def field_meanings(kind: Any) -> dict[str, str]:
    """Meaning of each field by its name, from the sections `Args:` of a class and of those that it is derived from.

    An entry may be about several fields, `predictor_heads, predictor_head_dim: ...`, which then share its text. What a
    derived class says counts before what it inherits, unless it only points there ("see `LeWMConfig`").

    Args:
        kind: a class whose docstrings have their entries indented by four spaces, what continues one by more.
    """
    found: dict[str, str] = {}
    for parent in kind.__mro__:
        for name, text in _entries(inspect.cleandoc(vars(parent).get("__doc__") or "")).items():
            if name not in found or found[name].startswith("see `"):
                found[name] = text
    return found


def _entries(docstring: str) -> dict[str, str]:
    lines = iter(docstring.partition("Args:\n")[2].splitlines())
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in lines:
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= {name: [entry[2]] if entry[2] else [] for name in names}
        elif line.startswith("     "):
            for name in names:
                found[name].append(line.strip())
        elif line.strip():
            break
    return {name: " ".join(parts) for name, parts in found.items()}
