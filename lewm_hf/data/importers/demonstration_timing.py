"""Whether the action beside a picture leaves it or led to it, which demonstrations do not say in words.

robomimic stores an action beside what was seen before it. LIBERO's `create_dataset.py` stores it beside what was seen
after it: there the action that leaves a row stands in the next.
"""

from collections.abc import Sequence

import numpy as np

from .demonstrations import CONVENTION, Demo, attribute

STATES = "states"
# What the robot's joints are called in `obs`: by LIBERO, by robosuite.
JOINTS = ("joint_states", "robot0_joint_pos")
# How many times nearer the joints must be to the states of one row than to those of the other.
CLEARLY = 4.0


def action_shift(demos: Sequence[Demo]) -> int:
    """How many rows after the one it leaves an action stands in these demonstrations of one file: 0 or 1.

    It is measured where one has joints and states, see `seen_shift`. Else the attribute `macros_image_convention` is
    taken for LIBERO's signature: robomimic's files do not have it.
    """
    seen = (seen_shift(demo) for demo in demos)
    shift = next((one for one in seen if one is not None), None)
    return int(attribute(demos[0].file, CONVENTION) is not None) if shift is None else shift


def seen_shift(demo: Demo) -> int | None:
    """Whether the joints in `obs` are those of `states` in the same row, 0, or in the next, 1.

    Both write the simulator's states as they are before the row's action. A state of robosuite is the time, then the
    positions, of which the robot's joints come first.

    Returns:
        `None` where that cannot be told: one of them is missing, or nothing moves.
    """
    joints = next((name for name in JOINTS if name in demo.columns), None)
    if joints is None or STATES not in demo.columns:
        return None
    kinds = demo.columns[joints], demo.columns[STATES]
    if not all(kind.is_numbers and len(kind.shape) == 2 for kind in kinds) or kinds[0].shape[0] != kinds[1].shape[0]:
        return None
    rows, width = kinds[0].shape
    if rows < 2 or kinds[1].shape[1] <= width:
        return None
    seen, states = demo.read(joints), demo.read(STATES)[:, 1 : 1 + width]
    same, later = np.abs(seen[:-1] - states[:-1]).mean(), np.abs(seen[:-1] - states[1:]).mean()
    near, far = min(same, later), max(same, later)
    return int(later < same) if far > CLEARLY * near else None
