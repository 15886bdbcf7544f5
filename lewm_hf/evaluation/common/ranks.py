"""Processes that divide one evaluation: started by `accelerate launch`, torchrun or another launcher of PyTorch's.

Every process opens model and data, does its share, and knows all results afterwards; files are the main one's.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from ...engines.workers import REPORTED, as_reported
from ...meeting import telling_of_a_wait

Value = TypeVar("Value")

PATIENCE = timedelta(hours=2)  # the others wait while the main process writes and films
_SHARED = "every process refuses this, the main one says so"


@dataclass(frozen=True)
class Ranks:
    """This process among those that work together; by itself where nothing is said.

    Args:
        number, count: of this one, and of all.
    """

    number: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        return self.number == 0

    @property
    def share(self) -> slice:
        """Of any sequence, this process's part: every `count`-th, so that hard ones that lie together are divided."""
        return slice(self.number, None, self.count)

    def every(self, value: Value) -> list[Value]:
        """What each process passes, in their order; all of them must call it. Values are pickled."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def together(self, mine: Sequence[Value]) -> list[Value]:
        """The whole sequence of which every process passes its `share`."""
        parts = self.every(list(mine))
        whole: list[Any] = [None] * sum(map(len, parts))
        for number, part in enumerate(parts):
            whole[number :: self.count] = part
        return whole

    def told(self, value: Value) -> Value:
        """The main process's value, everywhere."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def on_main(self, work: Callable[[], Value]) -> Value | None:
        """What the main process gets by `work`; the others wait, get `None`, and its refusal where it refuses.

        Raises:
            ValueError, OSError, ImportError: as `work` does, in every process.
        """
        return self.agreed(lambda: work() if self.main else None)

    def agreed(self, work: Callable[[], Value]) -> Value:
        """What each process gets by `work`; where one refuses, all do.

        Raises:
            ValueError, OSError, ImportError: the first refusal, in every process.
        """
        if self.count == 1:
            return work()
        done: list[Value] = []
        refusal = None
        try:
            done.append(work())
        except REPORTED as error:
            refusal = as_reported(error)
        for refused in self.every(refusal):
            if refused is not None:
                refused.add_note(_SHARED)
                raise refused
        return done[0]


ALONE = Ranks()


@contextmanager
def launched_ranks() -> Iterator[Ranks]:
    """The processes that this one was started with; one alone where there was no launcher.

    What all of them refuse leaves the others than the main one in silence, with exit status 2.
    """
    if not os.environ.get("WORLD_SIZE", "1").isdigit() or int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield ALONE
        return
    # Accelerate would take the environment's word for a device that is not there.
    cpu = torch.accelerator.current_accelerator(check_available=True) is None
    with telling_of_a_wait():
        state = PartialState(cpu=cpu, timeout=PATIENCE)
    try:
        yield Ranks(state.process_index, state.num_processes)
        state.wait_for_everyone()
    except REPORTED as error:
        if not state.is_main_process and _SHARED in getattr(error, "__notes__", ()):
            raise SystemExit(2) from error
        raise
    finally:
        state.destroy_process_group()
