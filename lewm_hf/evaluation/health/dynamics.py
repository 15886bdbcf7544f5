"""Does the model listen to its actions? Open-loop errors under the true, under other and under no actions."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...action_blocks import to_blocks
from ...measures.significance import band, paired_test
from ..common.embeddings import BATCH, Stretches, blocks_of, other_episode

WAYS = ("true", "swapped", "none", "copy")


@torch.no_grad()
def rollout_errors(model, latents: Tensor, stretches: Stretches, seed: int) -> dict[str, np.ndarray]:
    """Mean squared error of imagined embeddings, `(n, horizon)` by what the model was told about the future.

    The first `history_size` frames of a stretch and the true actions between them are given in every case.

    Args:
        latents: `(n, T, *latent)` embeddings of the stretches' frames.
        seed: of the swap.

    Returns:
        `"true"`: its own actions; `"swapped"`: those of another episode; `"none"`: zero actions in environment units;
        `"copy"`: no prediction at all, the last known embedding again.
    """
    config, device = model.config, next(model.parameters()).device
    history = config.history_size
    blocks = blocks_of(stretches, config)
    future = blocks[:, history - 1 :]
    nothing = to_blocks(torch.zeros(config.frameskip, config.action_dim), config)
    swapped = future[torch.from_numpy(other_episode(stretches.episodes, seed))]
    plans = torch.stack([future, swapped, nothing.expand_as(future)], dim=1)
    errors = []
    for first in range(0, len(latents), BATCH):
        part = slice(first, first + BATCH)
        known, executed = latents[part, :history], blocks[part, : history - 1]
        rollout = model.rollout(known.to(device), plans[part].to(device), executed.to(device) if history > 1 else None)
        imagined = torch.cat([rollout.float().cpu(), known[:, None, -1:].expand_as(rollout[:, :1])], dim=1)
        errors.append((imagined - latents[part, None, history:]).square().flatten(3).mean(3))
    found = torch.cat(errors).double().numpy()
    return {way: found[:, number] for number, way in enumerate(WAYS)}


def summarize(errors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean errors and 95 % bands per step, and the test of swapped against true actions at the last step."""
    curves = {}
    for way, values in errors.items():
        low, high = band(values)
        curves[way] = {"mean": values.mean(0).tolist(), "low": low.tolist(), "high": high.tolist()}
    true, swapped, copied = (errors[way][:, -1] for way in ("true", "swapped", "copy"))
    return {
        "stretches": len(true),
        "errors": curves,
        "swapped_over_true": float(swapped.mean() / true.mean()) if true.mean() > 0 else None,
        "true_over_copy": float(true.mean() / copied.mean()) if copied.mean() > 0 else None,
        "paired_test": asdict(paired_test(swapped, true)),
    }
