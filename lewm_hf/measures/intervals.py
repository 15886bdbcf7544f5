"""Intervals and paired tests for success rates.

Written out, in the standard library alone: a training that tries plans judges them without the extra that brings SciPy,
and results are read, carded and pushed without it. The tests compare with SciPy and statsmodels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from ..records import Record


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate, both ends in [0, 1].

    Unlike the usual mean +- 2 standard errors it is never empty at 0 or 100 % and keeps its coverage at n = 50.

    Raises:
        ValueError: unless `0 <= successes <= n`, `n >= 1` and `0 < confidence < 1`.
    """
    _check_counts(successes, n)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, z2 = successes / n, z * z
    center = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    # Exact ends: rounding must not make an interval around 0 or n exclude its own rate.
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return low, high


@dataclass(frozen=True)
class McNemar(Record):
    """Exact McNemar test of two policies on the same episodes.

    Args:
        only_first, only_second: episodes that just one of the two solved.
        both, neither: the rest, which says nothing about the difference.
        p_value: two-sided, exact binomial.
        difference: success rate of the first minus that of the second.
    """

    only_first: int
    only_second: int
    both: int
    neither: int
    p_value: float
    difference: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Compares two policies on paired episodes: under the null hypothesis each discordant episode is a fair coin.

    Raises:
        ValueError: for lists of different length or empty ones.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(
            f"{len(first)} and {len(second)} outcomes are not paired: both policies must run the same manifest"
        )
    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    discordant, smaller = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(discordant, k) for k in range(smaller + 1))
    # Integers until the one division: 2^n and the binomials overflow a float beyond about 1,000 episodes.
    p_value = 1.0 if 2 * smaller == discordant else min(1.0, 2 * tail / 2**discordant)
    return McNemar(only_first, only_second, both, neither, p_value, (only_first - only_second) / len(pairs))


def paired_difference_interval(
    first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two success rates on the same episodes: Newcombe's method 10 (1998), made of the
    two Wilson intervals and the correlation of the outcomes. Never empty, unlike a bootstrap's.

    Raises:
        ValueError: as `mcnemar`.
    """
    table = mcnemar(first, second)
    n, both, neither, only_first, only_second = (
        len(first), table.both, table.neither, table.only_first, table.only_second,
    )  # fmt: skip
    rates = (both + only_first) / n, (both + only_second) / n
    (low1, high1), (low2, high2) = (wilson_interval(round(rate * n), n, confidence) for rate in rates)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    product: float = both * neither - only_first * only_second
    if 0 <= product <= n / 2:
        product = 0  # a continuity correction
    elif product > 0:
        product -= n / 2
    phi = product / math.sqrt(margins) if margins else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    difference = rates[0] - rates[1]
    low = difference - reach(rates[0] - low1, high2 - rates[1])
    return low, difference + reach(high1 - rates[0], rates[1] - low2)


def _check_counts(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes={successes} of n={n} is not a rate: expected 0 <= successes <= n and n >= 1")
