"""How many dimensions do embeddings fill?"""

import torch
from torch import Tensor


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
