"""Columns of numbers as probe targets: what is recorded beside the pictures needs no environment to be probed."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.embeddings import FrameSample

# `observation.state`, one entry of it as `observation.state[3]`, or some as `observation.state[0:2]`.
_ENTRIES = re.compile(r"(.+)\[(\d{1,6})(:(\d{1,6}))?\]")


def column_values(episodes: Any, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Raw values of every row by the name that was asked for, `(rows, k)` float64.

    Args:
        episodes: an `EpisodeData`.
        columns: names, each with or without entries in brackets.

    Raises:
        ValueError: one line for a column or an entry that does not exist.
    """
    if not columns:
        raise ValueError("the list of columns is empty: name columns of numbers, such as observation.state")
    found = {}
    for asked in columns:
        entries = None if asked in episodes.column_names else _ENTRIES.fullmatch(asked)
        values = episodes.numbers(entries[1] if entries else asked)
        if entries:
            first = int(entries[2])
            stop = int(entries[4]) if entries[4] else first + 1
            if not first < stop <= values.shape[1]:
                raise ValueError(f"{asked} does not exist: {entries[1]} has {values.shape[1]} entries, counted from 0")
            values = values[:, first:stop]
        found[asked] = values
    return found


def with_values(sample: FrameSample, values: dict[str, np.ndarray]) -> FrameSample:
    """The sampled frames in whose rows no number is missing, as an episode's last action is."""
    known = np.all([np.isfinite(column[sample.rows]).all(1) for column in values.values()], axis=0)
    return FrameSample(sample.rows[known], sample.episodes[known])
