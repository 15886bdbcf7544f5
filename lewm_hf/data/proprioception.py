"""Recorded columns as proprioception: measured once, z-scored for windows and analyses."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..proprioception_lewm import normalized
from .episode_data import EpisodeData


def recorded(episodes: EpisodeData, keys: Sequence[str]) -> np.ndarray:
    """`(rows, N)` float64: the columns, joined in this order.

    Raises:
        ValueError: one line, for a column that is not there or holds no numbers, or values that are not finite.
    """
    values = np.concatenate([episodes.numbers(key) for key in keys], 1)
    wrong = np.flatnonzero(~np.isfinite(values).all(1))
    if len(wrong):
        episode = np.searchsorted(episodes.offsets, wrong[0], side="right") - 1
        raise ValueError(
            f"proprioception_key={list(keys)}: episode {episodes.episode_ids[episode]} of {episodes.name}, frame "
            f"{wrong[0] - episodes.offsets[episode]}, has {values[wrong[0]].tolist()}: name columns without missing "
            "values, or leave the episode out"
        )
    return values


def measured(episodes: EpisodeData, keys: Sequence[str]) -> dict[str, Any]:
    """Fields of a config: how many numbers the columns have, and mean and population std of each, in float64."""
    values = recorded(episodes, keys)
    return {
        "proprioception_key": list(keys),
        "proprioception_size": values.shape[1],
        "proprioception_mean": values.mean(0).tolist(),
        "proprioception_std": values.std(0).tolist(),
    }


def proprioception_rows(episodes: EpisodeData, config: Any) -> np.ndarray:
    """`(rows, N)` float32, z-scored: what a model of this config sees beside the picture of each row.

    Raises:
        ValueError: one line, where the config does not name the columns, or they do not fit it.
    """
    if not config.proprioception_key:
        raise ValueError(
            f"proprioception_size={config.proprioception_size}, but the config names no columns: set proprioception_key"
        )
    return normalized(recorded(episodes, config.proprioception_key), config).numpy()
