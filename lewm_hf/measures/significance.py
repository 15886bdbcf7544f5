"""Intervals of means, the paired t-test and the bootstrap."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..extras import requires_extra
from ..records import Record

with requires_extra("eval"):
    from scipy import special


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of `(n,)` values; the mean itself twice for one value.

    Raises:
        ValueError: for an empty list or a confidence outside (0, 1).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values of shape {values.shape} have no mean: give at least one number")
    low, high = band(values[:, None], confidence)
    return float(low[0]), float(high[0])


def band(values: ArrayLike, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval of the mean of each column: `(n, k)` -> two `(k,)`."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), values.mean(0)
    if n < 2:
        return mean, mean
    half = special.stdtrit(n - 1, 0.5 + confidence / 2) * values.std(0, ddof=1) / math.sqrt(n)
    return mean - half, mean + half


def resampled_interval(values: ArrayLike, test_share: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a mean score over random splits of the same data, which overlap and so agree too well: the variance
    is that of Nadeau and Bengio (2003).

    Args:
        values: `(k,)` one score per split; one split has no spread.
        test_share: size of a test part over that of its training part.
    """
    values = np.asarray(values, dtype=np.float64)
    mean, k = float(values.mean()), len(values)
    if k < 2:
        return mean, mean
    low, high = mean_interval(values, confidence)
    stretch = math.sqrt(1 + k * test_share)
    return mean - (mean - low) * stretch, mean + (high - mean) * stretch


@dataclass(frozen=True)
class PairedTest(Record):
    """Student's test that paired differences have mean 0.

    Attributes:
        n: pairs.
        mean_difference, interval: of first minus second, with its 95 % interval.
        t, p_value: two-sided, n - 1 degrees of freedom.
        effect_size: Cohen's d of paired data, mean difference over the standard deviation of the differences.
    """

    n: int
    mean_difference: float
    interval: tuple[float, float]
    t: float
    p_value: float
    effect_size: float


def paired_test(first: ArrayLike, second: ArrayLike) -> PairedTest:
    """Compares paired measurements `(n,)`, `(n,)`. Without any difference t = 0 and p = 1.

    Raises:
        ValueError: for different lengths, fewer than 2 pairs, or differences that are all the same but not 0.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise ValueError(f"{first.shape} and {second.shape} values are not paired: give two equally long lists")
    difference = first - second
    n, mean, std = len(difference), float(difference.mean()), float(difference.std(ddof=1))
    if std == 0:
        if mean != 0:
            raise ValueError(f"all {n} differences equal {mean}: there is no variation to test against")
        return PairedTest(n, 0.0, (0.0, 0.0), 0.0, 1.0, 0.0)
    effect = mean / std
    t = effect * math.sqrt(n)
    p_value = float(2 * special.stdtr(n - 1, -abs(t)))
    return PairedTest(n, mean, mean_interval(difference), t, p_value, effect)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], n: int, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of a statistic over resampled units.

    Args:
        statistic: takes indices `(n,)` into the units, drawn with replacement.
        n: number of units.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(n, size=n)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
