"""Which pictures does the model find alike? Nearest neighbours among frames of other episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial.distance import cdist

from ..common.outputs import write_atomic

PANEL, GAP, LABEL = 96, 6, 16
INK, PALE = (38, 42, 51), (122, 128, 140)


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
    font = ImageFont.load_default(10)
    columns = len(rows[0])
    width = columns * (PANEL + GAP) + 3 * GAP
    canvas = Image.new("RGB", (width, len(rows) * (PANEL + LABEL + GAP) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for line, (pictures, words) in enumerate(zip(rows, labels, strict=True)):
        top = GAP + line * (PANEL + LABEL + GAP)
        for column, (picture, word) in enumerate(zip(pictures, words, strict=True)):
            left = GAP + column * (PANEL + GAP) + (GAP if column else 0)
            resample = Image.Resampling.NEAREST if picture.shape[0] <= PANEL else Image.Resampling.BOX
            canvas.paste(Image.fromarray(picture).resize((PANEL, PANEL), resample), (left, top))
            draw.rectangle((left - 1, top - 1, left + PANEL, top + PANEL), outline=INK if column == 0 else PALE)
            draw.text((left + PANEL / 2, top + PANEL + LABEL / 2), word, INK, font, anchor="mm")
    _save(path, canvas)


def _save(path: str | Path, canvas: Image.Image) -> None:
    import io

    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
