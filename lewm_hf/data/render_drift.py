"""Does this machine draw the pictures of a data set? Stored states, rendered again and compared with the frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from ..tasks.registry import find_task, make_env
from .episodes import EpisodeData, load_episodes
from .schema import SIM_GOAL
from .storage.dataset_card import read_description
from .storage.layout import SPLITS

FRAMES = 32
# Grey levels of 255. The same renderer on the same driver gives 0; Cube and Reacher without shadows and multisampling
# are 16 and 23 away, and a back end that moved edges alone has cost points of success.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Drift:
    """Differences between stored and rendered frames.

    Attributes:
        env_id: of the episodes.
        per_frame: `(n,)` mean absolute difference of each frame, in grey levels of 255.
        changed: share of pixels that differ at all.
        recorded: versions of the task's libraries that the data set was made with and that differ here or are missing.
    """

    env_id: str
    per_frame: np.ndarray
    changed: float
    recorded: Mapping[str, str]

    @property
    def mean(self) -> float:
        return float(self.per_frame.mean())


def render_drift(source: str | Path, env: str | None = None, frames: int = FRAMES) -> Drift:
    """Renders states of a data set again.

    Args:
        source: directory or Hub id of episodes with simulator states.
        env: short name or id that the episodes have to be of; default: whatever they are of.
        frames: number of rows, evenly spread over a split.

    Raises:
        FileNotFoundError, ValueError: one line, for a data set that is missing, damaged, of another or of no
            environment, or without states.
        ImportError: naming the extra of an environment that is not installed.
    """
    episodes = _open(source)
    if episodes.env_id is None:
        raise ValueError(f"{source} does not say which environment it is of: its states cannot be drawn")
    if env is not None and find_task(env) != find_task(episodes.env_id):
        raise ValueError(f"{source} holds episodes of {episodes.env_id}, not of {env}: name the right one")
    rows = np.unique(np.linspace(0, episodes.num_rows - 1, min(frames, episodes.num_rows)).round().astype(int))
    states = episodes.states[rows]
    goals = episodes.goals[rows] if SIM_GOAL in episodes.column_names else [None] * len(rows)
    simulator = make_env(episodes.env_id, **episodes.env_kwargs)
    try:
        simulator.reset(seed=0, options={"goal_image": False})
        simulator.remember(episodes)
        differences = []
        for stored, state, goal in zip(episodes.frames(rows), states, goals, strict=True):
            if goal is not None:
                simulator.set_goal(goal)
            simulator.set_state(state)
            differences.append(np.abs(stored.astype(np.int16) - simulator.render()))
    finally:
        simulator.close()
    return Drift(
        episodes.env_id,
        np.array([difference.mean() for difference in differences]),
        float(np.mean([difference.any(-1) for difference in differences])),
        _other_versions(episodes.env_id, episodes.description.get("versions", {})),
    )


def _open(source: str | Path) -> EpisodeData:
    described = read_description(Path(source)) if Path(source).is_dir() else None
    splits = list((described or {}).get("splits", SPLITS))
    return load_episodes(source, splits[-1] if splits else SPLITS[0])


def _other_versions(env_id: str, recorded: Mapping[str, str]) -> dict[str, str]:
    other = {}
    for name in find_task(env_id).libraries:
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = None
        if name in recorded and recorded[name] != here:
            other[name] = recorded[name]
    return other
