"""Frames and stretches of episodes, drawn with explicit seeds, and what a frozen world model makes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...action_blocks import to_blocks
from ...data.proprioception import proprioception_rows
from ...proprioception_lewm import size_of
from .ranks import ALONE, Ranks

BATCH = 64
PORTION = 16  # stretches that one process works on at once


@dataclass(frozen=True)
class FrameSample:
    """Frames spread evenly over episodes.

    Attributes:
        rows: `(n,)` ascending rows of the data set.
        episodes: `(n,)` which episode each is of, counted from 0.
    """

    rows: np.ndarray
    episodes: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def sample_frames(episodes: Any, count: int, seed: int, lead: int = 0, together: int = 1) -> FrameSample:
    """Draws frames without replacement, equally many of every episode as far as they have them.

    Args:
        episodes: an `EpisodeData`.
        count: frames wanted; all there are where the data set has fewer.
        seed: the draw is a pure function of it.
        lead: frames that must precede each one in its episode.
        together: frames of one episode, at least, as far as it has them: where `count` is too small for all episodes,
            some are left out.

    Raises:
        ValueError: where no episode is long enough.
    """
    rng = np.random.default_rng(seed)
    available = np.maximum(episodes.lengths - lead, 0)
    if not available.any():
        raise ValueError(f"no episode has more than {lead} frames: the longest has {int(episodes.lengths.max())}")
    order = rng.permutation(len(available))
    available[order[max(1, count // together) :]] = 0
    share = _even_share(available, count, order)
    rows, members = [], []
    for episode, (offset, free, wanted) in enumerate(zip(episodes.offsets, available, share, strict=True)):
        rows.append(offset + lead + np.sort(rng.choice(free, wanted, replace=False)))
        members.append(np.full(wanted, episode))
    return FrameSample(np.concatenate(rows), np.concatenate(members))


def _even_share(available: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """How many of each: as equal as possible, `count` in all; what does not divide goes to the first of `order`."""
    share = np.zeros_like(available)
    missing = min(count, int(available.sum()))
    while missing:
        open_to_more = order[share[order] < available[order]]
        if missing < len(open_to_more):
            share[open_to_more[:missing]] += 1
            break
        more = min(missing // len(open_to_more), int((available - share)[open_to_more].min()))
        share[open_to_more] += more
        missing -= more * len(open_to_more)
    return share


@dataclass(frozen=True)
class Stretches:
    """Frames `frameskip` steps apart, with the actions between them.

    Attributes:
        rows: `(n, T)` rows of the data set.
        episodes: `(n,)` which episode each is of, counted from 0.
        actions: `(n, (T - 1) * frameskip, action)` in environment units.
    """

    rows: np.ndarray
    episodes: np.ndarray
    actions: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "Stretches":
        return Stretches(self.rows[part], self.episodes[part], self.actions[part])


def portions(count: int) -> list[slice]:
    """So many stretches in portions, of which every process takes its share; the last one may be smaller."""
    return [slice(first, first + PORTION) for first in range(0, count, PORTION)]


def sample_stretches(episodes: Any, count: int, frames: int, frameskip: int, seed: int) -> Stretches:
    """Draws stretches with different first frames, equally many of every episode as far as it is long enough.

    Args:
        episodes: an `EpisodeData`.
        count: stretches wanted; all there are where the data set has fewer.
        frames: T.

    Raises:
        ValueError: where no episode is long enough, or no two rows are `frameskip` steps apart.
    """
    apart = episodes.rows_apart(frameskip)
    span = (frames - 1) * apart
    if not (episodes.lengths > span).any():
        longest = (int(episodes.lengths.max()) - 1) * episodes.every
        raise ValueError(
            f"{frames} frames {frameskip} steps apart need episodes of {(frames - 1) * frameskip} steps, the longest "
            f"has {longest}: ask for fewer steps, or collect longer episodes"
        )
    last = sample_frames(episodes, count, seed, lead=span)
    starts = last.rows - span
    rows = starts[:, None] + apart * np.arange(frames)
    actions = episodes.actions[starts[:, None] + np.arange(span)]
    return Stretches(rows, last.episodes, actions.reshape(len(starts), -1, episodes.action_dim))


def blocks_of(stretches: Stretches, config: Any) -> Tensor:
    """Z-scored action blocks `(n, T - 1, A)`; block k leaves frame k."""
    return to_blocks(torch.from_numpy(np.ascontiguousarray(stretches.actions, dtype=np.float32)), config)


def other_episode(episodes: np.ndarray, seed: int) -> np.ndarray:
    """A partner for every member, of another episode: `(n,)` episode numbers -> `(n,)` indices, each used once.

    Raises:
        ValueError: where one episode has more than half of all members.
    """
    n, share = len(episodes), int(np.bincount(episodes).max())
    if 2 * share > n:
        raise ValueError(f"{share} of {n} draws are of one episode, so not all find a partner: give more episodes")
    # In episode order, moving on by the largest share always leaves the episode.
    order = np.random.default_rng(seed).permutation(n)
    order = order[np.argsort(episodes[order], kind="stable")]
    partner = np.empty(n, dtype=np.int64)
    partner[order] = np.roll(order, -share)
    return partner


def same_episode(episodes: np.ndarray, seed: int) -> np.ndarray:
    """A partner for every member, of the same episode: itself only where the episode has no other; each used once."""
    order = np.random.default_rng(seed).permutation(len(episodes))
    order = order[np.argsort(episodes[order], kind="stable")]
    partner = np.empty(len(episodes), dtype=np.int64)
    for members in np.split(order, np.flatnonzero(np.diff(episodes[order])) + 1):
        partner[members] = np.roll(members, -1)
    return partner


def check_frozen(model: Any) -> None:
    """Refuses a model in training mode.

    Raises:
        ValueError: there BatchNorm makes an embedding depend on the other frames of its batch.
    """
    if getattr(model, "training", False):
        raise ValueError(
            f"{type(model).__name__} is in training mode, where BatchNorm mixes the frames of a batch: "
            "call model.eval() first"
        )


Reduction = Callable[[Tensor], Tensor]  # `(n, *latent)` -> `(n, ...)`, of one batch after the other


@torch.no_grad()
def encode(
    model: Any, processor: Any, frames: np.ndarray, batch_size: int = BATCH, reduce: Reduction | None = None,
    proprioception: np.ndarray | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """What the model makes of pictures, float32 on the CPU.

    Args:
        model: a world model in eval mode; runs on its device.
        frames: `(n, H, W, 3)` uint8.
        reduce: what is kept of each batch, where all latents together would not fit into memory.
        proprioception: `(n, N)` z-scored, beside the pictures, of models with it.

    Returns:
        `"embeddings"` `(n, *latent)`, what the planner works with, and where the model tells it apart (by a method
        `observe`) `"features"` `(n, width)`, the encoder's output before the projector (the CLS token of LeWM's ViT).
    """
    device = next(model.parameters()).device
    parts: dict[str, list[Tensor]] = {"features": [], "embeddings": []}
    for first in range(0, len(frames), batch_size):
        part = slice(first, first + batch_size)
        chunk = torch.from_numpy(np.ascontiguousarray(frames[part]))
        seen = [processor.normalize(chunk.to(device))[:, None]]
        if proprioception is not None:
            seen.append(torch.from_numpy(proprioception[part]).to(device)[:, None])
        if hasattr(model, "observe"):
            embeddings, features = model.observe(*seen)
            found = {"features": features, "embeddings": embeddings}
        else:
            found = {"embeddings": model.encode(*seen)}
        for name, latents in found.items():
            latents = latents[:, 0].float().cpu()
            parts[name].append(latents if reduce is None else reduce(latents))
    return {name: torch.cat(part) for name, part in parts.items() if part}


def encode_rows(
    model: Any,
    processor: Any,
    episodes: Any,
    rows: np.ndarray,
    batch_size: int = BATCH,
    reduce: Reduction | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """Like `encode`, for rows of a data set in any shape: `(*rows.shape, *latent)`; each row is decoded once.

    Args:
        ranks: processes that divide the rows, all of which call this and get everything.
    """

    body = proprioception_rows(episodes, model.config) if size_of(model.config) else None

    def work(some: np.ndarray) -> dict[str, Tensor]:
        beside = None if body is None else body[some]
        return encode(model, processor, episodes.frames(some), batch_size, reduce, beside)

    return by_batches(rows, work, batch_size, ranks)


def by_batches(
    rows: np.ndarray, work: Callable[[np.ndarray], dict[str, Tensor]], batch_size: int, ranks: Ranks = ALONE
) -> dict[str, Tensor]:
    """What `work` makes of rows of a data set, each of which it gets once.

    Batches, not rows, are divided among processes, so that the bits of a result do not depend on their number.

    Args:
        rows: of any shape.
        work: `(n,)` ascending rows -> tensors `(n, ...)` by name.
        batch_size: n, at most.
        ranks: processes that divide the batches, all of which call this and get everything.

    Returns:
        Tensors `(*rows.shape, ...)` by name.
    """
    unique, inverse = np.unique(rows, return_inverse=True)
    batches = [unique[first : first + batch_size] for first in range(0, len(unique), batch_size)]
    parts = ranks.together([work(batch) for batch in batches[ranks.share]])
    index = torch.from_numpy(inverse.reshape(rows.shape))
    return {name: torch.cat([part[name] for part in parts])[index] for name in parts[0]}
