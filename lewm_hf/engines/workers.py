"""Tasks on several processes, with progress, the first error, and no survivors when the parent dies."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

# Errors that speak for themselves in one line; anything else is a defect, whose traceback the worker prints.
REPORTED = (ValueError, OSError, ImportError)

Report = Callable[[int], object]
Work = Callable[[Any, Report], Any]


def as_reported(error: Exception) -> Exception:
    """One of `REPORTED` as it travels between processes: kind and words, whatever else it holds."""
    return next(kind for kind in REPORTED if isinstance(error, kind))(str(error))


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(work: Work, tasks: Sequence[Any], workers: int, report: Report, fork: bool = True) -> list[Any]:
    """Calls `work(task, report)` for every task and returns its results; reports reach the caller's `report`.

    With one worker everything runs in this process. Otherwise tasks go to processes one by one, in order; they must
    not depend on each other. A worker ends soon after its parent is gone.

    A forked worker starts at once, a spawned one imports everything again. `fork=False` is for work with a library that
    does not survive a fork: a renderer that this process has opened hangs in its child. Only Linux forks at all.

    Raises:
        ValueError, OSError, ImportError: the first one raised by `work`; the other workers are stopped.
        OSError: where a worker died without a word, for instance for lack of memory.
    """
    if workers == 1:
        return [work(task, report) for task in tasks]
    context: Any = multiprocessing.get_context("fork" if fork and sys.platform == "linux" else "spawn")
    waiting = list(reversed(list(enumerate(tasks))))
    results: list[Any] = [None] * len(tasks)
    processes: dict[Connection, BaseProcess] = {}
    running: dict[Connection, int] = {}

    def give_task(connection: Connection) -> None:
        running[connection], task = waiting.pop()
        connection.send(task)

    try:
        for _ in range(min(workers, len(tasks))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(work, theirs, os.getpid()), daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
            give_task(ours)
        while running:
            ready = set(wait(list(running)))
            for connection in [one for one in running if one in ready]:
                kind, value = _receive(connection, processes[connection])
                if kind == "error":
                    raise value
                if kind == "progress":
                    report(value)
                    continue
                results[running.pop(connection)] = value
                if waiting:
                    give_task(connection)
        return results
    finally:
        for process in processes.values():
            process.terminate()
        for connection, process in processes.items():
            process.join()
            connection.close()


def _receive(connection: Connection, process: BaseProcess) -> tuple[str, Any]:
    try:
        return connection.recv()
    except EOFError as error:
        process.join()
        raise OSError(
            f"a worker process died (exit code {process.exitcode}), perhaps for lack of memory: run the same command "
            "again, with fewer workers; finished files stay usable"
        ) from error


def _serve(work: Work, connection: Connection, parent: int) -> None:
    """A worker's life: tasks come through the connection, progress and errors leave through it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops its workers
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # as many workers as cores, one thread each

    def report(count: int) -> None:
        if os.getppid() != parent:
            raise SystemExit(1)
        connection.send(("progress", count))

    while True:
        # The pipe's other end may live on in a sibling, so its closing does not tell that the parent is gone.
        while not connection.poll(1.0):
            if os.getppid() != parent:
                return
        try:
            result = work(connection.recv(), report)
        except REPORTED as error:
            connection.send(("error", as_reported(error)))
            return
        connection.send(("done", result))
