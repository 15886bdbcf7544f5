import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lewm_hf.measures.intervals import mcnemar, paired_difference_interval, wilson_interval


@given(
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_wilson_interval_equals_scipy(counts, confidence):
    successes, n = counts
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, n, confidence)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


def test_wilson_interval_of_the_paper_s_size():
    low, high = wilson_interval(48, 50)
    assert (round(100 * low, 1), round(100 * high, 1)) == (86.5, 98.9)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_interval_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"successes={successes} of n={n}"):
        wilson_interval(successes, n)


def test_wilson_interval_refuses_an_impossible_confidence():
    with pytest.raises(ValueError, match="confidence=95"):
        wilson_interval(1, 2, 95)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_equals_an_exact_binomial_test(pairs):
    first, second = zip(*pairs, strict=True)
    result = mcnemar(first, second)
    gained = sum(a and not b for a, b in pairs)
    lost = sum(b and not a for a, b in pairs)
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert result.p_value == pytest.approx(expected, rel=1e-9)
    assert (result.only_first, result.only_second) == (gained, lost)
    assert result.both + result.neither + gained + lost == len(pairs)
    assert result.difference == pytest.approx(sum(first) / len(pairs) - sum(second) / len(pairs))


def test_mcnemar_survives_thousands_of_episodes():
    first, second = [True] * 3000 + [False] * 2800, [False] * 3000 + [True] * 2800
    assert mcnemar(first, second).p_value == pytest.approx(binomtest(3000, 5800).pvalue, rel=1e-6)


@pytest.mark.parametrize(("first", "second"), [([True], []), ([], [])])
def test_mcnemar_refuses_unpaired_outcomes(first, second):
    with pytest.raises(ValueError, match="not paired"):
        mcnemar(first, second)


def test_newcombe_s_interval_is_his_example_s_and_never_empty():
    """Newcombe 1998 (Statistics in Medicine 17, 2635-2650), method 10 on the cells 36, 12, 2, 0: 0.0569 to 0.3404."""

    def interval(both, only_first, only_second, neither):
        first = [True] * (both + only_first) + [False] * (only_second + neither)
        second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
        return paired_difference_interval(first, second)

    assert interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    low, high = interval(12, 0, 0, 0)
    assert low < -0.2 and high > 0.2  # twelve times the same says little
    assert interval(3, 5, 2, 4) == pytest.approx([-end for end in interval(3, 2, 5, 4)][::-1])


def test_newcombe_s_interval_covers():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        shared = rng.random(60)
        first, second = shared < 0.8, np.where(rng.random(60) < 0.3, rng.random(60), shared) < 0.65
        low, high = paired_difference_interval(first.tolist(), second.tolist())
        covered.append(low <= 0.15 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
