"""Where work runs: on the cores of this machine, or of a Ray cluster. One entry in `ENGINES` for each place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
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


@contextmanager
def _processes(workers: int | None, fork: bool, address: str | None) -> Iterator[Engine]:
    if address is not None:
        raise ValueError(f"the address {address} is that of a Ray cluster: work on it with on='ray' (--on ray)")
    yield Processes(usable_cores() if workers is None else workers, fork)


def _ray(workers: int | None, fork: bool, address: str | None) -> AbstractContextManager[Engine]:
    from .ray_engine import ray_engine

    return ray_engine(workers, address)


ENGINES: Mapping[str, Callable[[int | None, bool, str | None], AbstractContextManager[Engine]]] = {
    "processes": _processes,
    "ray": _ray,
}


def check_engine(on: str, workers: int | None) -> None:
    """Refuses what no engine does, without opening one.

    Raises:
        ValueError: one line.
    """
    if on not in ENGINES:
        raise ValueError(f"on={on!r} is no place to work: use one of {', '.join(ENGINES)}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")


def opened_engine(
    on: str, *, workers: int | None = None, fork: bool = True, address: str | None = None
) -> AbstractContextManager[Engine]:
    """An engine, which is given back when the block ends.

    Args:
        on: a key of `ENGINES`.
        workers: pieces of work that run side by side, at most; default: as many as there are cores.
        fork: whether the work survives a fork, see `run_tasks`.
        address: of a Ray cluster, see `ray_engine`.

    Raises:
        ValueError, OSError: one line, where there is no such engine, or it cannot be reached.
        ImportError: one line that names the pip extra that is missing.
    """
    check_engine(on, workers)
    return ENGINES[on](workers, fork, address)
