"""Does the model listen to its actions? Open-loop errors under the true, under other and under no actions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...action_blocks import to_blocks
from ...measures.significance import band, paired_test
from ...planning.world_model import candidate_bytes
from ..common.embeddings import Stretches, blocks_of, other_episode
from ..common.facts import Curve
from .result import Dynamics

MEMORY = 2**31  # bytes that the futures imagined at once may hold
WAYS = ("true", "swapped", "none", "copy")


@torch.no_grad()
def rollout_errors(
    model: Any, latents: Tensor, stretches: Stretches, seed: int, part: np.ndarray | slice = slice(None)
) -> dict[str, np.ndarray]:
    """Mean squared error of imagined embeddings, `(n, horizon)` by what the model was told about the future.

    The first `history_size` frames of a stretch and the true actions between them are given in every case.

    Args:
        latents: `(n, T, *latent)` embeddings of the frames of the stretches in `part`.
        seed: of the swap, which is drawn over all stretches.
        part: which stretches; default: all.

    Returns:
        `"true"`: its own actions; `"swapped"`: those of another episode; `"none"`: zero actions in environment units;
        `"copy"`: no prediction at all, the last known embedding again.
    """
    config, weight = model.config, next(model.parameters())
    history = config.history_size
    blocks = blocks_of(stretches, config)
    known, future = blocks[part], blocks[:, history - 1 :]
    nothing = to_blocks(torch.zeros(config.frameskip, config.action_dim), config).expand_as(future[part])
    swapped = future[torch.from_numpy(other_episode(stretches.episodes, seed))][part]
    plans = torch.stack([future[part], swapped, nothing], dim=1)
    context = latents[:, :history]
    errors = []
    for rows in torch.arange(len(latents)).split(_portion(model, context, plans)):
        executed = known[rows, : history - 1].to(weight) if history > 1 else None
        rollout = model.rollout(context[rows].to(weight), plans[rows].to(weight), executed)
        imagined = torch.cat([rollout.float().cpu(), context[rows, None, -1:].expand_as(rollout[:, :1])], dim=1)
        errors.append((imagined - latents[rows, None, history:]).square().flatten(3).mean(3))
    found = torch.cat(errors).double().numpy()
    return {way: found[:, number] for number, way in enumerate(WAYS)}


def _portion(model: Any, context: Tensor, plans: Tensor) -> int:
    """Stretches whose futures fit into memory together."""
    _, samples, horizon, _ = plans.shape
    return max(1, min(len(context), MEMORY // max(1, samples * candidate_bytes(model, context, horizon))))


def summarize(errors: dict[str, np.ndarray]) -> Dynamics:
    """Mean errors and 95 % bands per step, and the test of swapped against true actions at the last step."""
    curves = {}
    for way, values in errors.items():
        low, high = band(values)
        curves[way] = Curve(mean=values.mean(0).tolist(), low=low.tolist(), high=high.tolist())
    true, swapped, copied = (errors[way][:, -1] for way in ("true", "swapped", "copy"))
    return Dynamics(
        stretches=len(true),
        errors=curves,
        swapped_over_true=float(swapped.mean() / true.mean()) if true.mean() > 0 else None,
        true_over_copy=float(true.mean() / copied.mean()) if copied.mean() > 0 else None,
        paired_test=paired_test(swapped, true),
    )
