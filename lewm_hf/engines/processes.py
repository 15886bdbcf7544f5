"""Processes of this machine as an engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .base import Engine, File, Wanted, Write
from .workers import Report, Work, run_tasks, usable_cores


@dataclass(frozen=True)
class Processes(Engine):
    """Processes of this machine.

    Args:
        workers: how many; with one, everything runs in this process.
        fork: see `run_tasks`.
    """

    workers: int
    fork: bool

    @property
    def at_once(self) -> int:  # type: ignore[override]  # follows what the others say
        return min(self.workers, usable_cores())

    def run(self, work: Work, tasks: Sequence[Any], report: Report) -> list[Any]:
        return run_tasks(work, tasks, self.workers, report, self.fork)

    def write_files(self, write: Write, out: Path, files: Sequence[File], report: Report) -> None:
        self.run(partial(write, out), files, report)


@contextmanager
def open_processes(wanted: Wanted) -> Iterator[Engine]:
    """As many processes as cores, unless told otherwise.

    Raises:
        ValueError: one line for an address.
    """
    if wanted.address is not None:
        raise ValueError(f"the address {wanted.address} is that of a Ray cluster: work on it with on='ray' (--on ray)")
    yield Processes(usable_cores() if wanted.workers is None else wanted.workers, wanted.fork)
