"""Episodes with everything that a data set keeps of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ...tasks.rollout import SEEDS, BatchedExpert, Expert, episode_rng
from ..schema import SIM_GOAL, SIM_STATE, STATE

if TYPE_CHECKING:
    from ...tasks.state_env import StateEnv

# Not 0: trailing zeros change nothing about a seed sequence.
_PHASE = 1


@dataclass(frozen=True)
class Episode:
    """R rows, `every` simulator steps apart.

    Attributes:
        images: R frames `(H, W, 3)` uint8; none where no pictures were asked for.
        states: `(R, state)` float64, the simulator's.
        observations: `(R, observation)` float32; `None` where the environment observes pictures.
        actions: `(R - 1, every * action)` float32: the `every` actions that lead from a row to the next, flattened.
        goals: `(R, state)` float64; `None` where no goal is pursued.
        success: `(R,)` bool, the goal is reached in this state; `None` where the environment does not know.
        next_success: `(R,)` bool, the goal is reached within `every` steps after this state; of the last row: there, or
            within the steps after it, which are not kept.
    """

    images: Sequence[np.ndarray]
    states: np.ndarray
    observations: np.ndarray | None
    actions: np.ndarray
    goals: np.ndarray | None
    success: np.ndarray | None
    next_success: np.ndarray | None

    def __len__(self) -> int:
        """Rows."""
        return len(self.states)

    @property
    def row_actions(self) -> np.ndarray:
        """`(R, every * action)` float32: what leaves each row, NaN for the last."""
        return np.vstack([self.actions, np.full((1, self.actions.shape[1]), np.nan, dtype=np.float32)])


def episode_phase(seed: int, episode: int, every: int) -> int:
    """The first step that is kept of an episode, uniform in [0, every).

    It has a generator of its own, so that what happens in an episode does not depend on which steps are kept.
    """
    return int(np.random.default_rng([seed, episode, _PHASE]).integers(every))


def record(
    env: "StateEnv",
    expert: Expert,
    rng: np.random.Generator,
    max_steps: int,
    stop_at_success: bool,
    pictures: bool = True,
    every: int = 1,
    phase: int = 0,
) -> Episode:
    """Runs one episode.

    Args:
        env: a `StateEnv`.
        rng: the only source of randomness: draws the reset's seed first, then belongs to the expert.
        max_steps: longest episode.
        stop_at_success: end as soon as the goal is reached; otherwise the episode has `max_steps` steps, unless it is
            over before.
        pictures: render every state that is kept.
        every, phase: of the states before and after each step, `phase`, `phase + every` and so on are kept; the last
            one alone where the episode ends before `phase`.
    """
    observation, _ = env.reset(seed=int(rng.integers(SEEDS)), options={"goal_image": False})
    expert.reset(env, rng)
    # Copies throughout: environments and policies may write to the same arrays again.
    images, states, observations = [], [np.array(env.get_state())], [_copy(env.recorded(observation))]
    if pictures and phase == 0:
        images.append(env.render())
    goals, success = [env.goal_state], [env.is_success()]
    actions: list[np.ndarray] = []
    while len(actions) < max_steps and not env.over and not (stop_at_success and success[-1]):
        action = np.array(env.recorded_action(expert.act(env)))
        observation, _, _, _, info = env.step(action)
        actions.append(action)
        if pictures and len(actions) % every == phase:
            images.append(env.render())
        states.append(info["state"])
        observations.append(_copy(env.recorded(observation)))
        goals.append(env.goal_state)
        success.append(info["success"])
    if pictures and not images:
        images.append(env.render())
    seen = _stacked(observations)
    kept = _kept(
        np.stack(states),
        None if seen is None else seen.astype(np.float32),
        np.array(actions, dtype=np.float32).reshape(-1, *env.action_space.shape),
        _stacked(goals),
        None if env.judge == "model" else np.array(success, dtype=bool),
        every,
        phase,
    )
    return replace(kept, images=images)


def record_all(
    env: "StateEnv",
    expert: Expert,
    seed: int,
    episodes: Sequence[int],
    max_steps: int,
    stop_at_success: bool,
    pictures: bool = True,
    every: int = 1,
) -> Iterator[Episode]:
    """The episodes with these numbers, each a pure function of `seed` and its number; see `record`.

    Raises:
        ValueError: one line for a state, observation or goal that is not finite: nothing could be begun, measured or
            trained there.
    """
    rngs = [episode_rng(seed, episode) for episode in episodes]
    phases = [episode_phase(seed, episode, every) for episode in episodes]
    rollouts = None
    if stop_at_success and isinstance(expert, BatchedExpert):
        rollouts = expert.roll_out_many(env, rngs, max_steps)
    if rollouts is None:
        for number, rng, phase in zip(episodes, rngs, phases, strict=True):
            episode = record(env, expert, rng, max_steps, stop_at_success, pictures, every, phase)
            _check_finite(episode, number)
            yield episode
        return
    for number, rollout, phase in zip(episodes, rollouts, phases, strict=True):
        goals = np.broadcast_to(rollout.goal, rollout.states.shape)
        kept = _kept(rollout.states, rollout.observations, rollout.actions, goals, rollout.success, every, phase)
        if pictures and kept.goals is not None:
            kept = replace(kept, images=list(env.draw_states(kept.states, kept.goals)))
        _check_finite(kept, number)
        yield kept


def _check_finite(episode: Episode, number: int) -> None:
    """As whatever is imported has to be."""
    for name, values in ((STATE, episode.observations), (SIM_STATE, episode.states), (SIM_GOAL, episode.goals)):
        if values is not None and not np.isfinite(values).all():
            row, entry = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"frame {row} of episode {number} has {name}[{entry}]={values[row, entry]} ({values.dtype}): what is "
                "stored must be finite, so let the environment give a number there, or leave that entry out"
            )


def _copy(moment: np.ndarray | None) -> np.ndarray | None:
    return None if moment is None else np.array(moment)


def _stacked(moments: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """`(n, k)` of all moments, `None` where there is nothing to record of any."""
    known = [one for one in moments if one is not None]
    return np.stack(known) if known else None


def _kept(
    states: np.ndarray,
    observations: np.ndarray | None,
    actions: np.ndarray,
    goals: np.ndarray | None,
    success: np.ndarray | None,
    every: int,
    phase: int,
) -> Episode:
    """The rows of an episode of T steps, without pictures; `actions` `(T, action)`, the others `(T + 1, ...)`."""
    steps = len(actions)
    rows = np.arange(min(phase, steps), steps + 1, every)
    reached = None
    if success is not None:
        reached = np.array([success[row + 1 : row + every + 1].any() for row in rows], dtype=bool)
        reached[-1] = success[rows[-1] :].any()
    return Episode(
        images=[],
        states=states[rows],
        observations=None if observations is None else observations[rows],
        actions=actions[rows[0] : rows[-1]].reshape(len(rows) - 1, every * actions.shape[1]),
        goals=None if goals is None else goals[rows],
        success=None if success is None else success[rows],
        next_success=reached,
    )
