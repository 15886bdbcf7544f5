"""Collecting episodes with an expert: on all cores, resumable, the same bytes however the work is split.

An episode is a pure function of the seed and its number. Work is cut into files of a fixed number of episodes; a file
appears under its name only when complete and is never collected twice. So a collection that was killed continues where
it stopped, and shards on several machines make the files of one data set.
"""

import importlib.metadata
import inspect
import logging
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .. import __version__
from ..envs import ENVS, find_env, make_env
from ..experts import expert_names, make_expert
from .cards import FORMAT, finish_dataset, write_description
from .continuing import check_same, is_complete, known_description
from .encoding import FrameEncoder, check_image_format
from .files import duration_text, remove_leftovers, size_text
from .parquet import file_name, write_episodes
from .recording import record_all
from .workers import run_tasks, usable_cores

logger = logging.getLogger(__name__)

PROBE_EPISODES, PROBE_SECONDS, PROBE_STEPS = 8, 3.0, 24
# So many files at least, so that small collections keep all cores busy too.
LEAST_FILES = 16
RECORDED_VERSIONS = ("numpy", "pillow", "gymnasium", "pymunk", "mujoco", "dm-control", "ogbench")


@dataclass(frozen=True)
class Habits:
    """How episodes of one environment are collected unless said otherwise.

    Args:
        stop_at_success: end an episode as soon as its goal is reached; otherwise it always has its full length.
        image_format: see `FrameEncoder`.
        episodes_per_file: what a killed collection has to repeat, at most, per worker.
        noise: the expert's argument that sets its noise.
        paper_episodes: size of the paper's data set.
    """

    stop_at_success: bool
    image_format: str
    episodes_per_file: int
    noise: str
    paper_episodes: int


HABITS = {
    "two_room": Habits(True, "png", 100, "noise_std", 10_000),
    "push_t": Habits(True, "webp1", 100, "noise", 20_000),
    "reacher": Habits(False, "webp0", 50, "noise", 10_000),
    "cube": Habits(False, "webp0", 25, "noise", 10_000),
}
PAPER_SEED = 3072


@dataclass(frozen=True)
class Collection:
    """What decides about the bytes of a data set; the arguments of `collect` of the same names."""

    env: str
    env_kwargs: dict[str, Any]
    expert: str
    expert_kwargs: dict[str, Any]
    episodes: int
    seed: int
    test_fraction: float
    max_steps: int
    stop_at_success: bool
    image_format: str
    episodes_per_file: int

    @property
    def short_name(self) -> str:
        return next(name for name, entry in ENVS.items() if entry.env_id == self.env)

    def files(self) -> list["EpisodeFile"]:
        """All files of the data set, in order. The test split is the last episodes: they are exchangeable."""
        held_out = 0
        if self.test_fraction:
            held_out = min(max(round(self.episodes * self.test_fraction), 1), self.episodes - 1)
        files = []
        for split, first, count in (
            ("train", 0, self.episodes - held_out), ("test", self.episodes - held_out, held_out),
        ):  # fmt: skip
            number_of_files = math.ceil(count / self.episodes_per_file)
            for number in range(number_of_files):
                start = first + number * self.episodes_per_file
                stop = min(start + self.episodes_per_file, first + count)
                files.append(EpisodeFile(f"data/{file_name(split, number, number_of_files)}", start, stop))
        return files

    def description(self) -> dict[str, Any]:
        """The part of `episodes.json` that is known before the first episode."""
        try:
            env = make_env(self.env, **self.env_kwargs)
        except TypeError as error:
            reason = str(error).partition(" was raised from")[0]
            raise ValueError(f"env_kwargs={self.env_kwargs} do not fit {self.env}: {reason}") from None
        fps, state_names = float(env.metadata["render_fps"]), list(env.state_names)
        env.close()
        versions = {"lewm-hf": __version__}
        for package in RECORDED_VERSIONS:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        collector = asdict(self)
        return {
            "format": FORMAT,
            "env": collector.pop("env"),
            "env_kwargs": collector.pop("env_kwargs"),
            "image_size": self.env_kwargs["image_size"],
            "fps": fps,
            "state_names": state_names,
            "collector": collector,
            "versions": versions,
        }


