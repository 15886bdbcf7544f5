"""Making imagined embeddings visible without a decoder: as the most similar pictures of the data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...action_blocks import to_blocks
from ..common.embeddings import encode


@dataclass(frozen=True)
class FrameBank:
    """Pictures and their embeddings.

    Args:
        frames: `(n, H, W, 3)` uint8.
        embeddings: `(n, latent)` float32, flattened.
    """

    frames: np.ndarray
    embeddings: Tensor

    @classmethod
    def of(cls, model: Any, processor: Any, frames: np.ndarray) -> "FrameBank":
        """Encodes the pictures."""
        return cls(frames, encode(model, processor, frames)["embeddings"].flatten(1))

    def nearest(self, embeddings: Tensor) -> np.ndarray:
        """The picture nearest to each embedding `(m, *latent)` by Euclidean distance: `(m, H, W, 3)` uint8."""
        return self.frames[torch.cdist(embeddings.flatten(1), self.embeddings).argmin(1).numpy()]


def seen_steps(plan_steps: Sequence[int], frameskip: int, context_frames: int) -> list[int]:
    """The steps whose pictures the plans started from: the last `context_frames` block boundaries before each."""
    return sorted({step for plan_step in plan_steps for step in _context(plan_step, frameskip, context_frames)})


def _context(plan_step: int, frameskip: int, context_frames: int) -> range:
    return range(max(0, plan_step - (context_frames - 1) * frameskip), plan_step + 1, frameskip)


@torch.no_grad()
def imagine(
    model: Any,
    processor: Any,
    pictures: Mapping[int, np.ndarray],
    plan_steps: Sequence[int],
    actions: np.ndarray,
    context_frames: int = 1,
) -> Tensor:
    """What the model expected while a plan was executed, replayed from the pictures that the plan started from.

    Args:
        pictures: `(H, W, 3)` uint8 by step, for `seen_steps`.
        plan_steps: the steps before which plans were made, ascending; the first is 0.
        actions: `(steps, action)` that were executed, in environment units.
        context_frames: pictures that a plan starts from, fewer where the episode has no more.

    Returns:
        `(steps + 1, *latent)` float32: entry t is what the model expected to see after t steps. It imagines one
        embedding per action block, so entries repeat until the next block is done.
    """
    config, device = model.config, next(model.parameters()).device
    frameskip, steps = config.frameskip, len(actions)
    order = sorted(pictures)
    encoded = encode(model, processor, np.stack([pictures[step] for step in order]))["embeddings"]
    latents = dict(zip(order, encoded, strict=True))
    # Success may have cut the last block short: mean actions fill it up, and nothing behind it is shown.
    fill = np.tile(config.action_mean, (-steps % frameskip, 1))
    raw = torch.as_tensor(np.concatenate([actions, fill]), dtype=torch.float32)
    blocks = to_blocks(raw, config).to(device)
    expected = []
    for first, stop in zip(plan_steps, [*plan_steps[1:], steps + 1], strict=True):
        context_steps = _context(first, frameskip, context_frames)
        context = torch.stack([latents[step] for step in context_steps])[None].to(device)
        begin, end = first // frameskip, -(-min(stop, steps) // frameskip)
        executed = blocks[None, begin + 1 - len(context_steps) : begin] if len(context_steps) > 1 else None
        imagined = [latents[first]]
        if end > begin:
            rollout = model.rollout(context, blocks[None, None, begin:end], executed)[0, 0]
            imagined += list(rollout.float().cpu())
        expected += [imagined[(step - first) // frameskip] for step in range(first, stop)]
    return torch.stack(expected)
