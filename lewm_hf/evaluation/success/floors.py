"""The floors under every success rate: what blind policies reach on the same pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from ...tasks.action_vectors import draw_action


class BlindPolicy:
    """A policy that looks at nothing, with the interface of `MPCPolicy`."""

    plans = 0

    def __init__(self, action_space: Box, num_envs: int):
        self.action_space, self.num_envs = action_space, num_envs

    def reset(self, env_ids: Sequence[int], problems: Sequence[int], goals: Any = None, steps_left: Any = None) -> None:
        """Starts new problems in these environments."""

    def release(self, env_ids: Sequence[int]) -> None:
        """Ends the problems of these environments."""

    def wants_frame(self) -> np.ndarray:
        return np.zeros(self.num_envs, dtype=bool)


class ZeroPolicy(BlindPolicy):
    """Zero action, always: what the start state and its velocity reach by themselves."""

    def act(self, frames: Any = (), proprioception: Any = None) -> np.ndarray:
        return np.zeros((self.num_envs, *self.action_space.shape), dtype=np.float32)


class RandomPolicy(BlindPolicy):
    """Uniform actions, one stream per problem, so that neighbours and their number do not matter. In a space without
    bounds they are normal, with mean and deviation of the actions that the model was trained on.

    Args:
        action_space, num_envs: of the environments.
        seed: of all streams.
        recorded: mean and standard deviation of each action dimension, for a space without bounds.

    Raises:
        ValueError: for an action space without bounds where nothing was recorded.
    """

    def __init__(
        self,
        action_space: Box,
        num_envs: int,
        seed: int,
        recorded: tuple[Sequence[float], Sequence[float]] | None = None,
    ):
        super().__init__(action_space, num_envs)
        self._normal = None if action_space.is_bounded() else recorded
        if not action_space.is_bounded() and recorded is None:
            raise ValueError(
                f"{action_space} has no bounds to draw random actions from: give mean and deviation of recorded ones"
            )
        self.seed = seed
        self._streams: list[np.random.Generator | None] = [None] * num_envs

    def reset(self, env_ids: Sequence[int], problems: Sequence[int], goals: Any = None, steps_left: Any = None) -> None:
        for env_id, problem in zip(env_ids, problems, strict=True):
            self._streams[env_id] = np.random.default_rng([self.seed, problem])

    def release(self, env_ids: Sequence[int]) -> None:
        for env_id in env_ids:
            self._streams[env_id] = None

    def act(self, frames: Any = (), proprioception: Any = None) -> np.ndarray:
        actions = np.full((self.num_envs, *self.action_space.shape), np.nan, dtype=np.float32)
        for env_id, stream in enumerate(self._streams):
            if stream is not None:
                actions[env_id] = (
                    draw_action(self.action_space, stream) if self._normal is None else stream.normal(*self._normal)
                )
        return actions
