"""Numbers as Python has them, out of those that arrays and other libraries hand out."""

import dataclasses
import numbers
import operator
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def plain(value: Any) -> Any:
    """The same number as `int`, `float` or `bool`; a list, tuple or dictionary of such; anything else as it is.

    Settings are compared, hashed, and written as JSON and YAML, which know no other numbers: `np.int64(8)`,
    `np.float32(0.5)` and `torch.tensor(8)` mean what they say. What is no number, and a whole number that has a
    fraction, stays what it is, so that whoever checks it refuses it under the name that it was given.

    Args:
        value: anything; arrays count as numbers where they have no dimension.
    """
    if type(value) in (int, float, bool, str):
        return value
    if hasattr(value, "ndim") and hasattr(value, "item"):  # of whatever library
        return value.item() if value.ndim == 0 else value
    if type(value) in (list, tuple):
        found = [plain(one) for one in value]
        return value if all(one is given for one, given in zip(found, value, strict=True)) else type(value)(found)
    if type(value) is dict:
        return {name: plain(one) for name, one in value.items()}
    if hasattr(type(value), "__index__"):
        return int(operator.index(value))
    return float(value) if isinstance(value, numbers.Real) else value


def make_plain(settings: Any) -> None:
    """Puts `plain` numbers into all fields of a dataclass, frozen or not: for the start of its `__post_init__`."""
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        changed = plain(value)
        if changed is not value:
            object.__setattr__(settings, entry.name, changed)


def plain_fields(kind: type[Kind]) -> type[Kind]:
    """Decorates a class that checks what is assigned to its fields, such as a `strict` configuration: it then sees
    `plain` numbers."""
    assign = kind.__setattr__

    def assign_plain(self: Any, name: str, value: Any) -> None:
        assign(self, name, plain(value))

    kind.__setattr__ = assign_plain  # type: ignore[method-assign]
    return kind
