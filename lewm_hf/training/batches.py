"""Which windows make up which batch, as a pure function of the seed."""

import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.windows import collate_windows


class WindowBatches(Sampler[list[int]]):
    """Index lists of the batches `start` to `stop - 1` of a run.

    Every epoch is a fresh permutation that depends on `(seed, epoch)` alone, the rest that fills no batch dropped. A
    run that continues at batch k therefore asks for `start=k`, and several processes together draw the very batches
    that one would.

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

    def epoch(self, epoch: int) -> np.ndarray:
        """The window indices of one epoch, `(per_epoch, batch_size)`."""
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        order = generator.permutation(self.num_windows)
        if self.favored_share:
            chosen = generator.random(len(order)) < self.favored_share
            order[chosen] = generator.choice(self.favored, chosen.sum())
        return order[: self.per_epoch * self.batch_size].reshape(self.per_epoch, self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        current = order = None
        for number in range(self.start, self.stop):
            epoch, position = divmod(number, self.per_epoch)
            if epoch != current:
                current, order = epoch, self.epoch(epoch)
            yield order[position, self.share].tolist()

    def __len__(self) -> int:
        return max(0, self.stop - self.start)


def _leave_signals_to_the_parent(worker: int):
    """Ctrl-C and a batch system's SIGTERM reach the workers too; dead workers would keep the run from saving."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def batch_loader(windows: Dataset, batches, num_workers: int, device: torch.device) -> DataLoader:
    """A loader of the windows' batches, see `WindowDataset.batch`; `batches` yields index lists."""
    return DataLoader(
        windows,
        batch_sampler=batches,
        collate_fn=collate_windows,
        num_workers=num_workers,
        prefetch_factor=3 if num_workers else None,
        pin_memory=device.type not in ("cpu", "mps"),
        worker_init_fn=_leave_signals_to_the_parent,
        # Its own generator: otherwise creating the iterator draws from the global one, and a resumed run's dropout
        # would differ from the uninterrupted run's.
        generator=torch.Generator().manual_seed(0),
    )
