"""Collecting episodes with an expert: on all cores or a cluster, resumable, the same bytes however the work is split.

An episode is a pure function of the seed and its number. Work is cut into files of a fixed number of episodes; a file
appears under its name only when complete and is never collected twice. So a collection that was killed continues where
it stopped, and shards on several machines make the files of one data set.
"""

import logging
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...arguments_of import arguments_of
from ...engines.base import Engine
from ...engines.registry import check_engine, opened_engine
from ...engines.workers import Report
from ...files import duration_text, remove_leftovers, size_text
from ...progress import progress_bar
from ...tasks.task import Task
from ..storage.continuing import check_layout, check_same
from ..storage.dataset_card import finish_dataset
from ..storage.encoding import FrameEncoder
from ..storage.parquet import write_episodes
from .arguments import CollectArguments
from .place import Place, place_of
from .recording import record_all
from .settings import Collection, EpisodeFile, recorded_versions, settle

logger = logging.getLogger(__name__)

PROBE_EPISODES, PROBE_SECONDS, PROBE_STEPS = 8, 3.0, 24


@arguments_of(CollectArguments)
def collect(given: CollectArguments) -> Path | str:
    """Collects a data set into a directory, or continues one; a finished one is left as it is.

    Returns:
        `out`, a path or an address, which `load_episodes` opens.

    Raises:
        ValueError: one line for arguments that are impossible or differ from those of the collection in `out`.
        OSError: one line where the disk is or would be full, another command is at work in `out`, or the cluster or
            `out` is out of reach; files that are finished stay usable.
        ImportError: one line, where Ray or the library of an address is wanted and missing.
    """
    collection = settle(given)
    check_engine(given.on, given.workers)
    part, parts = given.shard
    if not 0 <= part < parts:
        raise ValueError(
            f"shard={part}/{parts} does not exist: give i/n, part i of n counted from 0, such as 0/4 for the first of "
            "four; 0/1 is all"
        )
    place = place_of(given.out, part, parts)
    known = place.known()
    files = collection.files(known)
    if known is not None:
        check_same(place, known, {**known, **collection.settings()})
        if "splits" in known and all(place.is_complete(file.name, collection.key) for file in files):
            logger.info("%s is complete: %d episodes, nothing to do", place, collection.episodes)
            place.leave()
            return place.result
        check_layout(place, known)
    fork = collection.task.recording.fork
    with opened_engine(given.on, workers=given.workers, fork=fork, address=given.ray_address) as engine:
        return _collect(given, collection, place, files, known, engine)


def _collect(
    given: CollectArguments,
    collection: Collection,
    place: Place,
    files: list[EpisodeFile],
    known: dict[str, Any] | None,
    engine: Engine,
) -> Path | str:
    """Does it on an engine; `known` says what has begun at the place."""
    (part, parts), out, task = given.shard, place.path, collection.task
    mine = files[part::parts]
    # Everything that can be wrong with environment and expert shows here, before any file is touched.
    probe = _Probe(*engine.run(partial(_probe, collection, task), [None], _ignore)[0])
    description = probe.description
    if known is not None:
        check_same(place, known, description)
        description = known
    missing = [file for file in mine if not place.is_complete(file.name, collection.key)]
    if missing:
        _announce(out, sum(file.stop - file.start for file in missing), probe, min(engine.at_once, len(missing)))
    with place.at_work(part, parts):
        known = place.known()  # somebody may have begun, or finished, in the meantime
        if known is not None:
            check_same(place, known, description)
            description = known
        missing = [file for file in mine if not place.is_complete(file.name, collection.key)]
        if known is None:
            place.begin(description)
        if missing:
            for file in mine:
                remove_leftovers(out / file.name)
            try:
                count = sum(file.stop - file.start for file in missing)
                with progress_bar(total=count, desc="episodes", unit="episode", show=given.progress) as bar:
                    write = partial(_collect_file, collection, task, probe.description["versions"])
                    report = place.reporting([file.name for file in missing], bar.update)
                    engine.write_files(write, out, missing, report)
            finally:
                for file in mine:  # a worker stopped in the middle of a file cannot clean up behind itself
                    remove_leftovers(out / file.name)
        place.keep(file.name for file in mine)
        elsewhere = place.missing(file.name for file in files)
        if elsewhere:
            logger.info(
                "shard %d/%d is done; %d of %d files belong to other shards: when all are in %s, run any shard again",
                part, parts, elsewhere, len(files), place,
            )  # fmt: skip
            return place.result
        with place.whole([file.name for file in files]):  # the last two shards may come here together
            for file in files:  # of a process killed while it numbered the rows; nobody else works on a complete set
                remove_leftovers(out / file.name)
            facts = finish_dataset(out, {key: description[key] for key in probe.description if key in description})
    logger.info("%s is complete: %d episodes, %d frames", place, facts.episodes, facts.rows)
    return place.result


