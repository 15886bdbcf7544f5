"""Cube's collector: OGBench's Markov oracle picks the cube up and places it, under noise drawn anew per episode."""

from typing import Any

import numpy as np

from ..mujoco_backend import mujoco_import

with mujoco_import("cube"):
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

NOISE = 0.1
# Per action dimension: x, y, z, yaw, gripper.
NOISE_SCALES = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
MIN_NORM = 0.4


class CubeExpert:
    """The noisy oracle behind the released episodes.

    Each episode draws its noise level xi ~ U(0, `noise`); an action is the oracle's plus Gaussian noise of standard
    deviation (xi, xi, xi, 3 xi, 10 xi), clipped to [-1, 1]. Having placed the cube and withdrawn, the oracle sets a new
    goal in the environment and goes on, so that one episode can hold several.

    Args:
        noise: upper end of the noise level.
        compat: keep the goal when the oracle has finished, as the reference does by mistake: the cube then stays where
            it is for the rest of the episode.

    Raises:
        ValueError: for a negative `noise`.
    """

    def __init__(self, noise: float = NOISE, compat: bool = False):
        if not noise >= 0:
            raise ValueError(f"noise={noise} must be 0 or more")
        self.noise = noise
        self.compat = compat

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        self._rng = rng
        self._level = rng.uniform(0.0, self.noise)
        self._oracle = _SeededOracle(env.unwrapped, rng)

    def act(self, env: Any) -> np.ndarray:
        env = env.unwrapped
        action = self._oracle.select_action(None, env.oracle_info())
        action = action + self._rng.normal(0.0, self._level * NOISE_SCALES)
        if self._oracle.done:
            # It also gives up after 200 steps; then the goal is still to be reached.
            if not self.compat and env.is_success():
                env.set_goal(env.sample_goal(self._rng))
            self._oracle = _SeededOracle(env, self._rng)
        return np.clip(action, -1.0, 1.0).astype(np.float32)


class _SeededOracle(CubeMarkovOracle):
    """The oracle with a generator of its own: OGBench's draws the final pose from NumPy's global one."""

    def __init__(self, env: Any, rng: np.random.Generator):
        super().__init__(env=env, min_norm=MIN_NORM)
        self._step = 0
        self._final_pos = rng.uniform(*env.effector_bounds)
        self._final_yaw = rng.uniform(-np.pi, np.pi)
