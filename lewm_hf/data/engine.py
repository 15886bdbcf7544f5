"""What runs work that depends on nothing but its arguments; `engines` is the register of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from .workers import Report, Work, run_tasks, usable_cores


class File(Protocol):
    """One unit of work that ends in a file."""

    @property
    def name(self) -> str:
        """Its path below the folder, with slashes."""


# `write(folder, file, report)` writes `folder / file.name`, whole or not at all.
Write = Callable[[Path, Any, Report], None]


class Engine(ABC):
    """Runs work that depends on nothing but its arguments.

    Attributes:
        at_once: pieces of work that run side by side.
    """

    at_once: int

    @abstractmethod
    def run(self, work: Work, tasks: Sequence[Any], report: Report) -> list[Any]:
        """Calls `work(task, report)` for every task and returns its results in order; see `run_tasks` for errors."""

    @abstractmethod
    def write_files(self, write: Write, out: Path, files: Sequence[File], report: Report) -> None:
        """Has every file written into the folder `out` of this machine, wherever it is made.

        A file that is finished stays, whatever happens to the others.
        """


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
    def at_once(self) -> int:
        return min(self.workers, usable_cores())

    def run(self, work: Work, tasks: Sequence[Any], report: Report) -> list[Any]:
        return run_tasks(work, tasks, self.workers, report, self.fork)

    def write_files(self, write: Write, out: Path, files: Sequence[File], report: Report) -> None:
        self.run(partial(write, out), files, report)
