"""What an engine is: it runs work that depends on nothing but its arguments."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .workers import Report, Work


class File(Protocol):
    """One unit of work that ends in a file."""

    @property
    def name(self) -> str:
        """Its path below the folder, with slashes."""


# `write(folder, file, report)` writes `folder / file.name`, whole or not at all.
Write = Callable[[Path, Any, Report], None]


@dataclass(frozen=True)
class Wanted:
    """What is asked of an engine that is about to be opened.

    Args:
        workers: pieces of work that run side by side, at most; default: as many as there is room for.
        fork: whether the work survives a fork, see `workers.run_tasks`.
        address: where the engine is, of one that can be in several places.
    """

    workers: int | None = None
    fork: bool = True
    address: str | None = None


class Engine(ABC):
    """Runs work that depends on nothing but its arguments; known by a name once it is `register_engine`d.

    Work and its tasks can be pickled; both are run in any order, as often as it takes, and on any machine that has this
    package and the modules that they are from.

    Attributes:
        at_once: pieces of work that run side by side.
        host: this machine's address, as those see it that work for the engine.
    """

    at_once: int
    host: str = "127.0.0.1"

    @abstractmethod
    def run(self, work: Work, tasks: Sequence[Any], report: Report) -> list[Any]:
        """Calls `work(task, report)` for every task, and returns its results in order.

        Args:
            work: what is done; it calls its `report` with how much of it is done now.
            tasks: of which each is done by itself.
            report: gets what the work reports, in this process.

        Raises:
            ValueError, OSError, ImportError: the first that `work` raises, or one line where workers are lost.
        """

    @abstractmethod
    def write_files(self, write: Write, out: Path, files: Sequence[File], report: Report) -> None:
        """Has every file written into a folder, wherever it is made.

        A file that is finished stays, whatever happens to the others. Errors as of `run`.

        Args:
            write: makes a file in a folder of the machine where it runs.
            out: the folder, on this machine.
            files: of which each is made by itself.
            report: gets what the work reports, in this process.
        """

    def start(self, works: Sequence[Callable[[], Any]]) -> None:
        """Starts processes that go on beside this one and talk with it, and returns at once.

        Evaluations and analyses are divided in this way. An engine need not be able to.

        Args:
            works: one for each process.

        Raises:
            ValueError: one line, where the engine cannot.
            OSError: one line, where it has no room.
        """
        raise ValueError(
            f"{type(self).__name__} runs pieces of work that know nothing of each other, which those of an evaluation "
            "do: divide it by torchrun or on='ray' (--on ray)"
        )
