"""An engine as a launcher: processes elsewhere that divide one evaluation with this one."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ...engines.base import Engine
from ...engines.registry import check_engine, opened_engine
from .ranks import ALONE, Ranks, launched_ranks


@contextmanager
def ranks_on(on: str, work: Callable[[], Any], workers: int | None, address: str | None) -> Iterator[Ranks]:
    """Starts further processes on an engine and joins them as the main one.

    They work on CPUs, one each, and open models and data by the same names as this process: on the Hub, or in folders
    that all machines see.

    Args:
        on: name of the engine, one that can `start` processes, such as `"ray"`.
        work: what each of the others does: it enters `launched_ranks`, and does there what this process does here.
        workers: processes, this one included; default: as many as the engine runs at once.
        address: of the engine.

    Raises:
        ValueError: one line, where there is no such engine, it cannot start processes, or this machine would work on an
            accelerator.
        OSError: one line, where the engine cannot be reached, has no room, or loses a process.
        ImportError: one line, where its library is missing.
    """
    check_engine(on, workers)
    if torch.accelerator.is_available():
        raise ValueError(
            f"{on} divides this work among CPUs, and this machine has an accelerator: start the command by torchrun "
            "instead, or hide the accelerator (CUDA_VISIBLE_DEVICES=)"
        )
    with opened_engine(on, workers=workers, address=address) as engine:
        count = workers or engine.at_once
        if count == 1:
            yield ALONE
            return
        meeting = _meeting_point(engine, count)
        # Relative names mean the same, where machines share a folder.
        others = [partial(_join, work, os.getcwd(), {**meeting, "RANK": str(number)}) for number in range(1, count)]
        engine.start(others)
        try:
            with _environment(meeting), launched_ranks() as ranks:
                yield ranks
        except RuntimeError as error:  # of a collective whose other end is gone
            raise OSError(
                f"a process on {on} is gone ({' '.join(str(error).split())[:150]}): run the same command again; what "
                "was kept is not done again"
            ) from error


def _meeting_point(engine: Engine, count: int) -> dict[str, str]:
    """The variables by which launchers tell processes of PyTorch's how to meet, those of the main one."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    return {
        "MASTER_ADDR": engine.host, "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "RANK": "0", "LOCAL_RANK": "0",
    }  # fmt: skip


def _join(work: Callable[[], Any], folder: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    if os.path.isdir(folder):
        os.chdir(folder)
    work()


@contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
