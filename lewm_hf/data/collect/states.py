"""The episodes that `collect` would record, without their pictures: hundreds of times faster where these are rendered.

Enough for start-goal pairs, for statistics and for the fingerprint of the data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...engines.workers import Report, run_tasks, usable_cores
from ...progress import progress_bar
from ...tasks.task import Task
from ..pace import rows_apart
from .recording import record_all
from .settings import Collection


@dataclass(frozen=True)
class StateEpisodes:
    """One split, with the attributes that an `EpisodeData` of the collected files would have.

    Attributes:
        env_id, env_kwargs, split: as collected.
        name: what error messages call it.
        episode_ids, lengths, offsets: `(episodes,)`.
        states: `(rows, state)` float64.
        actions: `(rows, every * action)` float32, NaN in the last row of an episode.
        every: simulator steps from a row to the next.
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    split: str
    name: str
    episode_ids: np.ndarray
    lengths: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    every: int = 1

    @property
    def action_dim(self) -> int:
        """Size of one raw action."""
        return self.actions.shape[1] // self.every

    def rows_apart(self, steps: int) -> int:
        """Rows between two states that are so many simulator steps apart.

        Raises:
            ValueError: one line where no two rows are.
        """
        return rows_apart(steps, self.every, self.name)

    @property
    def offsets(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths


def record_states(
    collection: Collection, split: str, *, workers: int | None = None, progress: bool = False
) -> StateEpisodes:
    """Runs the episodes of one split.

    Args:
        collection: what `settle` returns for the arguments of `collect`.
        split: `"train"` or `"test"`.
        workers: processes; default: one per core.
        progress: show a bar.

    Raises:
        ValueError: where the collection has no episode of this split.
    """
    files = [file for file in collection.files() if file.split == split]
    if not files:
        raise ValueError(f"this collection has no {split} split: choose another one, or another test_fraction")
    count, task = sum(file.stop - file.start for file in files), collection.task
    with progress_bar(total=count, desc=f"{split} episodes", unit="episode", show=progress) as bar:
        parts = run_tasks(
            partial(_run_file, collection, task),
            [range(file.start, file.stop) for file in files],
            workers=usable_cores() if workers is None else workers,
            report=bar.update,
            fork=task.recording.fork,
        )
    lengths, states, actions = (np.concatenate(column) for column in zip(*parts, strict=True))
    return StateEpisodes(
        env_id=collection.env,
        env_kwargs=collection.env_kwargs,
        split=split,
        name=f"{task.name} episodes",
        episode_ids=np.arange(files[0].start, files[-1].stop),
        lengths=lengths,
        states=states,
        actions=actions,
        every=collection.every,
    )


def _run_file(
    collection: Collection, task: Task, numbers: range, report: Report
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    env, expert = collection.open(task)
    steps, stop, every = collection.max_steps, collection.stop_at_success, collection.every
    lengths, states, actions = [], [], []
    for episode in record_all(env, expert, collection.seed, numbers, steps, stop, pictures=False, every=every):
        lengths.append(len(episode))
        states.append(episode.states)
        actions.append(episode.row_actions)
        report(1)
    env.close()
    return np.array(lengths), np.concatenate(states), np.concatenate(actions)
