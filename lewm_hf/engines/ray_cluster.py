"""Work on a Ray cluster, or on a local one that is made for it.

Files travel through Ray to the process that asked for them, so machines need not share a folder. Ray runs again what a
lost machine had not finished.
"""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..extras import requires_extra
from ..files import replacing
from .base import Engine, File, Wanted, Write
from .workers import REPORTED, Report, Work, as_reported, usable_cores

with requires_extra("ray"):
    import ray
    from ray.exceptions import RayError, RayTaskError

# Of one piece of work, whose worker or machine was lost.
RETRIES = 5
KNOCK_SECONDS = 10
SECONDS_TO_PLACE = 300
# Each waits in a queue that is looked through whenever a piece of work is done.
LEAST_SUBMITTED = 64


@contextmanager
def connected_to_ray(workers: int | None, address: str | None) -> Iterator[None]:
    """Connects to a cluster, or to the one that this process is connected to already, and leaves it as it was.

    Args:
        workers: CPUs of a new cluster on this machine; default: all.
        address: of the cluster, `"auto"` for the one that this machine belongs to, or `"local"` for a new one on this
            machine. Default: the environment variable `RAY_ADDRESS`, else `"local"`.

    Raises:
        OSError: one line where the cluster cannot be reached.
        ImportError: one line where Ray is missing.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = {"num_cpus": workers or usable_cores(), "include_dashboard": False} if address == "local" else {}
    if local:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # By Ray's default (15) its workers give way to everything else: a busy machine never gets to them.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level="ERROR", **local)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OSError(
            f"no Ray cluster at {address} ({reason}): start one (`ray start --head`), or give its address "
            "(--ray-address), 'local' for one on this machine"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def open_ray(wanted: Wanted) -> Iterator[Engine]:
    """A cluster as an engine; one worker per CPU of the cluster, later ones included, unless told otherwise.

    Args:
        wanted: its `address` is that of `connected_to_ray`, whose errors this raises.
    """
    with connected_to_ray(wanted.workers, wanted.address):
        yield RayCluster(wanted.workers)


def _knock(address: str) -> None:
    """Fails at once where nobody listens; Ray itself would try for minutes.

    Raises:
        OSError, ValueError: of sockets.
    """
    host, colon, port = address.rpartition("/")[2].rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


@dataclass(frozen=True)
class RayCluster(Engine):
    """The cluster that this process is connected to.

    Args:
        workers: pieces of work at once, at most; `None` for all that the cluster has room for.
    """

    workers: int | None

    @property
    def at_once(self) -> int:  # type: ignore[override]  # follows the cluster
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        return cores if self.workers is None else min(self.workers, cores)

    @property
    def host(self) -> str:  # type: ignore[override]
        return ray.util.get_node_ip_address()

    @property
    def _submitted(self) -> int:
        """More than there is room for, so that a cluster that grows by demand does."""
        return max(LEAST_SUBMITTED, 4 * self.at_once) if self.workers is None else self.workers

    def run(self, work: Work, tasks: Sequence[Any], report: Report) -> list[Any]:
        results: list[Any] = [None] * len(tasks)
        self._each(work, tasks, report, results.__setitem__)
        return results

    def write_files(self, write: Write, out: Path, files: Sequence[File], report: Report) -> None:
        def keep(number: int, content: bytes) -> None:
            with replacing(out / files[number].name) as temporary:
                temporary.write_bytes(content)

        self._each(partial(_written, write), files, report, keep)

    def start(self, works: Sequence[Callable[[], Any]]) -> None:
        room = ray.util.placement_group([{"CPU": 1}] * len(works), strategy="SPREAD")
        if not room.wait(SECONDS_TO_PLACE):
            raise OSError(
                f"the Ray cluster has no room for {len(works)} processes beside this one, {ray.available_resources()} "
                "are free: ask for fewer (--workers), or wait"
            )
        place = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(room)
        # Neither the environment nor the process group of one call is for the next.
        remote = ray.remote(num_cpus=1, max_retries=0, max_calls=1, scheduling_strategy=place)(_called)
        for work in works:
            remote.remote(work)

    def _each(self, work: Work, tasks: Sequence[Any], report: Report, keep: Callable[[int, Any], None]) -> None:
        """Gives each result to `keep`, with its task's number, as soon as it is there."""
        remote = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_guarded)
        shared = ray.put(work)
        waiting = list(enumerate(tasks))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._submitted:
                    number, task = waiting.pop()
                    running[remote.remote(shared, task)] = number
                (done,), _ = ray.wait(list(running), num_returns=1)
                # Out of the table first: what nobody refers to is freed on the cluster.
                number, (error, value, count) = running.pop(done), ray.get(done)
                del done
                if error is not None:
                    raise error
                keep(number, value)
                report(count)
        except RayTaskError:
            raise  # a defect of the work, with its traceback
        except RayError as error:
            raise OSError(
                f"Ray lost a worker {RETRIES + 1} times, or the cluster ({type(error).__name__}), perhaps for lack of "
                "memory: run the same command again; finished files stay usable"
            ) from error
        finally:
            with suppress(RayError):  # it is gone
                for reference in running:
                    ray.cancel(reference, force=True)


def _called(work: Callable[[], Any]) -> None:
    work()


def _guarded(work: Work, task: Any) -> tuple[Exception | None, Any, int]:
    """What one piece of work raises that speaks for itself, its result, and how much it reported."""
    counts: list[int] = []
    try:
        result = work(task, counts.append)
    except REPORTED as error:
        return as_reported(error), None, 0
    return None, result, sum(counts)


def _written(write: Write, file: File, report: Report) -> bytes:
    """The bytes of a file, made in a folder of whichever machine this is."""
    with tempfile.TemporaryDirectory(prefix="lewm-") as folder:
        write(Path(folder), file, report)
        return (Path(folder) / file.name).read_bytes()
