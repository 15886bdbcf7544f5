"""What the rows of a data set have to be before anything reads them as episodes. Every refusal is one line."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .storage.dataset_card import DESCRIPTION_FILE


def check_contiguous(episode_ids: np.ndarray, name: str) -> None:
    """Every episode is one run of rows.

    Args:
        episode_ids: `(runs,)` `episode_index` of each run of rows that have the same.
        name: what the message calls the data set.

    Raises:
        ValueError: for an episode that comes twice.
    """
    ids, counts = np.unique(episode_ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"episode {ids[counts > 1][0]} of {name} is not contiguous: sort the rows by episode_index and frame_index"
        )


def check_order(frame: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, ids: np.ndarray, name: str) -> None:
    """Within an episode, frames count from 0.

    Args:
        frame: `(rows,)` `frame_index`.
        offsets, lengths, ids: `(episodes,)` first row, number of rows and `episode_index` of each episode.
        name: what the message calls the data set.

    Raises:
        ValueError: for a row that is missing or out of order.
    """
    expected = np.arange(len(frame)) - np.repeat(offsets, lengths)
    wrong = np.flatnonzero(frame != expected)
    if len(wrong):
        row = wrong[0]
        episode = ids[np.searchsorted(offsets, row, side="right") - 1]
        raise ValueError(
            f"episode {episode} of {name} has frame_index={frame[row]} where {expected[row]} was expected: "
            "rows are missing or out of order; sort them by episode_index and frame_index"
        )


def check_pace(width: int, description: Mapping[str, Any], name: str) -> None:
    """A row's action is what the description says: blocks of `every` raw actions of `action_dim` numbers.

    Args:
        width: numbers in the action of a row.
        description: the content of `episodes.json`.
        name: what the message calls the data set.

    Raises:
        ValueError: where they contradict each other.
    """
    every = description.get("every", 1)
    if type(every) is not int or every < 1:
        raise ValueError(f"{DESCRIPTION_FILE} of {name} says every={every!r}: restore it, or collect again")
    stated = description.get("action_dim", width // every)
    if width != every * stated:
        raise ValueError(
            f"the rows of {name} have actions of {width} numbers, but {DESCRIPTION_FILE} says every={every} "
            f"and action_dim={stated}: restore the file, or collect again"
        )


def check_actions(actions: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, ids: np.ndarray, name: str) -> None:
    """Only an episode's last action may be missing, and none is infinite.

    Args:
        actions: `(rows, action)`, NaN where there is none.
        offsets, lengths, ids: `(episodes,)` first row, number of rows and `episode_index` of each episode.
        name: what the message calls the data set.

    Raises:
        ValueError: for the first action that is not so.
    """
    missing = ~np.isfinite(actions).all(1)
    last = offsets + lengths - 1
    missing[last] = np.isinf(actions[last]).any(1)
    if missing.any():
        row = np.flatnonzero(missing)[0]
        episode = np.searchsorted(offsets, row, side="right") - 1
        raise ValueError(
            f"episode {ids[episode]}, frame {row - offsets[episode]} of {name} has action={actions[row].tolist()}; "
            "only an episode's last action may be missing, and none infinite: drop or split the episode"
        )
