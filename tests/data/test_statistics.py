import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lewm_hf.data.statistics import action_statistics, lag_one_autocorrelation, measure, solved_share


def episodes(lengths, dim, seed):
    """Correlated actions, NaN in every last row."""
    rng = np.random.default_rng(seed)
    parts = []
    for length in lengths:
        walk = np.cumsum(rng.normal(size=(length, dim)), axis=0) + rng.normal(size=dim)
        walk[-1] = np.nan
        parts.append(walk.astype(np.float32))
    return parts


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 12), min_size=2, max_size=6),
    dim=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_against_numpy_and_scipy(lengths, dim, seed):
    parts = episodes(lengths, dim, seed)
    actions = np.concatenate(parts)
    mean, std = action_statistics(actions)
    np.testing.assert_allclose(mean, np.nanmean(actions.astype(np.float64), axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, np.nanstd(actions.astype(np.float64), axis=0), rtol=1e-12)

    starts = np.zeros(len(actions), bool)
    starts[np.cumsum(lengths) - lengths] = True
    before = np.concatenate([part[:-2] for part in parts]).astype(np.float64)
    after = np.concatenate([part[1:-1] for part in parts]).astype(np.float64)
    expected = [stats.pearsonr(before[:, d], after[:, d]).statistic for d in range(dim)]
    np.testing.assert_allclose(lag_one_autocorrelation(actions, starts), expected, atol=1e-9)


def test_the_population_estimator_and_float64():
    assert action_statistics(np.array([[0.0], [2.0]])) == ([1.0], [1.0])  # the sample estimator says 1.414
    actions = np.full((1000, 1), 1e4, np.float32)
    actions[::2] += 1
    np.testing.assert_allclose(action_statistics(actions)[1], [0.5], rtol=1e-12)  # float32 sums lose this


def test_a_partly_missing_action_is_left_out_whole():
    mean, std = action_statistics(np.array([[1.0, 5.0], [np.nan, 100.0], [3.0, 7.0]]))
    assert mean == [2.0, 6.0] and std == [1.0, 1.0]


def test_no_action_at_all():
    with pytest.raises(ValueError, match="no action to measure"):
        action_statistics(np.full((3, 2), np.nan))


def test_an_undefined_correlation_is_none():
    assert lag_one_autocorrelation(np.ones((5, 1)), np.arange(5) == 0) == [None]
    assert lag_one_autocorrelation(np.arange(3.0)[:, None], np.ones(3, bool)) == [None]


def test_solved_share_against_loops():
    rng = np.random.default_rng(0)
    lengths = np.array([5, 40, 26, 25, 60])
    states = rng.normal(size=(lengths.sum(), 2))

    def reached(states, goals):
        return np.linalg.norm(states - goals, axis=1) < 1.0

    solved, offset = [], 0
    for length in lengths:
        episode = states[offset : offset + length]
        solved += [np.linalg.norm(episode[t] - episode[t + 25]) < 1.0 for t in range(length - 25)]
        offset += length
    assert len(solved) == 15 + 1 + 0 + 35
    assert solved_share(states, lengths, reached) == np.mean(solved)
    assert solved_share(states[:5], lengths[:1], reached) is None


def test_facts_against_loops():
    lengths = {"train": np.array([4, 7]), "test": np.array([5])}
    parts = episodes([4, 7, 5], 2, 3)
    success = np.zeros(16, bool)
    success[[2, 3, 15]] = True  # the first and the last episode
    facts = measure(lengths, np.concatenate(parts), success, None, None, 12.0)
    assert facts.splits == {"train": (2, 11), "test": (1, 5)} and (facts.episodes, facts.rows) == (3, 16)
    assert facts.successful_episodes == 2 / 3 and facts.solved_pairs is None
    assert facts.length_quantiles[0] == 4 and facts.length_quantiles[3] == 5 and facts.length_quantiles[-1] == 7
    assert facts.length_mean == pytest.approx(16 / 3)
    known = np.concatenate([part[:-1] for part in parts])
    np.testing.assert_allclose(facts.action_min, known.min(0))
    np.testing.assert_allclose(facts.action_max, known.max(0))
