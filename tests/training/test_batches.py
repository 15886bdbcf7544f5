import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Client, Listener
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf.data.windows import WindowBatch
from lewm_hf.training.batches import WindowBatches, loading


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


def fetch(address):
    with Client(address) as connection:
        connection.send("here")
        return connection.recv()


class Offered:
    """Reaches its reader over a connection to the worker, as PyTorch's tensors do."""

    def __init__(self, address):
        self.address = address

    def __reduce__(self):
        return fetch, (self.address,)


class EndsInTheMiddle(torch.utils.data.Dataset):
    """The worker's connection ends in the middle of a batch, and a while later the worker: killed, or by itself."""

    def __init__(self, reads, status):
        self.reads, self.status = reads, status

    def __getitems__(self, numbers):
        listener = Listener()
        Thread(target=self.end, args=(listener,)).start()
        windows = WindowBatch({"pixel_values": torch.zeros(1)})
        windows.batch = {"pixel_values": Offered(listener.address)}
        return windows

    def end(self, listener):
        connection = listener.accept()
        if self.reads:
            connection.recv()
        connection.close()
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL) if self.status is None else os._exit(self.status)


@pytest.mark.parametrize(
    ("reads", "status", "how"),
    [  # the end of the one who reads is reset where something was left unread, and else closed
        (False, None, "was killed by SIGKILL"), (True, None, "was killed by SIGKILL"), (True, 3, "ended with status 3"),
    ],
)  # fmt: skip
def test_a_worker_whose_connection_ends_before_the_system_tells_how_it_ended_is_named(reads, status, how):
    windows = EndsInTheMiddle(reads, status)
    with (
        pytest.raises(OSError, match=f"a loader worker {how}, .*continue with --resume") as raised,
        loading(windows, [[0]], 1, torch.device("cpu")) as batches,
    ):
        next(batches)
    assert "\n" not in str(raised.value)
    assert not multiprocessing.active_children()
