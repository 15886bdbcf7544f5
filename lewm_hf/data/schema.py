"""What one row of an episode data set holds: one frame, in LeRobot's column names, plus what restores the simulator.

An episode of T steps has T + 1 rows. Row t holds what is seen before step t and the action that leaves it; no action
leaves the last row, whose `action` is NaN. `next.success` tells whether the goal is reached after the row's action, in
the last row whether it is reached there. Rows are in episode order, episodes are whole and never interleaved.

A data set may keep every n-th step only. Its rows are n steps apart, and `action` is the block of the n actions that
lead from a row to the next, flattened; `next.success` then tells whether the goal is reached within these n steps, in
the last row whether it is reached there or within the steps after it, which are not kept.
"""

from collections.abc import Mapping

from datasets import Features, Image, List, Value

IMAGE = "observation.image"
STATE = "observation.state"
ACTION = "action"
TASK = "task_index"
SUCCESS = "next.success"
SIM_STATE = "sim.state"
SIM_GOAL = "sim.goal"


def episode_features(
    action_dim: int,
    state_dim: int | None,
    observation_dim: int | None,
    goal: bool = True,
    success: bool = True,
    kept: Mapping[str, int] | None = None,
) -> Features:
    """The schema of a data set. Collected episodes have every column; imported ones lack what their source lacks.

    Args:
        action_dim: size of what leaves a row: one raw action, or a block of them.
        state_dim: size of the simulator's state vector, which `set_state` takes; `None` leaves the column out.
        observation_dim: size of the state vector that the environment shows; `None` leaves the column out.
        goal, success: whether these are known.
        kept: further columns of numbers by name, and how many a row has.
    """
    features = Features(
        {
            "episode_index": Value("int64"),
            "frame_index": Value("int64"),
            "index": Value("int64"),
            TASK: Value("int64"),
            "timestamp": Value("float32"),
            # Palette images would reach their reader as indices without a mode.
            IMAGE: Image(mode="RGB"),
            STATE: _vector("float32", observation_dim),
            ACTION: _vector("float32", action_dim),
            "next.done": Value("bool"),
            SUCCESS: Value("bool"),
            SIM_STATE: _vector("float64", state_dim),
            SIM_GOAL: _vector("float64", state_dim),
        }
    )
    known = {
        STATE: observation_dim is not None,
        SUCCESS: success,
        SIM_STATE: state_dim is not None,
        SIM_GOAL: goal and state_dim is not None,
    }
    more = {name: _vector("float64", size) for name, size in (kept or {}).items()}
    return Features({name: feature for name, feature in features.items() if known.get(name, True)} | more)


def _vector(dtype: str, size: int | None) -> Value | List:
    """A vector of one number is that number, as LeRobot has it."""
    return Value(dtype) if size == 1 else List(Value(dtype), length=size)


COLUMN_MEANINGS = {
    "episode_index": "number of the episode, over all splits",
    "frame_index": "row within the episode, from 0",
    "index": "row within the data set, over all splits",
    TASK: "row of `meta/tasks.parquet`, which says in words what the episode is for",
    "timestamp": "seconds since the episode's first row",
    IMAGE: "the frame, lossless",
    STATE: "what the environment reports of its state",
    ACTION: "the action that leaves this row, in environment units; NaN in an episode's last row",
    "next.done": "this is the episode's last row",
    SUCCESS: "the goal is reached after this row's action; in the last row: is reached there",
    SIM_STATE: "state vector of the simulator, enough to restore this row",
    SIM_GOAL: "state vector of the goal pursued at this row",
}
# Where a row is followed by more than one simulator step.
BLOCK_MEANINGS = {
    ACTION: "the {every} actions that lead from this row to the next, flattened, in environment units; NaN in an "
    "episode's last row",
    SUCCESS: "the goal is reached within the {every} steps after this row; in the last row: there, or in the "
    "steps after it, which are not kept",
}
