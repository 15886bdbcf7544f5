"""Which pictures does the model find alike? Nearest neighbours among frames of other episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from ..common.plots import picture_grid


@dataclass(frozen=True)
class Neighbors:
    """The nearest frames of other episodes.

    Attributes:
        indices: `(n, k)` into the frames, nearest first.
        distances: `(n, k)` Euclidean latent distances.
    """

    indices: np.ndarray
    distances: np.ndarray


def nearest_neighbors(vectors: np.ndarray, episodes: np.ndarray, count: int) -> Neighbors:
    """Nearest rows of `vectors` `(n, d)` by Euclidean distance, never of the same episode.

    Raises:
        ValueError: where some frame has fewer than `count` frames of other episodes.
    """
    distances = cdist(vectors, vectors)
    distances[episodes[:, None] == episodes] = np.inf
    indices = np.argsort(distances, axis=1, kind="stable")[:, :count]
    found = np.take_along_axis(distances, indices, axis=1)
    if not np.isfinite(found).all():
        raise ValueError(f"some frame has fewer than {count} neighbours in other episodes: give more episodes")
    return Neighbors(indices, found)


def draw_neighbors(path: str | Path, rows: Sequence[Sequence[np.ndarray]], labels: Sequence[Sequence[str]]) -> None:
    """A picture: one row per query, the query on the left, its neighbours beside it.

    Args:
        rows: per query the query's frame and its neighbours' `(H, W, 3)` uint8.
        labels: a few words under each.
    """
    picture_grid(path, rows, side=1.2, captions=labels)
