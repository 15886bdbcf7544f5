"""Uniform random actions: the floor under every success rate, and the policy behind the released Reacher episodes."""

from typing import Any

import numpy as np

from .action_vectors import draw_action


class RandomPolicy:
    """Draws every action uniformly from the environment's bounded action space."""

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        space = env.unwrapped.action_space
        if not space.is_bounded():
            raise ValueError(f"{space} has no bounds to draw random actions from: use another policy")
        self._space, self._rng = space, rng

    def act(self, env: Any) -> np.ndarray:
        return draw_action(self._space, self._rng)
