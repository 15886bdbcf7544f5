"""How far to look ahead: when the goal is due, no further than that."""

import math
from typing import Any

from ..plain_numbers import plain

# Measured on PushT: a single block leaves the search no room to correct itself. Reacher wants it: `goal-time-close`.
SHORTEST = 2
RULES = ("fixed", "goal-time")


def blocks_until(steps_left: int, frameskip: int) -> int:
    """Whole action blocks that cover `steps_left` environment steps; 0 once the time is over."""
    return max(0, math.ceil(steps_left / frameskip))


def horizon_until(blocks_left: int, longest: int, shortest: int) -> int:
    """Blocks to plan when the goal is due in `blocks_left`: as many, but at least `shortest` and at most `longest`."""
    return min(longest, max(blocks_left, shortest))


def check_steps_left(steps_left: Any) -> int | None:
    """Environment steps until the goal is due, or `None`.

    Raises:
        ValueError: for other than a whole number of at least 0.
    """
    if steps_left is None:
        return None
    number = plain(steps_left)
    # A number of an array may be kept as a float beside others; one that is written down as 2.5 or 2.0 is a mistake.
    whole = type(number) is int or (type(number) is float and type(steps_left) is not float and number.is_integer())
    if not whole or number < 0:
        raise ValueError(f"steps_left={steps_left!r} must be a whole number of environment steps, at least 0, or None")
    return int(number)
