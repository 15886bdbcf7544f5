import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf.training.batches import WindowBatches


@settings(max_examples=60, deadline=None)
@given(
    num_windows=st.integers(6, 60),
    batch_size=st.sampled_from([2, 4, 6]),
    seed=st.integers(0, 2**32),
    cut=st.integers(0, 25),
    ranks=st.sampled_from([1, 2]),
)
def test_interrupted_and_shared_orders_are_the_same_order(num_windows, batch_size, seed, cut, ranks):
    whole = list(WindowBatches(num_windows, batch_size, seed, 0, 25))
    assert list(WindowBatches(num_windows, batch_size, seed, 0, cut)) == whole[:cut]
    assert list(WindowBatches(num_windows, batch_size, seed, cut, 25)) == whole[cut:]
    shares = [list(WindowBatches(num_windows, batch_size, seed, 0, 25, rank, ranks)) for rank in range(ranks)]
    assert [sum(parts, []) for parts in zip(*shares, strict=True)] == whole


@settings(max_examples=30, deadline=None)
@given(num_windows=st.integers(8, 60), seed=st.integers(0, 2**32))
def test_an_epoch_visits_no_window_twice_and_epochs_differ(num_windows, seed):
    order = WindowBatches(num_windows, 4, seed, 0, 2 * (num_windows // 4))
    batches = list(order)
    assert len(batches) == len(order)
    first, second = (np.concatenate(part) for part in (batches[: order.per_epoch], batches[order.per_epoch :]))
    for epoch in (first, second):
        assert len(set(epoch)) == len(epoch) == num_windows // 4 * 4
        assert epoch.min() >= 0 and epoch.max() < num_windows
    assert not np.array_equal(first, second)


def test_seeds_give_different_orders():
    assert list(WindowBatches(64, 4, 0, 0, 4)) != list(WindowBatches(64, 4, 1, 0, 4))


def test_what_fills_no_batch_or_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="7 windows, fewer than batch_size=8"):
        WindowBatches(7, 8, 0, 0, 1)
    with pytest.raises(ValueError, match="batch_size=8 cannot be shared by 3"):
        WindowBatches(70, 8, 0, 0, 1, 0, 3)
