"""What to collect: the arguments of `collect` with every default filled in, and the files they lead to."""

import importlib.metadata
import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import __version__
from ...tasks.checked_env import check_environment
from ...tasks.outside_policies import file_sha256, is_outside
from ...tasks.policies import expert_names, expert_source, make_expert
from ...tasks.registry import find_task, make_env, register_task
from ...tasks.rollout import Expert
from ...tasks.task import Task
from ..schema import COLUMN_MEANINGS, SIM_GOAL, STATE, SUCCESS
from ..storage.dataset_card import FORMAT
from ..storage.encoding import check_image_format
from ..storage.layout import FILES, earlier_file_names, file_names
from ..storage.parquet import content_key
from .arguments import CollectArguments

if TYPE_CHECKING:
    from ...tasks.state_env import StateEnv

# So many files at least, so that small collections keep all cores busy too.
LEAST_FILES = 16
# Beside the libraries that the task names.
RECORDED_VERSIONS = ("numpy", "pillow", "gymnasium")
PAPER_SEED = 3072


@dataclass(frozen=True)
class Collection:
    """What decides about the bytes of a data set: fields of `CollectArguments`, with every default filled in."""

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
    every: int = 1
    task_sentence: str | None = None

    @property
    def task(self) -> Task:
        return find_task(self.env)

    def open(self, task: Task) -> "tuple[StateEnv, Expert]":
        """Environment and policy, in whatever process.

        Args:
            task: `self.task`, which has to travel with the work: a spawned process knows only installed tasks.
        """
        register_task(task)
        return make_env(task, **self.env_kwargs), make_expert(task.name, self.expert, **self.expert_kwargs)

    @property
    def splits(self) -> dict[str, range]:
        """Numbers of the episodes by split. The test split is the last episodes: they are exchangeable."""
        held_out = 0
        if self.test_fraction:
            held_out = min(max(round(self.episodes * self.test_fraction), 1), self.episodes - 1)
        border = self.episodes - held_out
        return {"train": range(border), "test": range(border, self.episodes)}

    @property
    def file_counts(self) -> dict[str, int]:
        """How many files each split has."""
        return {split: math.ceil(len(numbers) / self.episodes_per_file) for split, numbers in self.splits.items()}

    def files(self, known: Mapping[str, Any] | None = None) -> list["EpisodeFile"]:
        """All files of the data set, in order.

        Args:
            known: what `episodes.json` says of a data set that is there; earlier versions gave other names.
        """
        names = (earlier_file_names if known is not None and FILES not in known else file_names)(self.file_counts)
        return [
            EpisodeFile(name, split, numbers[0], numbers[-1] + 1)
            for split, episodes in self.splits.items()
            for name, numbers in zip(
                names[split],
                (episodes[at : at + self.episodes_per_file] for at in range(0, len(episodes), self.episodes_per_file)),
                strict=True,
            )
        ]

    def settings(self) -> dict[str, Any]:
        """The part of `episodes.json` that the arguments decide."""
        collector = asdict(self)
        env, env_kwargs, every = (collector.pop(name) for name in ("env", "env_kwargs", "every"))
        if self.task_sentence is None:
            del collector["task_sentence"]
        return {
            "env": env,
            "env_kwargs": env_kwargs,
            "image_size": env_kwargs["image_size"],
            "every": every,
            "collector": collector,
        }

    @property
    def key(self) -> str:
        """Changes with everything that the arguments decide; each file of the data set has it."""
        return content_key(self.settings())

    def description(self) -> dict[str, Any]:
        """The part of `episodes.json` that is known before the first episode."""
        env = make_env(self.env, **self.env_kwargs)
        check_environment(env, self.env)
        fps, state_names = env.metadata["render_fps"] / self.every, list(env.state_names)
        (action_dim,) = env.action_space.shape
        of_env = {"action_bounds": action_bounds(env)} | _peculiar(env)
        if self.every > 1 and not env.restorable:
            raise ValueError(
                f"every={self.every}: {self.env} has no get_state and set_state, so its states are restored by "
                "replaying every action from the reset on: omit every, or add both methods"
            )
        env.close()
        settings = self.settings()
        collector = settings.pop("collector")
        return {
            "format": FORMAT,
            **settings,
            "fps": fps,
            "action_dim": action_dim,
            **of_env,
            "state_names": state_names,
            FILES: self.file_counts,
            "collector": collector,
            "versions": recorded_versions(self.task),
        }


def recorded_versions(task: Task) -> dict[str, str]:
    """Of this package and of the libraries that decide about frames and motion, as far as they are installed."""
    versions = {"lewm-hf": __version__}
    for package in (*RECORDED_VERSIONS, *task.libraries):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _peculiar(env: "StateEnv") -> dict[str, Any]:
    """What a description says of an environment that is not like those of this package."""
    observation, _ = env.reset(seed=0, options={"goal_image": False})
    missing = {
        STATE: env.recorded(observation) is None,
        SUCCESS: env.judge == "model",
        SIM_GOAL: env.goal_state is None,
    }
    found: dict[str, Any] = {}
    if any(missing.values()):
        found["columns"] = [name for name in COLUMN_MEANINGS if not missing.get(name)]
    if choices := getattr(env.action_space, "choices", None):
        found["action_choices"] = list(choices)
    if env.fit is not None:
        found["fit"] = env.fit
    return found


