"""How many dimensions do embeddings fill?"""

import torch
from torch import Tensor

# Above so many entries the singular values come from the smaller of the two matrices of inner products, in float64.
DIRECT = 2**22
ROUNDING = 1e-6


def token_rows(embeddings: Tensor) -> Tensor:
    """Latents `(rows, *latent, dim)` -> `(tokens, dim)`: of a latent of patches every patch is a row of its own.

    Each patch is taken about its own mean, since patches that differ from each other, but never change, are collapsed.
    """
    if embeddings.dim() <= 2:
        return embeddings
    return (embeddings - embeddings.mean(0)).flatten(0, -2)


def singular_values(rows: Tensor) -> Tensor:
    """Singular values of centred `(rows, dim)`, largest first, in the type of `rows`."""
    centred = rows - rows.mean(0)
    if centred.numel() <= DIRECT:
        return torch.linalg.svdvals(centred)
    products = _inner_products(centred)
    return torch.linalg.eigvalsh(products).flip(0).clamp_min(0).sqrt().to(rows.dtype).to(rows.device)


def _inner_products(centred: Tensor, chunk: int = 8192) -> Tensor:
    """The smaller of `X X^T` and `X^T X` in float64, summed over chunks: a copy in float64 would be twice as large.

    On the CPU, wherever `X` is: some accelerators (MPS) have no float64.
    """
    tall = centred.shape[0] >= centred.shape[1]
    parts = (part.cpu().double() for part in centred.split(chunk, 0 if tall else 1))
    size = min(centred.shape)
    products = torch.zeros(size, size, dtype=torch.float64)
    for part in parts:
        products += part.T @ part if tall else part @ part.T
    return products


def effective_rank(embeddings: Tensor) -> float:
    """Effective number of dimensions that embeddings fill, between 1 and dim.

    The exponential of the entropy of the normalized singular values of the centred matrix (Roy and Vetterli, "The
    effective rank: a measure of effective dimensionality", EUSIPCO 2007). 0 where all rows coincide.

    Args:
        embeddings: `(rows, dim)`, or `(rows, *latent, dim)` of which every token is a row; see `token_rows`.
    """
    embeddings = embeddings.float()
    values = singular_values(token_rows(embeddings))
    total = values.sum()
    if not total > ROUNDING * embeddings.norm():  # what is left of rows that coincide when their mean is taken out
        return 0.0
    return float(torch.special.entr(values / total).sum().exp())


def isometric(vectors: Tensor) -> Tensor:
    """Rows `(n, dim)` in min(n, dim) dimensions, float64 and on the CPU, all distances as they were."""
    n, dim = vectors.shape
    if dim <= n:
        return vectors.cpu().double()
    values, left = torch.linalg.eigh(_inner_products(vectors - vectors.mean(0)))
    return left * values.clamp_min(0).sqrt()
