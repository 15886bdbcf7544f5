"""Which episodes train and which are held out, where a data set does not say."""

import logging
from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np

logger = logging.getLogger(__name__)

# Share of the episodes of a data set without a test split.
HELD_OUT = 0.1


def described_splits(description: Mapping[str, Any] | None) -> list[str]:
    """Splits that have episodes by the content of `episodes.json`."""
    return [split for split, value in (description or {}).get("splits", {}).items() if value["episodes"]]


def part_of_train(dataset: datasets.Dataset, split: str, name: str) -> datasets.Dataset:
    """The training or the test episodes of a data set that has a training split alone: the last ones are held out.

    Args:
        dataset: all rows, in episode order.
        split: `"train"` or `"test"`.
        name: what messages call the data set.

    Raises:
        ValueError: one line where there are too few episodes to hold some out.
    """
    if "episode_index" not in dataset.column_names:
        return dataset  # refused later, with the columns that there are
    index = dataset.data.column("episode_index").to_numpy()
    starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
    if len(starts) < 2 and split == "train":
        return dataset
    if len(starts) < 2:
        raise ValueError(
            f"{name} has no test split, and too few episodes to hold some out: {len(starts)}; collect more"
        )
    held_out = max(round(HELD_OUT * len(starts)), 1)
    logger.info("%s has no test split: the last %d of %d episodes are held out", name, held_out, len(starts))
    border = int(starts[-held_out])
    return dataset.select(range(border) if split == "train" else range(border, len(dataset)))