def _announce(out: Path, episodes: int, probe: "_Probe", workers: int) -> None:
    """Logs the size and time to expect; refuses where the disk is too small."""
    rows = episodes * probe.rows_per_episode
    size = rows * probe.bytes_per_row
    seconds = rows * probe.seconds_per_row / workers
    logger.info(
        "about %s frames in %d episodes: %s, %s with %d workers",
        f"{rows:,.0f}", episodes, size_text(size), duration_text(seconds), workers,
    )  # fmt: skip
    existing = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise OSError(
            f"the episodes need about {size_text(size)}, but {existing} has {size_text(free)} left: make room, or "
            "collect fewer episodes or smaller images"
        )


@dataclass(frozen=True)
class _Probe:
    description: dict[str, Any]
    bytes_per_row: float
    seconds_per_row: float
    rows_per_episode: float


def _probe(collection: Collection, task: Task, _work: None, _report: Report) -> tuple:
    """Measures a few episodes; runs in a worker, because a renderer must not be made before processes are forked."""
    env, expert = collection.open(task)
    description = collection.description()
    fixed_length = not collection.stop_at_success
    encoder, clock = FrameEncoder(collection.image_format), time.perf_counter()
    size, lengths = 0, []
    for number in range(min(PROBE_EPISODES, collection.episodes)):
        steps = min(PROBE_STEPS, collection.max_steps) if fixed_length else collection.max_steps
        for episode in record_all(
            env, expert, collection.seed, [number], steps, collection.stop_at_success, every=collection.every
        ):
            size += sum(len(encoder(image)) for image in episode.images)
            lengths.append(len(episode))
        if len(lengths) == 1:
            clock, warm = time.perf_counter(), lengths[0]  # the first one pays for compiling and caching
        if time.perf_counter() - clock > PROBE_SECONDS:
            break
    env.close()
    measured = max(sum(lengths) - warm, 1) if len(lengths) > 1 else lengths[0]
    # Vectors and bookkeeping take some 100 bytes a row.
    return (
        description,
        size / sum(lengths) + 100,
        (time.perf_counter() - clock) / measured,
        (collection.max_steps + 1) / collection.every if fixed_length else sum(lengths) / len(lengths),
    )


def _collect_file(
    collection: Collection, task: Task, versions: Mapping[str, str], out: Path, file: EpisodeFile, report: Report
) -> None:
    """Writes `file` below `out`, which is another folder on another machine.

    Raises:
        ValueError: one line where that machine has other libraries, whose frames or motion may differ.
    """
    found = recorded_versions(task)
    if found != versions:
        raise ValueError(
            f"{socket.gethostname()} has {found}, but the collection is made with {dict(versions)}: install the same "
            "versions on every machine"
        )
    env, expert = collection.open(task)
    numbers = range(file.start, file.stop)
    episodes = record_all(
        env, expert, collection.seed, numbers, collection.max_steps, collection.stop_at_success, every=collection.every
    )
    write_episodes(
        out / file.name,
        episodes,
        numbers,
        FrameEncoder(collection.image_format),
        env.metadata["render_fps"] / collection.every,
        [number * (collection.max_steps + 1) for number in numbers],
        report,
        key=collection.key,
    )
    env.close()


def _ignore(_count: int) -> None:
    pass
