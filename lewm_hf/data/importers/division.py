"""How an import is divided: which episodes, in which split, in which file."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..storage.layout import file_names
from .source import Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportFile:
    """One unit of work: these episodes of the source, whose first rows have these numbers, go into the file `name`."""

    name: str
    split: str
    episodes: tuple[int, ...]
    starts: tuple[int, ...]


def kept_episodes(source: Source) -> np.ndarray:
    """Positions of the episodes that are imported: all but those that the mapping skips and those without a row.

    Raises:
        ValueError: one line where fewer than two are left, or one to skip is not there.
    """
    skipped = source.mapping.skip_episodes
    if skipped and skipped[-1] >= len(source.lengths):
        raise ValueError(
            f"skip_episodes has {skipped[-1]}, but {source.path} has episodes 0 to {len(source.lengths) - 1}: correct "
            "the mapping"
        )
    kept = np.setdiff1d(np.arange(len(source.lengths)), skipped)
    empty = kept[source.lengths[kept] == 0]
    if len(empty):
        logger.warning("%s has %d episodes without a row, which are left out", source.path, len(empty))
    kept = np.setdiff1d(kept, empty)
    if len(kept) < 2:
        remedy = "skip fewer" if skipped else "one is held out, so record another, or divide what there is"
        raise ValueError(f"{source.path} has {len(kept)} episodes to import, expected at least 2: {remedy}")
    return kept


def plan_files(
    lengths: np.ndarray, kept: np.ndarray, test_fraction: float, seed: int, episodes_per_file: int,
    held_out: np.ndarray | None = None,
    names: Callable[[Mapping[str, int]], dict[str, list[str]]] = file_names,
) -> list[ImportFile]:  # fmt: skip
    """All files of the data set, in order. Test episodes are drawn, for a source need not be in random order, unless
    the source sets some apart."""
    count = min(max(round(len(kept) * test_fraction), 1), len(kept) - 1) if test_fraction else 0
    drawn = np.sort(np.random.default_rng(seed).permutation(kept)[:count])
    if held_out is not None and 0 < len(apart := np.intersect1d(held_out, kept)) < len(kept):
        drawn = apart
    splits = {"train": np.setdiff1d(kept, drawn), "test": drawn}
    named = names({split: math.ceil(len(members) / episodes_per_file) for split, members in splits.items()})
    files, row = [], 0
    for split, members in splits.items():
        for number, name in enumerate(named[split]):
            episodes = members[number * episodes_per_file : (number + 1) * episodes_per_file]
            ends = row + np.cumsum(lengths[episodes])
            starts = ends - lengths[episodes]
            files.append(ImportFile(name, split, tuple(episodes.tolist()), tuple(starts.tolist())))
            row = int(ends[-1])
    return files
