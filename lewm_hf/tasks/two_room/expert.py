"""TwoRoom's collector: walk to the door, then to the goal, under noise twice as strong as the signal.

The released episodes come from this policy. With a noise std of 2 on a unit direction, clipped to [-1, 1], it drifts
like a random walk and covers both rooms; with 0 it solves every problem.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..rollout import Rollout, reset_episode
from .world import WALL_CENTER, Layout, move_all

DOOR_TOLERANCE = 10.5
NOISE_STD = 2.0


class TwoRoomExpert:
    """The noisy heuristic policy.

    Args:
        noise_std: standard deviation of the Gaussian noise added to each dimension of the unit direction.

    Raises:
        ValueError: for a negative `noise_std`.
    """

    def __init__(self, noise_std: float = NOISE_STD):
        if not noise_std >= 0:
            raise ValueError(f"noise_std={noise_std} must be 0 or more")
        self.noise_std = noise_std

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, env: Any) -> np.ndarray:
        env = env.unwrapped
        noise = self._rng.normal(0.0, self.noise_std, 2)
        return _with_noise(directions(env.get_state()[None], env.goal_state[None], env.layout), noise[None])[0]

    def roll_out_many(self, env: Any, rngs: Sequence[np.random.Generator], max_steps: int) -> list[Rollout] | None:
        """See `BatchedExpert`; a subclass may act otherwise, and other physics are not a formula."""
        if type(self) is not TwoRoomExpert or env.unwrapped.physics != "reference":
            return None
        return roll_out_many(env, rngs, max_steps, self.noise_std)


def directions(positions: np.ndarray, goals: np.ndarray, layout: Layout) -> np.ndarray:
    """Unit vectors `(n, 2)` from `positions` (n, 2) towards the next waypoint on the way to `goals` (n, 2).

    The waypoint is the goal, unless it lies in the other room and the nearest fitting door's center is more than 10.5
    px away: then that center. Without a fitting door it is the point of the wall opposite to the goal.
    """
    across, along = layout.across, 1 - layout.across
    other_room = (positions[:, across] > WALL_CENTER) != (goals[:, across] > WALL_CENTER)
    doors = np.array([layout.point(WALL_CENTER, center) for center, _ in layout.fitting_doors()])
    if len(doors):
        distances = np.sqrt(np.square(doors - positions[:, None]).sum(-1))
        stops = doors[distances.argmin(1)]
        far = distances.min(1) > DOOR_TOLERANCE
    else:
        stops = np.empty_like(goals)
        stops[:, across], stops[:, along] = WALL_CENTER, goals[:, along]
        far = True
    ways = np.where((other_room & far)[:, None], stops, goals) - positions
    lengths = np.sqrt(np.square(ways).sum(1, keepdims=True))
    return np.divide(ways, lengths, out=np.zeros_like(ways), where=lengths > 1e-8)


def _with_noise(unit: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.clip(unit + noise, -1.0, 1.0).astype(np.float32)


def roll_out_many(
    env: Any, rngs: Sequence[np.random.Generator], max_steps: int = 100, noise_std: float = NOISE_STD
) -> list[Rollout]:
    """Many expert episodes at once, each equal to `roll_out(env, TwoRoomExpert(noise_std), rng, max_steps)`.

    Args:
        env: a `TwoRoomEnv` with the reference's physics; it only samples the tasks.
        rngs: one generator per episode.

    Raises:
        ValueError: for an environment with other physics.
    """
    env = env.unwrapped
    if env.physics != "reference":
        raise ValueError(f"physics={env.physics!r} is not batched: use roll_out for each episode")
    count = len(rngs)
    states = np.empty((count, max_steps + 1, 2))
    actions = np.empty((count, max_steps, 2), dtype=np.float32)
    success = np.zeros((count, max_steps + 1), dtype=bool)
    goals, noise = np.empty((count, 2)), np.empty((count, max_steps, 2))
    for index, rng in enumerate(rngs):
        reset_episode(env, rng)
        states[index, 0], goals[index] = env.get_state(), env.goal_state
        noise[index] = rng.normal(0.0, noise_std, (max_steps, 2))
    success[:, 0] = env.reached(states[:, 0], goals)
    steps = np.zeros(count, dtype=int)
    for step in range(max_steps):
        running = np.flatnonzero(~success[np.arange(count), steps])
        if not len(running):
            break
        here = states[running, step]
        chosen = _with_noise(directions(here, goals[running], env.layout), noise[running, step])
        actions[running, step] = chosen
        states[running, step + 1] = move_all(here, chosen.astype(np.float64), env.layout)
        success[running, step + 1] = env.reached(states[running, step + 1], goals[running])
        steps[running] = step + 1
    return [
        Rollout(
            states=states[index, : length + 1].copy(),
            actions=actions[index, :length].copy(),
            goal=goals[index].copy(),
            success=success[index, : length + 1].copy(),
            observations=states[index, : length + 1].astype(np.float32),
        )
        for index, length in enumerate(steps)
    ]
