"""Engines by name: those of this package, of other packages, and of one's own code."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from ..offered import load_offered, offered_names
from .base import Engine, Wanted
from .processes import open_processes

# Opens an engine, and gives it back when the block ends.
Opener = Callable[[Wanted], AbstractContextManager[Engine]]

# A package offers engines by naming what opens them in its metadata: `slurm = "my_package.slurm:open_slurm"`.
ENTRY_POINTS = "lewm_hf.engines"


def _open_ray(wanted: Wanted) -> AbstractContextManager[Engine]:
    from .ray_cluster import open_ray

    return open_ray(wanted)


_OPENERS: dict[str, Opener] = {"processes": open_processes, "ray": _open_ray}


def register_engine(name: str, opener: Opener) -> None:
    """Makes an engine known by a name, for `collect(on=NAME)`, and for `--on NAME` in programs that call it before.

    Args:
        name: not yet taken.
        opener: a function of a `Wanted`, or a class that one makes, that returns a context manager whose value is an
            `Engine`.

    Raises:
        ValueError: for a name that is taken, or something that cannot be called.
    """
    _check_opener(name, opener)
    if _OPENERS.get(name, opener) is not opener:
        raise ValueError(f"there is an engine {name!r} already: choose another name")
    _OPENERS[name] = opener


def engine_names() -> list[str]:
    """Names of all engines: of this package, of the user's code so far, and of installed packages."""
    return list(dict.fromkeys([*_OPENERS, *offered_names(ENTRY_POINTS)]))


def check_engine(on: str, workers: int | None) -> None:
    """Refuses what no engine does, without opening one.

    Raises:
        ValueError: one line.
    """
    if on not in engine_names():
        raise ValueError(
            f"on={on!r} is no place to work: use one of {', '.join(engine_names())}, or register_engine one of your own"
        )
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")


def opened_engine(
    on: str, *, workers: int | None = None, fork: bool = True, address: str | None = None
) -> AbstractContextManager[Engine]:
    """An engine, which is given back when the block ends.

    Args:
        on: one of `engine_names`.
        workers, fork, address: see `Wanted`.

    Raises:
        ValueError, OSError: one line, where there is no such engine, or it cannot be reached.
        ImportError: one line, where what it needs is missing, or the installed package that offers it is broken.
    """
    check_engine(on, workers)
    if on not in _OPENERS:
        opener = load_offered(ENTRY_POINTS, on, "engine")
        _check_opener(on, opener)
    else:
        opener = _OPENERS[on]
    return opener(Wanted(workers, fork, address))


def _check_opener(name: str, opener: Opener) -> None:
    if not callable(opener):
        raise ValueError(f"engine {name!r}: {opener!r} must be a function that opens it, given a Wanted")
