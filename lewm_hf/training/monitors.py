"""Numbers that show a collapsing or idle world model while it trains."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configuration_lewm import LeWMConfig
from ..evaluation.straightness import straightness
from ..sigreg import quadrature
from .batch_norm import encode_and_predict


def effective_rank(embeddings: Tensor) -> float:
    """Effective number of dimensions that `(rows, dim)` embeddings fill, between 1 and dim.

    The exponential of the entropy of the normalized singular values of the centred matrix (Roy and Vetterli, "The
    effective rank: a measure of effective dimensionality", EUSIPCO 2007). 0 where all rows coincide.
    """
    embeddings = embeddings.float()
    singular_values = torch.linalg.svdvals(embeddings - embeddings.mean(0))
    total = singular_values.sum()
    if not total > 0:
        return 0.0
    return float(torch.special.entr(singular_values / total).sum().exp())


def sigreg_bounds(config: LeWMConfig, batch_size: int) -> tuple[float, float]:
    """SIGReg's expected value on perfect N(0, I), and its least value where all embeddings of a batch coincide.

    The first does not depend on the batch size: `sum_k w_k (1 - phi_k^2)`; the second is proportional to it:
    `batch_size * sum_k w_k (1 - phi_k)^2`.
    """
    _, phi, weights = (value.double() for value in quadrature(config.sigreg_knots, config.sigreg_t_max))
    gaussian = (weights * (1 - phi.square())).sum()
    collapsed = batch_size * (weights * (1 - phi).square()).sum()
    return float(gaussian), float(collapsed)


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
