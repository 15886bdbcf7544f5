"""Many goal environments side by side, in one process: stepped only while active, rendered only when asked."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from .registry import make_env
from .state_env import StateEnv


class GoalVectorEnv:
    """A plain list of environments with the interface that planning and evaluation need.

    The outcome of one problem never depends on its neighbours. Gymnasium's vector environments render, step and reset
    finished members; this one leaves them alone.

    Args:
        env: short name or id of the environment, or a function that makes one.
        num_envs: how many.
        **kwargs: passed to the environment's constructor; only together with a name.

    Raises:
        ValueError: for an unknown name or `num_envs < 1`.
    """

    def __init__(self, env: str | Callable[[], StateEnv], num_envs: int, **kwargs: Any):
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1")
        if isinstance(env, str):
            self.envs: list[StateEnv] = [make_env(env, **kwargs) for _ in range(num_envs)]
        elif kwargs:
            raise ValueError(f"keyword arguments {sorted(kwargs)} go with a name: put them into the function instead")
        else:
            self.envs = [env().unwrapped for _ in range(num_envs)]
        for member in self.envs:
            # Only to build the scene: starts and goals come from `reset_to`, so the seed has no effect on outcomes.
            member.reset(seed=0, options={"goal_image": False})

    @property
    def num_envs(self) -> int:
        return len(self.envs)

    @property
    def single_action_space(self) -> Any:
        return self.envs[0].action_space

    def reset_to(self, indices: Sequence[int], states: np.ndarray, goals: np.ndarray) -> None:
        """Puts `states[k]` and `goals[k]`, both `(n, state)`, into environment `indices[k]`.

        Raises:
            ValueError: for another number of rows than indices, or invalid state vectors.
        """
        indices = self._indices(indices)
        if len(states) != len(indices) or len(goals) != len(indices):
            raise ValueError(f"{len(indices)} environments need as many states and goals: {len(states)}, {len(goals)}")
        checked = [
            (self.envs[index].check_state(state), self.envs[index].check_state(goal, "goal"))
            for index, state, goal in zip(indices, states, goals, strict=True)
        ]
        for index, (state, goal) in zip(indices, checked, strict=True):
            self.envs[index].set_goal(goal)
            self.envs[index].set_state(state)

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
        """Steps the active environments (default: all) with their rows of `actions` `(num_envs, action)`.

        Rows of inactive environments may hold anything, NaN included.

        Returns:
            `(num_envs,)` bool: the goal is reached after this step; `False` where inactive.

        Raises:
            ValueError: for other shapes, or NaN in the action of an active environment.
        """
        actions = np.asarray(actions)
        expected = (self.num_envs, *self.single_action_space.shape)
        if actions.shape != expected:
            raise ValueError(f"actions have shape {actions.shape}, expected {expected}")
        active = np.ones(self.num_envs, dtype=bool) if active is None else np.asarray(active, dtype=bool)
        if active.shape != (self.num_envs,):
            raise ValueError(f"active has shape {active.shape}, expected ({self.num_envs},)")
        success = np.zeros(self.num_envs, dtype=bool)
        for index in np.flatnonzero(active):
            success[index] = self.envs[index].step(actions[index])[4]["success"]
        return success

    def over(self) -> np.ndarray:
        """`(num_envs,)` bool: the episode has ended by itself."""
        return np.array([env.over for env in self.envs], dtype=bool)

    def render(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """Pictures `(n, H, W, 3)` uint8 of the environments asked for (default: all)."""
        members = [self.envs[index] for index in self._indices(indices)]
        return type(self.envs[0]).render_batch(members)

    def goal_images(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """Pictures `(n, H, W, 3)` uint8 of the goals."""
        members = [self.envs[index] for index in self._indices(indices)]
        return type(self.envs[0]).render_batch(members, goals=True)

    def states(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """State vectors `(n, state)` float64."""
        return np.stack([self.envs[index].get_state() for index in self._indices(indices)])

    def goals(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """Goal states `(n, state)` float64."""
        return np.stack([self.envs[index]._require_goal() for index in self._indices(indices)])

    def recorded(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """What episodes' `observation.state` would hold of the current moment: `(n, observation)`."""
        members = [self.envs[index] for index in self._indices(indices)]
        return np.stack([_known(env.recorded(env.observe()), env) for env in members])

    def recorded_goals(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """The same of the goals."""
        members = [self.envs[index] for index in self._indices(indices)]
        return np.stack([_known(env.recorded_goal(), env) for env in members])

    def successes(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """`(n,)` bool: the goal is reached in the current state, for instance already at the start."""
        return np.array([self.envs[index].is_success() for index in self._indices(indices)], dtype=bool)

    def distances(self, indices: Sequence[int], states: np.ndarray, goals: np.ndarray) -> np.ndarray | None:
        """How far `states` `(n, state)`, where these environments are, lie from `goals`; `None` where it is unknown."""
        return self.envs[0].distance(states, goals)

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _indices(self, indices: Sequence[int] | None) -> list[int]:
        chosen = list(range(self.num_envs)) if indices is None else [int(index) for index in indices]
        for index in chosen:
            if not 0 <= index < self.num_envs:
                raise ValueError(f"environment {index} does not exist: there are {self.num_envs}, counted from 0")
        return chosen


def _known(found: np.ndarray | None, env: StateEnv) -> np.ndarray:
    if found is None:
        raise ValueError(f"{type(env).__name__} records no vector of what it observes: its pictures are all there is")
    return found
