"""Numbers that show a collapsing or idle world model while it trains."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evaluation.spectrum import effective_rank
from ..evaluation.straightness import straightness
from .batch_norm import encode_and_predict


@torch.no_grad()
def embedding_monitors(embeddings: Tensor, prediction_loss: float) -> dict[str, float]:
    """Health of `(batch, time, dim)` embeddings.

    Returns:
        `embedding_std_min`, `_mean`, `_max`: of the standard deviations of the dimensions over batch and time; near 0
            where a dimension has collapsed, near 1 in a healthy run. `effective_rank`: see there.
            `prediction_over_copy_last`: prediction loss over the loss of predicting that nothing moves; a model that
            has learned dynamics is well below 1. `straightness`: cosine of consecutive latent velocities.
    """
    embeddings = embeddings.float()
    std = embeddings.flatten(0, 1).std(0, correction=0)
    copy_last = float(F.mse_loss(embeddings[:, :-1], embeddings[:, 1:]))
    return {
        "embedding_std_min": float(std.min()),
        "embedding_std_mean": float(std.mean()),
        "embedding_std_max": float(std.max()),
        "effective_rank": effective_rank(embeddings.flatten(0, 1)),
        "prediction_over_copy_last": prediction_loss / copy_last if copy_last > 0 else float("inf"),
        "straightness": straightness(embeddings),
    }


@torch.no_grad()
def heldout_metrics(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Prediction loss and embedding health of a model in evaluation mode, all windows of `batches` together.

    Args:
        model: in evaluation mode, its BatchNorm statistics fit to be used.
        batches: `(pixel_values, actions)` of held-out windows.
    """
    pairs = [encode_and_predict(model, pixel_values, actions) for pixel_values, actions in batches]
    embeddings, predicted = (torch.cat(parts).float() for parts in zip(*pairs, strict=True))
    prediction_loss = float(F.mse_loss(predicted, embeddings[:, 1:]))
    return {"prediction_loss": prediction_loss} | embedding_monitors(embeddings, prediction_loss)
