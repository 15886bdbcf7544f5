"""Is what a description states of the actions true of the files? Training scales with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .schema import ACTION
from .statistics import action_statistics
from .storage.dataset_card import DESCRIPTION_FILE
from .storage.layout import split_files
from .storage.parquet import matrix, read_columns, read_metadata

if TYPE_CHECKING:
    from .episode_data import EpisodeData

# Far above the rounding of sums in another order, far below what matters.
TOLERANCE = 1e-6


def check_statistics(directory: Path, description: Mapping[str, Any], episodes: "EpisodeData") -> None:
    """Compares the stated mean and standard deviation of the actions with the files.

    They are of the whole data set. Where only this split is at hand, as after a download of one, it must at least be
    possible that this split is a part of such a whole.

    Args:
        episodes: one split of `directory`.

    Raises:
        ValueError: one line where they are not true.
    """
    if "action_mean" not in description:
        return
    stated = [np.asarray(description[name], dtype=np.float64) for name in ("action_mean", "action_std")]
    rows = {split: sum(value["lengths"]) for split, value in description.get("splits", {}).items()}
    paths = [path for members in split_files(directory, description).values() for path in members]
    if _has_rows(paths, sum(rows.values())):
        actions = matrix(read_columns(paths, [ACTION]).column(0)).reshape(-1, episodes.action_dim)
        found = [np.asarray(values) for values in action_statistics(actions)]
        scale = np.maximum(np.abs(found[0]), found[1])
        right = all(np.all(np.abs(a - b) <= TOLERANCE * scale + 1e-12) for a, b in zip(stated, found, strict=True))
    else:
        found = [np.asarray(values) for values in action_statistics(episodes.actions.reshape(-1, episodes.action_dim))]
        # A part with a share p of the rows has at most 1 / p of the whole's squared deviation from its mean.
        most = np.square(stated[1]) * max(sum(rows.values()) / episodes.num_rows, 1.0) * 1.1
        right = bool(np.all(np.square(found[1]) + np.square(found[0] - stated[0]) <= most + 1e-12))
    if not right:
        raise ValueError(
            f"{directory / DESCRIPTION_FILE} says action_mean={_short(stated[0])}, action_std={_short(stated[1])}, the "
            f"files {_short(found[0])} and {_short(found[1])}: restore the files, or delete both entries to have them "
            "measured"
        )


def _has_rows(paths: Sequence[Path], rows: int) -> bool:
    """Whether files hold so many rows; another split's may be damaged or not all there."""
    try:
        return sum(read_metadata(path).num_rows for path in paths) == rows
    except ValueError:
        return False


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