def action_bounds(env: "StateEnv") -> list[list[float]] | None:
    """Lowest and highest raw action of an environment's action space, `None` where it is not bounded."""
    bounds = env.action_space.low, env.action_space.high
    return [bound.astype(float).tolist() for bound in bounds] if np.isfinite(bounds).all() else None


@dataclass(frozen=True)
class EpisodeFile:
    """One unit of work: episodes `start` to `stop - 1`, of one split, go into the file `name`."""

    name: str
    split: str
    start: int
    stop: int


def paper_preset(env: str) -> dict[str, Any]:
    """Arguments of `collect` for a data set of the paper's size.

    Raises:
        ValueError: for a task that the paper does not have.
    """
    task = find_task(env)
    if not task.recording.paper:
        raise ValueError(f"the paper has no data set of {task.name}: say how many episodes")
    return {"seed": PAPER_SEED, **task.recording.paper}


def settle(given: CollectArguments) -> Collection:
    """Fills in the defaults of a collection.

    Raises:
        ValueError: one line for an impossible value.
    """
    task = find_task(given.env)
    habits, names = task.recording, expert_names(task.name)
    expert = names[0] if given.expert == "default" else given.expert
    if expert not in names and not is_outside(expert):
        raise ValueError(
            f"unknown expert {expert!r} for {task.name}: use one of default, {', '.join(names)}, module:Class "
            "or a checkpoint of Stable-Baselines3 (*.zip)"
        )
    expert_kwargs = dict(given.expert_kwargs or {})
    if given.noise is not None:
        if expert == "random":
            raise ValueError(f"noise={given.noise} has no effect on the random policy: omit it")
        if habits.noise is None:
            raise ValueError(f"noise={given.noise}: the policies of {task.name} have no noise to set; omit it")
        _refuse_twice("noise", given.noise, "expert_kwargs", habits.noise, expert_kwargs)
        expert_kwargs[habits.noise] = given.noise
    _refuse_twice("image_size", given.image_size, "env_kwargs", "image_size", given.env_kwargs or {})
    settled = Collection(
        env=task.env_id,
        env_kwargs={"image_size": given.image_size, **(given.env_kwargs or {})},
        expert=expert,
        expert_kwargs=_explicit_arguments(task.name, expert, expert_kwargs),
        episodes=given.episodes,
        seed=given.seed,
        test_fraction=given.test_fraction,
        max_steps=_first(given.max_steps, task.max_episode_steps),
        stop_at_success=_first(given.stop_at_success, habits.stop_at_success),
        image_format=_first(given.image_format, habits.image_format),
        episodes_per_file=_first(
            given.episodes_per_file, min(habits.episodes_per_file, math.ceil(given.episodes / LEAST_FILES))
        ),
        every=given.every,
        task_sentence=given.task_sentence,
    )
    _check(settled)
    return settled


def _refuse_twice(name: str, value: Any, where: str, key: str, given: Mapping[str, Any]) -> None:
    if key in given:
        raise ValueError(f"{where} say {key}={given[key]!r}, which {name}={value!r} says already: give {name} alone")


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


def _check(settled: Collection) -> None:
    if not 0 <= settled.test_fraction < 1:
        raise ValueError(f"test_fraction={settled.test_fraction} must lie in [0, 1)")
    least = 2 if settled.test_fraction else 1
    if settled.episodes < least:
        each = ", one per split" if least == 2 else ""
        raise ValueError(f"episodes={settled.episodes} must be at least {least}{each}")
    for name, least in (("max_steps", 1), ("episodes_per_file", 1), ("seed", 0), ("every", 1)):
        value = getattr(settled, name)
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")
    if settled.every > settled.max_steps:
        raise ValueError(f"every={settled.every} is more than max_steps={settled.max_steps}: no action would be kept")
    check_image_format(settled.image_format)
    sentence = settled.task_sentence
    if sentence is not None and (not sentence.strip() or len(sentence.splitlines()) > 1):
        raise ValueError(f"task_sentence={sentence!r} must be one line of words, such as 'push the T onto its goal'")


def _explicit_arguments(env: str, expert: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of an expert, defaults included: a card shall not depend on the reader knowing them."""
    source = expert_source(env, expert)
    parameters = inspect.signature(source).parameters
    if "sha256" in parameters:
        given = {"sha256": file_sha256(expert), **given}
    try:
        source(**given)
    except TypeError as error:
        raise ValueError(f"expert_kwargs={dict(given)} do not fit the expert {expert!r}: {error}") from error
    known = {name: entry.default for name, entry in parameters.items() if entry.kind is not entry.VAR_KEYWORD}
    return {name: given.get(name, value) for name, value in known.items()} | dict(given)
