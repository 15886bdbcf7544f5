"""Numbers that show a collapsing or idle world model while it trains."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..measures.collapse import collapse
from ..measures.spectrum import effective_rank
from ..measures.straightness import straightness
from ..sigreg import alone

# Latents that held-out health is measured on, at most so many numbers.
MOST_ENTRIES = 2**26


@torch.no_grad()
def embedding_monitors(embeddings: Tensor, prediction_loss: float | None) -> dict[str, float]:
    """Health of `(batch, time, *latent)` embeddings.

    Args:
        prediction_loss: `None` for a model that predicts nothing.

    Returns:
        `embedding_std_min`, `_mean`, `_max`: of the standard deviations of the dimensions over batch and time; near 0
            where a dimension has collapsed, near 1 in a healthy run. `effective_rank`: see there.
            `prediction_over_copy_last`: prediction loss over the loss of predicting that nothing moves; a model that
            has learned dynamics is well below 1; left out without one. `straightness`: cosine of consecutive latent
            velocities.
    """
    embeddings = embeddings.float()
    std = embeddings.flatten(0, 1).std(0, correction=0)
    copied = {}
    if prediction_loss is not None:
        copy_last = float(F.mse_loss(embeddings[:, :-1], embeddings[:, 1:]))
        copied = {"prediction_over_copy_last": prediction_loss / copy_last if copy_last > 0 else float("inf")}
    return {
        "embedding_std_min": float(std.min()),
        "embedding_std_mean": float(std.mean()),
        "embedding_std_max": float(std.max()),
        "effective_rank": effective_rank(embeddings.flatten(0, 1)),
        **copied,
        "straightness": straightness(embeddings),
    }


@torch.no_grad()
def heldout_metrics(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Losses and embedding health of a model in evaluation mode, means over all windows of `batches`.

    `prediction_loss`, or the whole `loss` of a model without one, and the losses of optional heads. `collapse` is 0 for
    Gaussian embeddings and 1 where they have become one point; it is left out where nothing is predicted.

    Args:
        model: in evaluation mode, its BatchNorm statistics fit to be used.
        batches: of held-out windows, see `TrainableWorldModel.losses`.
    """
    sums: dict[str, float] = {}
    seen, entries, windows = [], 0, 0
    with alone():
        for batch in batches:
            losses = model.losses(batch, model.step_inputs(0, 0))
            embeddings = losses.pop("embeddings").float()
            for name, value in losses.items():
                if not value.dim():
                    sums[name] = sums.get(name, 0.0) + len(embeddings) * float(value)
            windows += len(embeddings)
            if entries < MOST_ENTRIES:  # latents of patches would soon fill the memory
                seen.append(embeddings)
                entries += embeddings.numel()
    predicts = "prediction_loss" in sums
    names = ("prediction_loss" if predicts else "loss", "rollout_loss", "inverse_loss", "actor_loss")
    metrics = {name: sums[name] / windows for name in names if name in sums}
    metrics |= embedding_monitors(torch.cat(seen), metrics.get("prediction_loss"))
    collapsed = collapse(torch.cat(seen)) if predicts else None
    return metrics if collapsed is None else metrics | {"collapse": collapsed}
