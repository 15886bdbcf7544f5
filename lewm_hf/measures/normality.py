"""Are embeddings Gaussian, one dimension at a time? The Epps-Pulley statistic, which SIGReg minimizes."""

import numpy as np
import torch
from torch import Tensor

from ..configuration_lewm import LeWMConfig
from ..sigreg import quadrature

ANGLES = 2**24  # held at once


def epps_pulley(values: Tensor, knots: int = LeWMConfig.sigreg_knots, t_max: float = LeWMConfig.sigreg_t_max) -> Tensor:
    """n times the weighted squared distance between the empirical characteristic function and that of N(0, 1).

    Equal to SIGReg along the axes: the Gaussian window `exp(-t^2 / 2)`, the trapezoid rule on `[-t_max, t_max]`.
    About 1.05 on N(0, 1) whatever n is; proportional to n where the distribution is another.

    Args:
        values: `(n, D)`.

    Returns:
        `(D,)` float32.
    """
    t, phi, weights = quadrature(knots, t_max)
    # In portions: the angles are `knots` times as large as the values, and a latent of patches has many columns.
    portion = max(1, ANGLES // (len(values) * knots))
    statistics = []
    for columns in values.split(portion, 1):
        angles = columns.float().cpu()[..., None] * t
        error = (angles.cos().mean(0) - phi).square() + angles.sin().mean(0).square()
        statistics.append(len(values) * (error @ weights))
    return torch.cat(statistics)


def standardized(values: Tensor) -> Tensor:
    """Values `(n, D)` with the mean and the population standard deviation of each dimension taken out."""
    return (values - values.mean(0)) / values.std(0, correction=0).clamp_min(1e-8)


def normal_quantile(n: int, quantile: float = 0.95, samples: int = 2000, seed: int = 0, fitted: bool = False) -> float:
    """The statistic's quantile on n independent draws from N(0, 1), by simulation.

    Args:
        fitted: of draws that are standardized with their own mean and deviation, which fit better (Lilliefors 1967).
    """
    generator = torch.Generator().manual_seed(seed)
    draws = (torch.randn(n, 100, generator=generator) for _ in range(-(-samples // 100)))
    parts = [epps_pulley(standardized(drawn) if fitted else drawn) for drawn in draws]
    return float(np.quantile(torch.cat(parts).numpy(), quantile))
