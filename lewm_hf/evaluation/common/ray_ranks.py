"""Ray as a launcher: processes on a cluster that divide one evaluation with this one."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ...data.ray_engine import connected_to_ray, ray
from .ranks import ALONE, Ranks, launched_ranks

SECONDS_TO_PLACE = 300


@contextmanager
def ranks_on_ray(work: Callable[[], Any], workers: int | None, address: str | None) -> Iterator[Ranks]:
    """Starts further processes on a Ray cluster and joins them as the main one.

    They work on CPUs, one each, and open models and data by the same names as this process: on the Hub, or in folders
    that all machines see.

    Args:
        work: what each of the others does: it enters `launched_ranks`, and does there what this process does here.
        workers: processes, this one included; default: the CPUs of the cluster.
        address: of the cluster, see `connected_to_ray`.

    Raises:
        ValueError: one line, where this machine would work on an accelerator.
        OSError: one line, where the cluster cannot be reached, has no room, or loses a process.
        ImportError: one line, where Ray is missing.
    """
    if torch.accelerator.is_available():
        raise ValueError(
            "a Ray cluster divides this work among CPUs, and this machine has an accelerator: start the command by "
            "torchrun instead, or hide the accelerator (CUDA_VISIBLE_DEVICES=)"
        )
    with connected_to_ray(workers, address):
        count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        if count == 1:
            yield ALONE
            return
        meeting = _meeting_point(count)
        _start_others(work, count, meeting)
        try:
            with _environment(meeting), launched_ranks() as ranks:
                yield ranks
        except RuntimeError as error:  # of a collective whose other end is gone
            raise OSError(
                f"a process on the Ray cluster is gone ({' '.join(str(error).split())[:150]}): run the same command "
                "again; what was kept is not done again"
            ) from error


def _meeting_point(count: int) -> dict[str, str]:
    """The variables by which launchers tell processes of PyTorch's how to meet, those of the main one."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    return {
        "MASTER_ADDR": ray.util.get_node_ip_address(), "MASTER_PORT": str(port), "WORLD_SIZE": str(count),
        "RANK": "0", "LOCAL_RANK": "0",
    }  # fmt: skip


def _start_others(work: Callable[[], Any], count: int, meeting: Mapping[str, str]) -> None:
    room = ray.util.placement_group([{"CPU": 1}] * (count - 1), strategy="SPREAD")
    if not room.wait(SECONDS_TO_PLACE):
        raise OSError(
            f"the Ray cluster has no room for {count - 1} processes beside this one, {ray.available_resources()} are "
            "free: ask for fewer (--workers), or wait"
        )
    place = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(room)
    # Neither the environment nor the process group of one call is for the next.
    remote = ray.remote(num_cpus=1, max_retries=0, max_calls=1, scheduling_strategy=place)(_join)
    for number in range(1, count):
        remote.remote(work, os.getcwd(), {**meeting, "RANK": str(number)})


def _join(work: Callable[[], Any], folder: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    if os.path.isdir(folder):  # relative names mean the same, where machines share a folder
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
