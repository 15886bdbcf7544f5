"""Where work runs: on the cores of this machine, or of a Ray cluster. One entry in `ENGINES` for each place."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from .engine import Engine, Processes
from .workers import usable_cores


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
        address: of a Ray cluster, see `connected_to_ray`.

    Raises:
        ValueError, OSError: one line, where there is no such engine, or it cannot be reached.
        ImportError: one line that names the pip extra that is missing.
    """
    check_engine(on, workers)
    return ENGINES[on](workers, fork, address)
