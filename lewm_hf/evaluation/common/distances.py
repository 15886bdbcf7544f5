"""How far a state is from a goal, in the terms of the task: what a latent distance should rank alike."""

from collections.abc import Mapping

import numpy as np

from ...tasks.two_room.world import WALL_CENTER

POSITION_TOLERANCE, ANGLE_TOLERANCE = 20.0, np.pi / 9


def task_distance(name: str, env, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Distance of each state from its goal, `(n, state)` twice -> `(n,)`; its unit is in `UNITS`.

    Args:
        name: short name of the environment.
        env: an instance of it.
    """
    return _DISTANCES[name](env, np.asarray(states, dtype=np.float64), np.asarray(goals, dtype=np.float64))


def _two_room(env, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    across = env.layout.across
    same = (states[:, across] < WALL_CENTER) == (goals[:, across] < WALL_CENTER)
    straight = np.linalg.norm(states - goals, axis=1)
    around = [0.0 if alike else env.layout.path_length(s, g) for alike, s, g in zip(same, states, goals, strict=True)]
    return np.where(same, straight, around)


def _push_t(env, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    position = np.linalg.norm(states[:, :4] - goals[:, :4], axis=1) / POSITION_TOLERANCE
    angle = np.abs((states[:, 4] - goals[:, 4] + np.pi) % (2 * np.pi) - np.pi) / ANGLE_TOLERANCE
    return np.hypot(position, angle)


def _reacher(env, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    return np.linalg.norm(env.joint_errors(states, goals), axis=1)


def _cube(env, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    return np.linalg.norm(states[:, 14:17] - goals[:, 14:17], axis=1)


_DISTANCES = {"two_room": _two_room, "push_t": _push_t, "reacher": _reacher, "cube": _cube}
UNITS: Mapping[str, str] = {
    "two_room": "px, through the door where it is in the way",
    "push_t": "tolerances: positions in 20 px, block angle in 20 degrees",
    "reacher": "rad, both joints",
    "cube": "m, of the cube",
}
