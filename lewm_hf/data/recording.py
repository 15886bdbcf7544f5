"""Episodes with everything that a data set keeps of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..envs.two_room import TwoRoomEnv
from ..experts import Expert
from ..experts.rollout import SEEDS, Rollout, episode_rng
from ..experts.two_room import TwoRoomExpert, roll_out_many


@dataclass(frozen=True)
class Episode:
    """T steps, T + 1 rows.

    Attributes:
        images: T + 1 frames `(H, W, 3)` uint8; none where no pictures were asked for.
        states: `(T + 1, state)` float64, the simulator's.
        observations: `(T + 1, observation)` float32.
        actions: `(T, action)` float32.
        goals: `(T + 1, state)` float64.
        success: `(T + 1,)` bool, the goal is reached in this state.
    """

    images: Sequence[np.ndarray]
    states: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    goals: np.ndarray
    success: np.ndarray

    def __len__(self) -> int:
        """Rows."""
        return len(self.states)

    @property
    def row_actions(self) -> np.ndarray:
        """`(T + 1, action)` float32: what leaves each row, NaN for the last."""
        return np.vstack([self.actions, np.full((1, self.actions.shape[1]), np.nan, dtype=np.float32)])

    @property
    def next_success(self) -> np.ndarray:
        """`(T + 1,)` bool: the goal is reached after each row's action, in the last row: there."""
        return np.append(self.success[1:], self.success[-1])


def record(
    env, expert: Expert, rng: np.random.Generator, max_steps: int, stop_at_success: bool, pictures: bool = True
) -> Episode:
    """Runs one episode.

    Args:
        env: a `GoalEnv`.
        rng: the only source of randomness: draws the reset's seed first, then belongs to the expert.
        max_steps: longest episode.
        stop_at_success: end as soon as the goal is reached; otherwise the episode has `max_steps` steps.
        pictures: render every state.
    """
    observation, _ = env.reset(seed=int(rng.integers(SEEDS)), options={"goal_image": False})
    expert.reset(env, rng)
    images, states, observations = [env.render()] if pictures else [], [env.get_state()], [observation]
    goals, success, actions = [env.goal_state], [env.is_success()], []
    while len(actions) < max_steps and not (stop_at_success and success[-1]):
        action = expert.act(env)
        observation, _, reached, _, info = env.step(action)
        actions.append(action)
        if pictures:
            images.append(env.render())
        states.append(info["state"])
        observations.append(observation)
        goals.append(env.goal_state)
        success.append(reached)
    # TwoRoom's observation contains the goal and the map; what it reports of itself is its position.
    shown = states if isinstance(env, TwoRoomEnv) else observations
    return Episode(
        images=images,
        states=np.stack(states),
        observations=np.stack(shown).astype(np.float32),
        actions=np.array(actions, dtype=np.float32).reshape(-1, *env.action_space.shape),
        goals=np.stack(goals),
        success=np.array(success, dtype=bool),
    )


def record_all(
    env,
    expert: Expert,
    seed: int,
    episodes: Sequence[int],
    max_steps: int,
    stop_at_success: bool,
    pictures: bool = True,
) -> Iterator[Episode]:
    """The episodes with these numbers, each a pure function of `seed` and its number."""
    rngs = [episode_rng(seed, episode) for episode in episodes]
    if type(expert) is TwoRoomExpert and env.physics == "reference" and stop_at_success:
        for rollout in roll_out_many(env, rngs, max_steps, expert.noise_std):
            yield _drawn(env, rollout, pictures)
    else:
        for rng in rngs:
            yield record(env, expert, rng, max_steps, stop_at_success, pictures)


def _drawn(env, rollout: Rollout, pictures: bool) -> Episode:
    """TwoRoom's batched episodes, drawn at once; equal to `record`."""
    goals = np.broadcast_to(rollout.goal, rollout.states.shape)
    return Episode(
        images=env.scene.draw(rollout.states, goals) if pictures else [],
        states=rollout.states,
        observations=rollout.states.astype(np.float32),
        actions=rollout.actions,
        goals=goals,
        success=rollout.success,
    )
