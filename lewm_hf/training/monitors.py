"""Numbers that show a collapsing or idle world model while it trains."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..measures.collapse import collapse
from ..measures.spectrum import effective_rank
from ..measures.straightness import straightness
from ..sigreg import alone


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
def heldout_metrics(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Prediction loss and embedding health of a model in evaluation mode, all windows of `batches` together.

    The losses of optional heads are means over the batches. `collapse` is 0 for Gaussian embeddings and 1 where they
    have become one point.

    Args:
        model: in evaluation mode, its BatchNorm statistics fit to be used.
        batches: of held-out windows, see `LeWMModel.losses`.
    """
    with alone():
        outputs = [model(**batch, **model.step_inputs(0, 0)) for batch in batches]
    embeddings = torch.cat([output.embeddings for output in outputs]).float()
    predicted = torch.cat([output.predicted_embeddings for output in outputs]).float()
    prediction_loss = float(F.mse_loss(predicted, embeddings[:, 1:]))
    heads = {
        name: float(torch.stack([output[name] for output in outputs]).mean())
        for name in ("rollout_loss", "inverse_loss", "actor_loss")
        if name in outputs[0]
    }
    metrics = {"prediction_loss": prediction_loss} | heads | embedding_monitors(embeddings, prediction_loss)
    collapsed = collapse(embeddings)
    return metrics if collapsed is None else metrics | {"collapse": collapsed}
