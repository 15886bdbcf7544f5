"""Statistics against SciPy, scikit-learn and statsmodels on random data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from statsmodels.stats.weightstats import DescrStatsW

from lewm_hf.evaluation.probe.regression import fit_mlp, fit_ridge, pixel_components
from lewm_hf.measures.correlation import pearson, r_squared, ranks, roc_auc, spearman
from lewm_hf.measures.significance import band, bootstrap_interval, mean_interval, paired_test, resampled_interval

small = st.integers(-4, 4).map(float)  # few values: many ties


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 40), st.integers(1, 4), st.integers(0, 2**31))
def test_pearson_and_r_squared(n, k, seed):
    rng = np.random.default_rng(seed)
    true = rng.normal(3, 10, (n, k))
    predicted = 0.7 * true + rng.normal(0, rng.uniform(0.1, 20), (n, k))
    np.testing.assert_allclose(
        pearson(predicted, true), [stats.pearsonr(predicted[:, i], true[:, i])[0] for i in range(k)], atol=1e-12
    )
    np.testing.assert_allclose(
        r_squared(predicted, true), r2_score(true, predicted, multioutput="raw_values"), rtol=1e-9
    )


def test_constant_columns_follow_scikit_learn():
    true = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    predicted = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
    np.testing.assert_array_equal(
        r_squared(predicted, true), r2_score(true, predicted, multioutput="raw_values", force_finite=True)
    )
    np.testing.assert_array_equal(pearson(predicted, true), [0, 0])


@settings(max_examples=80, deadline=None)
@given(arrays(float, st.integers(2, 30), elements=small), st.integers(0, 2**31))
def test_ranks_and_spearman_with_ties(values, seed):
    other = np.random.default_rng(seed).integers(-2, 3, len(values)).astype(float)
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values))
    expected = 0.0 if np.ptp(values) == 0 or np.ptp(other) == 0 else stats.spearmanr(values, other).statistic
    assert spearman(values, other) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(arrays(float, st.integers(2, 40), elements=small), st.integers(0, 2**31))
def test_roc_auc_with_ties(scores, seed):
    events = np.random.default_rng(seed).random(len(scores)) < 0.4
    events[:2] = True, False
    assert roc_auc(scores, events) == pytest.approx(roc_auc_score(events, scores), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.floats(-2, 2), st.integers(0, 2**31))
def test_paired_test(n, shift, seed):
    rng = np.random.default_rng(seed)
    second = rng.normal(0, 3, n)
    first = second + rng.normal(shift, 1, n)
    ours = paired_test(first, second)
    t, p_value, df = DescrStatsW(first - second).ttest_mean(0.0)
    assert (ours.t, ours.p_value) == pytest.approx((t, p_value), rel=1e-8)
    assert df == n - 1 == ours.n - 1
    assert ours.interval == pytest.approx(DescrStatsW(first - second).tconfint_mean(0.05), rel=1e-8)
    assert stats.ttest_rel(first, second).pvalue == pytest.approx(ours.p_value, rel=1e-8)
    difference = first - second
    assert ours.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1))
    low, high = band(np.stack([first, second], 1), 0.9)
    expected = [DescrStatsW(values).tconfint_mean(0.1) for values in (first, second)]
    np.testing.assert_allclose(np.stack([low, high], 1), expected, rtol=1e-8)


def test_degenerate_differences():
    same = paired_test([1.0, 2.0], [1.0, 2.0])
    assert (same.t, same.p_value, same.effect_size) == (0, 1, 0)
    with pytest.raises(ValueError, match="no variation"):
        paired_test([2.0, 3.0], [1.0, 2.0])
    assert mean_interval([3.0]) == (3.0, 3.0)


def test_bootstrap_interval_of_a_mean_is_students():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap_interval(lambda index: float(values[index].mean()), 400, seed=3, resamples=4000)
    expected = mean_interval(values)
    assert (low, high) == pytest.approx(expected, abs=0.03)
    assert (low, high) == bootstrap_interval(lambda index: float(values[index].mean()), 400, seed=3, resamples=4000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pearson(np.zeros((3, 1)), np.zeros((4, 1))), "do not match"),
        (lambda: pearson(np.zeros((1, 1)), np.zeros((1, 1))), "at least 2"),
        (lambda: r_squared(np.array([[0.0], [np.nan]]), np.zeros((2, 1))), "row 1 is not"),
        (lambda: roc_auc([1.0, 2.0], [1, 1]), "needs both"),
        (lambda: roc_auc([1.0, 2.0], [0, 2]), "0 or 1"),
        (lambda: roc_auc([1.0], [0, 1]), "do not match"),
        (lambda: roc_auc([1.0, np.inf], [0, 1]), "finite"),
        (lambda: paired_test([1.0], [2.0]), "not paired"),
        (lambda: mean_interval([]), "no mean"),
        (lambda: mean_interval([1.0, 2.0], confidence=95), "between 0 and 1"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("n", "d"), [(80, 5), (30, 60)])
def test_ridge_is_scikit_learns_on_standardized_inputs(n, d):
    rng = np.random.default_rng(0)
    inputs = rng.normal(4, 3, (n, d))
    inputs[:, 1] = 7.0  # a constant feature
    targets = np.tanh(inputs[:, :2]) + rng.normal(0, 0.1, (n, 2))
    std = inputs.std(0)
    scaled = (inputs - inputs.mean(0)) / np.where(std > 0, std, 1)
    for alpha in (1e-2, 3.0):
        expected = Ridge(alpha=alpha).fit(scaled, targets).predict(scaled)
        np.testing.assert_allclose(fit_ridge(inputs, targets, alpha)(inputs), expected, atol=1e-8)


def test_mlp_learns_what_a_line_cannot_and_repeats_itself():
    rng = np.random.default_rng(0)
    inputs = rng.normal(2, 5, (600, 3))
    scaled = (inputs - inputs.mean(0)) / inputs.std(0)
    targets = np.stack([np.sin(2 * scaled[:, 0]), scaled[:, 1] * scaled[:, 2]], 1)
    fit = fit_mlp(inputs[:400], targets[:400], seed=1, steps=250)
    line = fit_ridge(inputs[:400], targets[:400])
    assert r_squared(line(inputs[400:]), targets[400:]).max() < 0.3
    assert r_squared(fit(inputs[400:]), targets[400:]).min() > 0.8
    again = fit_mlp(inputs[:400], targets[:400], seed=1, steps=250)
    np.testing.assert_array_equal(fit(inputs[400:]), again(inputs[400:]))
    other = fit_mlp(inputs[:400], targets[:400], seed=2, steps=250)
    assert np.abs(fit(inputs[400:]) - other(inputs[400:])).max() > 1e-3


@pytest.mark.parametrize("pixels", [12, 200])
def test_pixel_components_are_scikit_learns(pixels):
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(60, 6)) @ rng.normal(size=(6, pixels)) + rng.normal(size=(60, pixels)) * 0.05 + 3
    fitted = np.arange(0, 60, 2)
    ours = pixel_components(pictures.astype(np.float32), fitted, 4)
    theirs = PCA(4, svd_solver="full").fit(pictures[fitted]).transform(pictures)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-3, atol=1e-3)  # the sign is free


def test_scores_of_overlapping_splits_have_wider_intervals():
    """The variance of Nadeau and Bengio, by hand: (1 / k + n_test / n_train) s^2."""
    scores = np.array([0.91, 0.93, 0.88, 0.95, 0.9])
    half = stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 30 / 70) * scores.var(ddof=1))
    assert resampled_interval(scores, 30 / 70) == pytest.approx((scores.mean() - half, scores.mean() + half))
    assert resampled_interval([0.5], 1.0) == (0.5, 0.5)
