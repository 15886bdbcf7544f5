"""Pieces of work on several CPU cores, one thread of PyTorch each.

Threads that each do a piece of their own need not wait for each other after every operation, as the threads inside
PyTorch's operations do.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def _one_thread(started: threading.Barrier) -> None:
    torch.get_num_threads()  # takes over the process's number first: later it would overwrite this thread's own
    torch.set_num_threads(1)
    started.wait()


@cache
def _workers(count: int, process: int) -> ThreadPoolExecutor:
    """A pool of this process (a forked one inherits the object, but not its threads)."""
    started = threading.Barrier(count + 1)
    pool = ThreadPoolExecutor(count, thread_name_prefix="lewm")
    for _ in range(count):
        pool.submit(_one_thread, started)
    started.wait()
    torch.set_num_threads(count)  # each thread has its number now; threads to come are to get the process's
    return pool


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`[function(item) for item in items]` on as many cores as PyTorch may use (`OMP_NUM_THREADS`).

    Within `function` PyTorch has one thread, and so a call from there works on the items one after the other.
    """
    cores = torch.get_num_threads()
    if cores == 1 or len(items) == 1:
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
