"""Variance and covariance terms that keep embeddings from collapsing (VICReg, arXiv 2105.04906), on any ranks.

Each rank holds its share of the batch; sums over the batch run over all ranks and are differentiable, so that the
ranks' mean gradient is the gradient of the whole batch's loss, as in `sigreg.py`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sigreg import all_reduce_sum, world_size

EPSILON = 1e-4  # inside the square root, whose slope at 0 is infinite


def centered(embeddings: Tensor) -> Tensor:
    """Embeddings `(B, T, D)` without their mean over the global batch at each time step, in float32."""
    embeddings = embeddings.float()
    return embeddings - all_reduce_sum(embeddings.sum(0)) / (len(embeddings) * world_size())


def hinge(variance: Tensor) -> Tensor:
    """How far standard deviations stay below 1, the mean over all entries: `mean(relu(1 - sqrt(variance + 1e-4)))`."""
    return F.relu(1 - (variance + EPSILON).sqrt()).mean()


def off_diagonal(covariance: Tensor) -> Tensor:
    """Mean square of the entries off the diagonal of matrices `(..., D, D)`; 0 where D is 1."""
    dim = covariance.shape[-1]
    squares = covariance.square().sum((-2, -1)) - covariance.diagonal(dim1=-2, dim2=-1).square().sum(-1)
    return (squares / max(1, dim * (dim - 1))).mean()


def over_batch(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and covariance terms over the global batch at each time step, two scalars.

    Args:
        rows: `(B, T, D)`, centered; all ranks hold equally many.

    Raises:
        ValueError: where the global batch has a single row.
    """
    count = len(rows) * world_size()
    if count < 2:
        raise ValueError("variance over a batch of one window is undefined: raise batch_size to 2 or more")
    variance = all_reduce_sum(rows.square().sum(0)) / (count - 1)
    covariance = all_reduce_sum(torch.einsum("bti,btj->tij", rows, rows)) / (count - 1)
    return hinge(variance), off_diagonal(covariance)


def over_time(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and covariance terms over the time steps of each window, two scalars, 0 for a single step.

    Each rank's own windows suffice: the mean over ranks is the mean over all windows.

    Args:
        rows: `(B, T, D)`. The covariance is taken about 0, the variance about the mean over time.
    """
    steps = rows.shape[1]
    if steps < 2:
        return rows.new_zeros(()), rows.new_zeros(())
    covariance = torch.einsum("bti,btj->bij", rows, rows) / (steps - 1)
    return hinge(rows.var(1)), off_diagonal(covariance)
