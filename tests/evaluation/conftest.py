"""A small TwoRoom data set in memory, with the interface of `EpisodeData`."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from lewm_hf.data.pace import rows_apart
from lewm_hf.tasks.two_room.env import render_positions, step_positions


@dataclass
class FakeEpisodes:
    """Random walks with a drift, so that some starts are solved at once and some pairs cross the wall."""

    episode_ids: np.ndarray
    lengths: np.ndarray
    actions: np.ndarray
    states: np.ndarray
    env_id: str = "lewm/TwoRoom-v0"
    env_kwargs: dict = field(default_factory=lambda: {"image_size": 32})
    split: str = "test"
    name: str = "walks"
    every: int = 1

    @property
    def action_dim(self) -> int:
        return self.actions.shape[1] // self.every

    def rows_apart(self, steps: int) -> int:
        return rows_apart(steps, self.every, self.name)

    @property
    def offsets(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    def frames(self, rows: np.ndarray) -> np.ndarray:
        return render_positions(self.states[rows], image_size=32)


def walk(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """One episode: `(rows, 2)` states and `(rows, 2)` actions, NaN in the last row."""
    states, actions = [rng.uniform([25, 30], [95, 65])], []
    if rng.random() < 0.5:
        states[0][0] = 224 - states[0][0]
    drift = rng.uniform(-1, 1, 2)
    for _ in range(rows - 1):
        # Towards the door's height and across: half of the episodes change rooms.
        pull = np.array([np.sign(112 - states[-1][0]) if rng.random() < 0.3 else drift[0], (49 - states[-1][1]) / 20])
        actions.append(np.clip(pull + rng.normal(0, 0.5, 2), -1, 1))
        states.append(step_positions(states[-1][None], actions[-1][None])[0])
    return np.stack(states), np.vstack([*actions, [np.nan, np.nan]])


def make_episodes(count: int, seed: int = 0, split: str = "test") -> FakeEpisodes:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 80, count)
    walks = [walk(rng, int(rows)) for rows in lengths]
    return FakeEpisodes(
        episode_ids=np.arange(100, 100 + count),
        lengths=lengths,
        actions=np.concatenate([actions for _, actions in walks]).astype(np.float32),
        states=np.concatenate([states for states, _ in walks]),
        split=split,
    )


@pytest.fixture(scope="session")
def episodes() -> FakeEpisodes:
    return make_episodes(60)
