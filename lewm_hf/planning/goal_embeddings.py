"""Goals that come as latents instead of pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def read_embedding(given: Any, name: str) -> Tensor:
    """What somebody gave as a goal's latent, or as several stacked, in the shape that it has.

    Args:
        given: a tensor, an array, or numbers, tensors or arrays in lists.
        name: the argument's, for messages.

    Returns:
        A tensor as it is, anything else in float32.

    Raises:
        ValueError: one line for what is no such thing, entries of different shapes, NaN and infinite values.
    """
    if isinstance(given, list | tuple) and any(isinstance(part, Tensor) for part in given):
        parts = [read_embedding(part, name) for part in given]
        if len(shapes := {tuple(part.shape) for part in parts}) > 1:
            raise ValueError(f"{name} has entries of shapes {sorted(shapes)}: they must be alike")
        return torch.stack(parts)
    if isinstance(given, Tensor):
        found = None if given.is_complex() else given.detach()
    else:
        try:
            array = np.asarray(given)
        except ValueError as error:
            raise ValueError(f"{name} is a list whose entries have different lengths: they must be alike") from error
        found = torch.from_numpy(array.astype(np.float32)) if array.dtype.kind in "fiu" else None
    if found is None:
        raise ValueError(
            f"{name} of type {type(given).__name__} is no latent: give numbers, as model.encode makes them of the "
            "goal's picture, or the picture itself as the goal"
        )
    if not found.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite values: check the frames and the checkpoint that made it")
    return found


def check_embedding(embedding: Tensor, latent: Sequence[int], name: str) -> None:
    """Refuses what is neither a latent `(*latent)` nor several, `(G, *latent)`.

    Raises:
        ValueError: one line with both shapes.
    """
    several = embedding.dim() == len(latent) + 1 and len(embedding) > 0
    if tuple(embedding.shape[1:] if several else embedding.shape) != tuple(latent):
        raise ValueError(
            f"{name} has shape {tuple(embedding.shape)}, but the model's embeddings have {tuple(latent)}: give one, or "
            "several stacked"
        )
