"""Temporal straightness: do embeddings of consecutive frames move in one direction?

Nothing in LeWM's loss asks for it; it grows during training all the same (paper, figure 17). SIGReg acts on each time
step by itself and leaves the way from one to the next free.
"""

import torch
from torch import Tensor


def cosines(embeddings: Tensor) -> Tensor:
    """Cosine of the angle between consecutive latent velocities `v_t = z_{t+1} - z_t`.

    Args:
        embeddings: `(B, T, *latent)` of frames at equal spacing.

    Returns:
        `(B, T - 2)` float32 in [-1, 1]; NaN where a velocity is 0 and has no direction.
    """
    velocities = embeddings.float().flatten(2).diff(dim=1)
    lengths = velocities.norm(dim=2)
    products = (velocities[:, 1:] * velocities[:, :-1]).sum(2)
    return (products / (lengths[:, 1:] * lengths[:, :-1])).clamp(-1, 1)


def straightness(embeddings: Tensor) -> float:
    """Mean of `cosines` over batch and time: 1 on a straight line, -0.5 for embeddings that are all independent.

    0 where there is nothing to average: fewer than 3 frames, or no motion.
    """
    found = cosines(embeddings)
    found = found[found.isfinite()]
    return float(found.mean()) if len(found) else 0.0


def pixel_straightness(frames: Tensor) -> float:
    """The same of the pictures themselves, `(B, T, H, W, 3)` uint8: how straight the world looks without an encoder."""
    return straightness(torch.as_tensor(frames).flatten(2))
