"""Which windows make up which batch, as a pure function of the seed."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.windows import Window, collate_windows
from .shuffling import Permutation

SECONDS_TO_END = 10
# Up to so many windows an epoch's order is an array of 32 MB at most; beyond, it is computed batch by batch.
LARGEST_SHUFFLE = 2**22


class WindowBatches(Sampler[list[int]]):
    """Index lists of the batches `start` to `stop - 1` of a run.

    Every epoch is a fresh permutation that depends on `(seed, epoch)` alone, the rest that fills no batch dropped. A
    run that continues at batch k therefore asks for `start=k`, and several processes together draw the very batches
    that one would. Up to 2^22 windows the permutation is NumPy's; of more, a Feistel network's, which takes no memory
    (a run of an earlier version on more than these goes on in the new order when it is resumed).

    Args:
        num_windows: size of the data set.
        batch_size: windows of all ranks together.
        seed: of the order.
        start, stop: counted over all epochs.
        rank, num_ranks: this process takes its contiguous share of every batch.
        favored, favored_share: numbers of windows to show more often; each place of a batch goes with that probability
            to one of them, drawn anew.

    Raises:
        ValueError: where the data set does not fill a batch, or ranks do not divide it.
    """

    def __init__(
        self,
        num_windows: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        num_ranks: int = 1,
        favored: np.ndarray | None = None,
        favored_share: float = 0.0,
    ):
        if num_windows < batch_size:
            raise ValueError(
                f"the training split has {num_windows} windows, fewer than batch_size={batch_size}: "
                "collect more episodes or lower batch_size"
            )
        if batch_size % num_ranks:
            raise ValueError(f"batch_size={batch_size} cannot be shared by {num_ranks} processes: make it a multiple")
        self.num_windows, self.batch_size, self.seed = num_windows, batch_size, seed
        self.start, self.stop = start, stop
        self.favored, self.favored_share = favored, favored_share
        share = batch_size // num_ranks
        self.share = slice(rank * share, (rank + 1) * share)

    @property
    def per_epoch(self) -> int:
        return self.num_windows // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        current, order = None, None
        for number in range(self.start, self.stop):
            epoch, position = divmod(number, self.per_epoch)
            if epoch != current:
                current, order = epoch, self._shuffled(epoch) if self.num_windows <= LARGEST_SHUFFLE else None
            batch = slice(position * self.batch_size, (position + 1) * self.batch_size)
            chosen = self._computed(epoch, batch) if order is None else order[batch]
            yield chosen[self.share].tolist()

    def _shuffled(self, epoch: int) -> np.ndarray:
        """The window indices of one epoch."""
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        return self._favoring(generator.permutation(self.num_windows), generator)

    def _computed(self, epoch: int, batch: slice) -> np.ndarray:
        """The window indices of one batch, by itself."""
        order = Permutation(self.num_windows, (self.seed, epoch))(np.arange(batch.start, batch.stop))
        return self._favoring(order, np.random.default_rng(np.random.SeedSequence([self.seed, epoch, batch.start])))

    def _favoring(self, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        if self.favored_share and self.favored is not None:
            chosen = generator.random(len(order)) < self.favored_share
            order[chosen] = generator.choice(self.favored, chosen.sum())
        return order

    def __len__(self) -> int:
        return max(0, self.stop - self.start)


def check_workers(num_workers: int, frame_cache: str | None) -> None:
    """Raises:
    ValueError: where loader processes could not see the frames that this process keeps in memory.
    """
    if num_workers and frame_cache == "ram" and sys.platform != "linux":
        raise ValueError(
            f"num_workers={num_workers} cannot share frame_cache=ram on this system: use frame_cache=memmap, or "
            "num_workers=0"
        )


class _ObeyTheParentAlone:
    """`worker_init_fn`: workers end when this process says so, and not when a signal reaches all of them.

    Ctrl-C and a batch system's SIGTERM reach the workers too, and dead workers would keep the run from saving. But what
    joins them at exit sends SIGTERM as well: it counts once `done` is set.
    """

    def __init__(self) -> None:
        self.done = multiprocessing.RawValue("b", 0)

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, signum: int, frame: FrameType | None) -> None:
        if self.done.value:
            os._exit(0)


def batch_loader(
    windows: Dataset,
    batches: Iterable[list[int]],
    num_workers: int,
    device: torch.device,
    worker_init_fn: Callable[[int], None] | None = None,
) -> DataLoader:
    """A loader of what `loading` passes on, for who ends it by himself."""
    # Workers share the cached frames of this process by being its forks, also where Python would not fork by itself.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    return DataLoader(
        windows,
        batch_sampler=batches,
        collate_fn=collate_windows,
        num_workers=num_workers,
        prefetch_factor=3 if num_workers else None,
        pin_memory=device.type not in ("cpu", "mps"),
        worker_init_fn=worker_init_fn,
        multiprocessing_context=context if num_workers else None,
        # Its own generator: otherwise creating the iterator draws from the global one, and a resumed run's dropout
        # would differ from the uninterrupted run's.
        generator=torch.Generator().manual_seed(0),
    )


@contextmanager
def loading(
    windows: Dataset, batches: Iterable[list[int]], num_workers: int, device: torch.device
) -> Iterator[Iterator[Window]]:
    """Batches of `pixel_values` uint8 `(B, T, H, W, 3)` and `actions` `(B, T, A)`; no worker survives the block.

    Args:
        windows: a data set whose `__getitems__` reads a batch.
        batches: yields index lists.
        num_workers: loader processes; 0 reads in this process.
        device: that the batches go to.

    Raises:
        OSError: one line, where a worker was killed.
    """
    obey = _ObeyTheParentAlone()
    loader = batch_loader(windows, batches, num_workers, device, worker_init_fn=obey)
    before = set(multiprocessing.active_children())
    iterator = iter(loader)
    workers = [process for process in multiprocessing.active_children() if process not in before]
    passed_on = _pass_on(iterator)
    try:
        try:
            yield passed_on
        except (ConnectionError, EOFError):  # from the middle of a batch, before the system tells how its worker ended
            _await_an_end(workers)
            raise
    except (RuntimeError, OSError, EOFError) as error:
        # PyTorch raises it wherever this process happens to be when a worker dies: in the middle of a checkpoint too,
        # whose writer takes it for a full disk, or while that end is waited for.
        for worker in workers:
            if worker.exitcode:
                raise OSError(_death(worker.exitcode)) from error
        raise
    finally:
        obey.done.value = 1
        passed_on.close()
        del iterator  # which ends the workers, unless an error's frames still hold it
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(SECONDS_TO_END)
            if worker.exitcode is None:
                worker.kill()
                worker.join()


def _await_an_end(workers: Sequence[BaseProcess]) -> None:
    """Until one of them has ended and the system says how; its files, and the sentinel with them, are closed before."""
    ended = wait([worker.sentinel for worker in workers], SECONDS_TO_END)
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(SECONDS_TO_END)


def _pass_on(iterator: Iterator[Window]) -> Generator[Window, None, None]:
    """Once closed, it holds nothing, whoever still holds it."""
    yield from iterator


def _death(exitcode: int) -> str:
    how = f"was killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with status {exitcode}"
    return (
        f"a loader worker {how}, as happens where memory runs out: continue with --resume, if need be with fewer "
        "num_workers or frame_cache=memmap"
    )
