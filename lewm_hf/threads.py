"""Pieces of work on several CPU cores, one thread of PyTorch each.

Threads that each do a piece of their own need not wait for each other after every operation, as the threads inside
PyTorch's operations do.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_OWN = threading.local()  # `busy` in threads that work on an item


def _one_thread(started: threading.Barrier) -> None:
    torch.get_num_threads()  # takes over the process's number first: later it would overwrite this thread's own
    torch.set_num_threads(1)
    _OWN.busy = True
    started.wait()


@cache
def _workers(count: int, process: int) -> ThreadPoolExecutor:
    """A pool of this process (a forked one inherits the object, but not its threads)."""
    started, threads = threading.Barrier(count + 1), torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="lewm")
    for _ in range(count):
        pool.submit(_one_thread, started)
    started.wait()
    torch.set_num_threads(threads)  # each thread has its number now; threads to come are to get the process's
    return pool


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's operations have one thread meanwhile: small ones end sooner, and sums have one order.

    So have those of threads that begin meanwhile.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item], cores: int | None = None) -> list[Result]:
    """`[function(item) for item in items]` on several cores.

    Within `function` PyTorch has one thread, and a call from there works on the items one after the other.

    Args:
        cores: how many; default: as many as PyTorch may use (`OMP_NUM_THREADS`).
    """
    cores = torch.get_num_threads() if cores is None else cores
    if cores == 1 or len(items) == 1 or getattr(_OWN, "busy", False):
        return [function(item) for item in items]
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def call(item: Item) -> Result:  # both modes are a thread's own
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return function(item)

    pending = [_workers(cores, os.getpid()).submit(call, item) for item in items]
    try:
        return [future.result() for future in pending]
    finally:
        for future in pending:
            future.cancel()