@dataclass(frozen=True)
class EpisodeFile:
    """One unit of work: episodes `start` to `stop - 1` go into the file `name`."""

    name: str
    start: int
    stop: int


def paper_preset(env: str) -> dict[str, Any]:
    """Arguments of `collect` for a data set of the paper's size.

    The released Reacher episodes come from uniformly random actions, whatever the paper says, and so do these.
    """
    short = _short_name(env)
    preset = {"episodes": HABITS[short].paper_episodes, "seed": PAPER_SEED}
    return preset | {"expert": "random"} if short == "reacher" else preset


def collect(
    env: str,
    out: str | Path,
    episodes: int,
    *,
    seed: int = 0,
    image_size: int = 224,
    expert: str = "default",
    noise: float | None = None,
    expert_kwargs: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    test_fraction: float = 0.1,
    max_steps: int | None = None,
    stop_at_success: bool | None = None,
    image_format: str | None = None,
    episodes_per_file: int | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> Path:
    """Collects a data set into a directory, or continues one; a finished one is left as it is.

    Args:
        env: short name or id of the environment.
        out: the directory, new, empty, or holding the same collection.
        episodes: of all splits and shards together.
        seed: episode i depends on (seed, i) alone.
        image_size: side of the frames.
        expert: name of a policy, see `lewm_hf.experts`; `"default"` is the environment's own.
        noise: of the expert, where it has any; default: the expert's.
        expert_kwargs, env_kwargs: further constructor arguments.
        test_fraction: share of the episodes, the last ones, that makes the test split.
        max_steps: longest episode; default: the environment's limit.
        stop_at_success, image_format, episodes_per_file: default: the environment's `HABITS`.
        workers: processes; default: one per core.
        shard: (i, n): this call collects every n-th file from the i-th on, counted from 0. Shards may share `out` or
            have their own; put together, the directory is completed by calling once more.
        progress: show a progress bar.

    Returns:
        `out`.

    Raises:
        ValueError: one line for arguments that are impossible or differ from those of the collection in `out`.
        OSError: one line where the disk is or would be full; files that are finished stay usable.
    """
    collection = _settle(
        env, episodes, seed, image_size, expert, noise, expert_kwargs, env_kwargs, test_fraction, max_steps,
        stop_at_success, image_format, episodes_per_file,
    )  # fmt: skip
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")
    part, parts = shard
    if not 0 <= part < parts:
        raise ValueError(f"shard={part}/{parts} does not exist: shards are counted from 0 to {parts - 1}")
    out = Path(out)
    known = known_description(out)
    # Everything that can be wrong with environment and expert shows here, before any file is touched.
    probe = _Probe(*run_tasks(partial(_probe, collection), [None], workers, _ignore)[0])
    description = probe.description
    if known is not None:
        check_same(out, known, description)
        description = known

    files = collection.files()
    mine = files[part::parts]
    missing = [file for file in mine if not is_complete(out / file.name)]
    if not missing and "splits" in description and all((out / file.name).exists() for file in files):
        logger.info("%s is complete: %d episodes, nothing to do", out, collection.episodes)
        return out
    if missing:
        count = sum(file.stop - file.start for file in missing)
        _announce(out, count, probe, min(workers, len(missing)))
        if known is None:
            write_description(out, description)
        for file in mine:
            remove_leftovers(out / file.name)
        with tqdm(total=count, desc="episodes", unit="episode", disable=not progress) as bar:
            run_tasks(partial(_collect_file, collection, out), missing, workers, bar.update)
    elsewhere = sum(not (out / file.name).exists() for file in files)
    if elsewhere:
        logger.info(
            "shard %d/%d is done; %d of %d files belong to other shards: when all are in %s, run any shard again",
            part, parts, elsewhere, len(files), out,
        )  # fmt: skip
        return out
    facts = finish_dataset(out, {key: description[key] for key in probe.description})
    logger.info("%s is complete: %d episodes, %d frames", out, facts.episodes, facts.rows)
    return out


def _short_name(env: str) -> str:
    entry = find_env(env)
    return next(name for name, other in ENVS.items() if other == entry)


def _settle(
    env, episodes, seed, image_size, expert, noise, expert_kwargs, env_kwargs, test_fraction, max_steps,
    stop_at_success, image_format, episodes_per_file,
) -> Collection:  # fmt: skip
    """Fills in defaults and refuses impossible values."""
    short = _short_name(env)
    habits, entry = HABITS[short], find_env(env)
    names = expert_names(short)
    expert = names[0] if expert == "default" else expert
    if expert not in names:
        raise ValueError(f"unknown expert {expert!r} for {short}: use one of default, {', '.join(names)}")
    expert_kwargs = dict(expert_kwargs or {})
    if noise is not None:
        if expert == "random":
            raise ValueError(f"noise={noise} has no effect on the random policy: leave it away")
        expert_kwargs[habits.noise] = noise
    expert_kwargs = _explicit_arguments(short, expert, expert_kwargs)
    env_kwargs = {"image_size": image_size, **(env_kwargs or {})}
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} must lie in [0, 1)")
    least = 2 if test_fraction else 1
    if episodes < least:
        raise ValueError(f"episodes={episodes} must be at least {least}" + (", one per split" if least == 2 else ""))
    max_steps = entry.max_episode_steps if max_steps is None else max_steps
    if episodes_per_file is None:
        episodes_per_file = min(habits.episodes_per_file, math.ceil(episodes / LEAST_FILES))
    for name, value, least in (
        ("max_steps", max_steps, 1), ("episodes_per_file", episodes_per_file, 1), ("seed", seed, 0),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")
    image_format = habits.image_format if image_format is None else image_format
    check_image_format(image_format)
    return Collection(
        env=entry.env_id,
        env_kwargs=env_kwargs,
        expert=expert,
        expert_kwargs=expert_kwargs,
        episodes=episodes,
        seed=seed,
        test_fraction=test_fraction,
        max_steps=max_steps,
        stop_at_success=habits.stop_at_success if stop_at_success is None else stop_at_success,
        image_format=image_format,
        episodes_per_file=episodes_per_file,
    )


def _explicit_arguments(env: str, expert: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of an expert, defaults included: a card shall not depend on the reader knowing them."""
    try:
        kind = type(make_expert(env, expert, **given))
    except TypeError as error:
        raise ValueError(f"expert_kwargs={dict(given)} do not fit the expert {expert!r}: {error}") from None
    return {name: given.get(name, parameter.default) for name, parameter in inspect.signature(kind).parameters.items()}


def _announce(out: Path, episodes: int, probe: "_Probe", workers: int) -> None:
    """Logs the size and time to expect; refuses where the disk is too small."""
    rows = episodes * probe.rows_per_episode
    size = rows * probe.bytes_per_row
    seconds = rows * probe.seconds_per_row / min(workers, usable_cores())
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


def _probe(collection: Collection, _task: None, _report) -> tuple:
    """Measures a few episodes; runs in a worker, because a renderer must not be made before processes are forked."""
    description = collection.description()
    fixed_length = not collection.stop_at_success
    encoder, clock = FrameEncoder(collection.image_format), time.perf_counter()
    env = make_env(collection.env, **collection.env_kwargs)
    expert = make_expert(collection.short_name, collection.expert, **collection.expert_kwargs)
    size, lengths = 0, []
    for number in range(min(PROBE_EPISODES, collection.episodes)):
        steps = min(PROBE_STEPS, collection.max_steps) if fixed_length else collection.max_steps
        for episode in record_all(env, expert, collection.seed, [number], steps, collection.stop_at_success):
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
        collection.max_steps + 1 if fixed_length else sum(lengths) / len(lengths),
    )


def _collect_file(collection: Collection, out: Path, file: EpisodeFile, report) -> None:
    env = make_env(collection.env, **collection.env_kwargs)
    expert = make_expert(collection.short_name, collection.expert, **collection.expert_kwargs)
    numbers = range(file.start, file.stop)
    episodes = record_all(env, expert, collection.seed, numbers, collection.max_steps, collection.stop_at_success)
    write_episodes(
        out / file.name,
        episodes,
        numbers,
        FrameEncoder(collection.image_format),
        float(env.metadata["render_fps"]),
        [number * (collection.max_steps + 1) for number in numbers],
        report,
    )
    env.close()


def _ignore(_count: int) -> None:
    pass
