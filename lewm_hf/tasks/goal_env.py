"""Environments that draw their own tasks: a start, a goal, and a world that a subclass moves."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from .state_env import RESET_OPTIONS, StateEnv


class GoalEnv(StateEnv):
    """Base of the goal-conditioned environments.

    A subclass sets `observation_space` and `action_space`, names its state vector in `state_names`, says which of it
    are `velocities` and what counts as success (`success_rule`, a formula with units), passes its factors of variation
    to `__init__`, and implements `_build`, `_sample_task`, `get_state`, `_set_state`, `_advance`, `_observe`, `_draw`
    and `reached`. It may refine `_snapshot`/`_restore`, `_draw_state`, `_reward`, `_more_info`, `recorded` and
    `draw_states`, and say what can be measured in it, see `StateEnv`, whose arguments it takes.

    `step` never renders. `reset(options=...)` understands:
        variation: list of dotted names (or groups, or `"all"`) to resample, instead of the default ones.
        variation_values: dict of explicit values by dotted name.
        state, goal: vectors to start from and to reach, instead of sampled ones.
        goal_image: `False` leaves the goal image out of `info` and saves its rendering.
    """

    @property
    def goal_state(self) -> np.ndarray:
        """Copy of the current goal, a state vector (float64)."""
        return self._require_goal().copy()

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode. Returns the observation and `info` with `"goal"`, the goal image (H, W, 3) uint8.

        Raises:
            ValueError: for unknown options or names, values outside their range, invalid state vectors.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        for name in options:
            if name not in RESET_OPTIONS:
                raise ValueError(f"unknown reset option {name!r}: use any of {', '.join(RESET_OPTIONS)}")
        given = {name: self.check_state(options[name], name) for name in ("state", "goal") if name in options}
        self.variation = self.variation_space.sample(
            self.np_random, options.get("variation"), options.get("variation_values")
        )
        self._build()
        state, goal = self._sample_task()
        self.set_goal(given.get("goal", goal))
        self.set_state(given.get("state", state))
        info = self._info(self.is_success())
        if options.get("goal_image", True):
            info["goal"] = self.goal_image()
        return self._observe(), info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step. `terminated` tells whether the goal is reached; nothing is rendered.

        Raises:
            ValueError: for an action of another shape or with NaN, or before the first `reset`.
        """
        action = self.check_action(action)
        self._require_goal()
        self._advance(action)
        success = self.is_success()
        return self._observe(), self._reward(), success, False, self._info(success)

    # For subclasses

    @abstractmethod
    def _build(self) -> None:
        """Makes the scene that `self.variation` describes."""

    @abstractmethod
    def _sample_task(self) -> tuple[np.ndarray, np.ndarray]:
        """Start state and goal state, drawn from `self.np_random` or taken from `self.variation`."""

    @abstractmethod
    def _advance(self, action: np.ndarray) -> None:
        """Moves the world by one step of a checked action (float64)."""

    def _reward(self) -> float:
        return 0.0

    def _more_info(self) -> dict[str, Any]:
        return {}

    def _info(self, success: bool) -> dict[str, Any]:
        return {
            "state": np.array(self.get_state()),
            "goal_state": self.goal_state,
            "success": success,
            **self._more_info(),
        }
