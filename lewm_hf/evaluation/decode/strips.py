"""Strips of pictures: recorded frames, their embeddings decoded, and an open-loop rollout decoded beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...image_processing_lewm import LeWMImageProcessor
from ...measures.pixels import pixel_metrics
from ...modeling_lewm_decoder import LeWMDecoder
from ..common.embeddings import Stretches, blocks_of, encode_rows
from ..common.inputs import Inputs

WAYS = ("decoded", "imagined", "copy", "background")


@dataclass(frozen=True)
class Strips:
    """Pictures of stretches, `(n, columns, H, W, 3)` uint8, at `steps` environment steps after the last known frame.

    Attributes:
        real: recorded.
        decoded: embeddings of the recorded frames, decoded.
        imagined: embeddings of the rollout, decoded; the first is that of the last known frame.
    """

    steps: tuple[int, ...]
    real: np.ndarray
    decoded: np.ndarray
    imagined: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Strips":
        return Strips(self.steps, self.real[chosen], self.decoded[chosen], self.imagined[chosen])

    @classmethod
    def joined(cls, parts: Sequence["Strips"]) -> "Strips":
        """One after the other."""
        pictures = zip(*((part.real, part.decoded, part.imagined) for part in parts), strict=True)
        return cls(parts[0].steps, *map(np.concatenate, pictures))


@torch.no_grad()
def render_strips(inputs: Inputs, decoder: LeWMDecoder, stretches: Stretches) -> Strips:
    """Decodes stretches of `history_size + horizon` frames; columns are 0 to `horizon` blocks after the last context
    frame."""
    model, episodes = inputs.agent.model, inputs.episodes
    history, device = model.config.history_size, next(model.parameters()).device
    latents = encode_rows(model, inputs.agent.processor, episodes, stretches.rows)["embeddings"]
    blocks = blocks_of(stretches, model.config)
    size = decoder.config.image_size
    resize = LeWMImageProcessor(image_size=size, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0)).normalize
    known = latents[:, :history].to(device)
    executed = blocks[:, : history - 1].to(device) if history > 1 else None
    rollout = model.rollout(known, blocks[:, None, history - 1 :].to(device), executed)[:, 0]
    rows = stretches.rows[:, history - 1 :]
    real = (resize(torch.from_numpy(episodes.frames(rows.ravel()))) * 255).round_().to(torch.uint8).movedim(1, -1)
    return Strips(
        steps=tuple(model.config.frameskip * column for column in range(rows.shape[1])),
        real=real.unflatten(0, rows.shape).numpy(),
        decoded=decoder.pictures(latents[:, history - 1 :].flatten(2).to(device)).cpu().numpy(),
        imagined=decoder.pictures(torch.cat([known[:, -1:], rollout], 1).flatten(2)).cpu().numpy(),
    )


def strip_metrics(strips: Strips, decoder: LeWMDecoder) -> dict[str, dict[str, np.ndarray]]:
    """Pixel errors `(n, columns)` by name, by what is shown instead of the real frame."""
    background = (decoder.background.pixels.detach().float().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
    shown: Mapping[str, np.ndarray] = {
        "decoded": strips.decoded,
        "imagined": strips.imagined,
        "copy": np.broadcast_to(strips.real[:, :1], strips.real.shape),
        "background": np.broadcast_to(background.movedim(0, -1).numpy(), strips.real.shape),
    }
    return {way: pixel_metrics(shown[way], strips.real) for way in WAYS}
