"""One episode from one generator: the same whatever collects it, in whatever order, beside whatever else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

SEEDS = 2**31


class Expert(Protocol):
    """A policy whose actions are a pure function of the environment's state and the generator given at `reset`."""

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        """Starts an episode in `env`, right after its reset; every later draw comes from `rng`."""

    def act(self, env: Any) -> np.ndarray:
        """The next action, float32, in environment units."""


@dataclass(frozen=True)
class Rollout:
    """An episode of T steps.

    Attributes:
        states: `(T + 1, state)` float64, before the first and after every step.
        actions: `(T, action)` float32; `actions[t]` leaves `states[t]`.
        goal: `(state,)` float64.
        success: `(T + 1,)` bool, the goal is reached in this state.
        observations: `(T + 1, observation)` float32, what a recording keeps of them; `None` where nobody looked.
    """

    states: np.ndarray
    actions: np.ndarray
    goal: np.ndarray
    success: np.ndarray
    observations: np.ndarray | None = None


@runtime_checkable
class BatchedExpert(Expert, Protocol):
    """A policy that can also act in many episodes at once, for tasks whose motion is a formula."""

    def roll_out_many(self, env: Any, rngs: Sequence[np.random.Generator], max_steps: int) -> list[Rollout] | None:
        """Episodes that end at success, one per generator, each equal to `roll_out(env, self, rng, max_steps)`.

        Returns:
            The episodes, `observations` among their attributes; `None` where `env` is not of the kind that can be
            batched.
        """


def episode_rng(seed: int, episode: int) -> np.random.Generator:
    """The only source of randomness of episode number `episode`."""
    return np.random.default_rng([seed, episode])


def reset_episode(env: Any, rng: np.random.Generator, options: Mapping[str, Any] | None = None) -> None:
    """Resets `env` (a `StateEnv`) with a seed drawn from `rng`; no goal image is rendered."""
    env.reset(seed=int(rng.integers(SEEDS)), options={"goal_image": False, **(options or {})})


def roll_out(
    env: Any, expert: Expert, rng: np.random.Generator, max_steps: int, options: Mapping[str, Any] | None = None
) -> Rollout:
    """Runs one episode until success or `max_steps`, without rendering.

    Args:
        env: a `StateEnv`.
        rng: draws the reset's seed first, then belongs to the expert.
        options: passed to the reset, for instance `{"variation": [...]}`.
    """
    reset_episode(env, rng, options)
    expert.reset(env, rng)
    actions: list[np.ndarray] = []
    states, success = [env.get_state()], [env.is_success()]
    while len(actions) < max_steps and not success[-1]:
        actions.append(expert.act(env))
        info = env.step(actions[-1])[4]
        states.append(info["state"])
        success.append(info["success"])
    return Rollout(
        states=np.stack(states),
        actions=np.array(actions, dtype=np.float32).reshape(-1, *env.action_space.shape),
        goal=env.goal_state,
        success=np.array(success),
    )
