"""A permutation without memory: every number once, and as disordered as a drawn one."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lewm_hf.training import batches
from lewm_hf.training.batches import WindowBatches
from lewm_hf.training.shuffling import Permutation

BILLION = 10**9


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 3000), seed=st.lists(st.integers(0, 2**64), min_size=1, max_size=3))
def test_every_number_comes_once(size, seed):
    assert sorted(Permutation(size, seed)(np.arange(size))) == list(range(size))


@settings(max_examples=50, deadline=None)
@given(size=st.integers(2**40, 2**62), start=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_places_of_a_huge_one_are_distinct_and_do_not_depend_on_each_other(size, start, seed):
    places = int(start * (size - 64)) + np.arange(64)
    permutation = Permutation(size, [seed])
    numbers = permutation(places)
    assert len(set(numbers)) == 64 and numbers.min() >= 0 and numbers.max() < size
    assert np.array_equal(permutation(places[::-7]), numbers[::-7])


def test_all_orders_of_few_are_equally_likely():
    """Of four numbers all 24 orders occur, each as often as chance has it."""
    counts = {}
    for seed in range(4800):
        order = tuple(Permutation(4, [7, seed])(np.arange(4)))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize("size", [97, 1000, 4096, 16_381])
def test_it_is_as_disordered_as_a_drawn_permutation(size):
    """Descents, fixed points and distances of neighbors have the laws of a uniform permutation."""
    orders = [Permutation(size, [seed])(np.arange(size)) for seed in range(40)]
    descents = np.mean([(np.diff(order) < 0).sum() for order in orders])
    assert abs(descents - (size - 1) / 2) < 4 * np.sqrt((size + 1) / 12 / len(orders))
    fixed = sum((order == np.arange(size)).sum() for order in orders)
    assert stats.poisson.cdf(fixed, 40) > 1e-4 and stats.poisson.sf(fixed - 1, 40) > 1e-4
    steps = np.concatenate([np.diff(order) % size for order in orders])
    assert stats.chisquare(np.histogram(steps, bins=16, range=(0.5, size - 0.5))[0], None).pvalue > 1e-4
    assert abs(stats.spearmanr(np.tile(np.arange(size), 40), np.concatenate(orders))[0]) < 4 / np.sqrt(40 * size)


def test_a_billion_windows_take_no_memory_and_every_batch_looks_like_the_whole():
    order = WindowBatches(BILLION, 128, 0, 3_000_000, 3_000_300)
    tracemalloc.start()
    drawn = np.concatenate(list(order))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    assert len(set(drawn.tolist())) == len(drawn) == 300 * 128
    assert stats.kstest(drawn / BILLION, "uniform").pvalue > 1e-4
    assert drawn.tolist() != np.concatenate(list(WindowBatches(BILLION, 128, 1, 3_000_000, 3_000_300))).tolist()


@settings(max_examples=40, deadline=None)
@given(
    num_windows=st.integers(8, 60),
    seed=st.integers(0, 2**32),
    cut=st.integers(0, 20),
    share=st.sampled_from([0.0, 0.5]),
)
def test_computed_orders_are_cut_and_shared_like_stored_ones(num_windows, seed, cut, share):
    before, batches.LARGEST_SHUFFLE = batches.LARGEST_SHUFFLE, 0
    try:
        favored = (np.arange(3), share)
        order = WindowBatches(num_windows, 4, seed, 0, 20, 0, 1, *favored)
        whole = list(order)
        assert whole[cut:] == list(WindowBatches(num_windows, 4, seed, cut, 20, 0, 1, *favored))
        halves = [list(WindowBatches(num_windows, 4, seed, 0, 20, rank, 2, *favored)) for rank in range(2)]
    finally:
        batches.LARGEST_SHUFFLE = before
    assert [left + right for left, right in zip(*halves, strict=True)] == whole
    epoch = sum(whole[: order.per_epoch], [])
    assert share or len(set(epoch)) == len(epoch)
    assert not share or np.isin(sum(whole, []), [0, 1, 2]).mean() > 0.3


def test_small_data_sets_keep_the_order_that_runs_were_started_with():
    drawn = np.random.default_rng(np.random.SeedSequence([3, 0])).permutation(30)[:28].reshape(7, 4)
    assert list(WindowBatches(30, 4, 3, 0, 7)) == drawn.tolist()


def test_a_place_that_does_not_exist_is_refused():
    with pytest.raises(IndexError, match="places 0 to 5 do not all exist: there are 5"):
        Permutation(5, [0])(np.array([0, 5]))
