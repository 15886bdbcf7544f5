"""What a task is: a name, a gymnasium environment, the policies that collect its episodes, and how they are recorded.

A task is data alone. What can be measured in its environment is on the environment (`StateEnv`); what only the
environment can know is never repeated here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# "module:attribute", imported when used, or the thing itself.
Source = str | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """How episodes of a task are collected unless said otherwise.

    Args:
        stop_at_success: end an episode as soon as its goal is reached; otherwise it always has its full length.
        image_format: see `FrameEncoder`.
        episodes_per_file: what a killed collection has to repeat, at most, per worker.
        noise: the argument of the task's policies that sets their noise; `None` where they have none.
        fork: the environment's renderer survives a fork of a process that has opened it.
        paper: arguments of `collect` for a data set of the paper's size, without its seed; none where the paper has
            no such task.
    """

    stop_at_success: bool = True
    image_format: str = "webp0"
    episodes_per_file: int = 50
    noise: str | None = None
    fork: bool = False
    paper: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedProbe:
    """Probes of single frames as the paper prints them: MSE of standardized values. Split and settings are not stated.

    Args:
        model: as in the paper.
        linear, mlp: MSE, its standard deviation over frames, Pearson r; `None` where the paper prints none.
    """

    model: str
    linear: tuple[float, float | None, float]
    mlp: tuple[float, float | None, float]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task, as `register_task` takes it.

        register_task(Task(name="maze", env_id="mine/Maze-v0", entry_point=MazeEnv, max_episode_steps=200,
                           policies={"expert": MazeExpert}))

    Args:
        name: short name of the command line and of results.
        env_id: gymnasium id. With a module before it, `"my_module:mine/Maze-v0"`, whoever meets the id in a data set or
            beside a checkpoint imports that module first: so a task that no installed package offers is found again.
        entry_point: the environment, a `GoalEnv` or any other that renders (`AnyGymnasiumEnv`); `None` where the id is
            registered with gymnasium already.
        max_episode_steps: longest episode that is collected by default.
        extra: pip extra of this package that the environment needs.
        policies: policies that collect episodes, by name; the first is the default. Every task has `"random"` too.
        recording: how their episodes are recorded.
        columns: what foreign recordings of this task call the columns `observation`, `state` and `goal`: for each the
            possible groups of names, in order of preference.
        libraries: distributions whose versions decide about motion and pictures; they are written beside the data.
        protocol_arguments: constructor arguments of the environment that a field of an evaluation protocol decides:
            field -> value -> arguments.
        published_probes: results of the paper, by probe target.
        plain: the environment is made by a function and is no `GoalEnv`: see `AnyGymnasiumEnv`. Of a class this is
            found out. `None`, of tasks that are nothing but a gymnasium id: so is whatever a function makes.

    Raises:
        ValueError: for a name that is not made of lower-case letters, digits and underscores, or no steps at all.
    """

    name: str
    env_id: str
    max_episode_steps: int
    entry_point: Source | None = None
    extra: str | None = None
    policies: Mapping[str, Source] = field(default_factory=dict)
    recording: Recording = field(default_factory=Recording)
    columns: Mapping[str, list[tuple[str, ...]]] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    protocol_arguments: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    published_probes: Mapping[str, tuple[PublishedProbe, ...]] = field(default_factory=dict)
    plain: bool | None = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"task name {self.name!r} must be lower-case letters, digits and underscores")
        if not re.fullmatch(r"([\w.]+:)?([\w.-]+/)?[\w.-]+", self.env_id):
            raise ValueError(f"task {self.name}: env_id={self.env_id!r} is not a gymnasium id such as 'mine/Maze-v0'")
        if self.max_episode_steps < 1:
            raise ValueError(f"task {self.name}: max_episode_steps={self.max_episode_steps} must be at least 1")

    def environment_arguments(self, protocol: Any) -> dict[str, Any]:
        """Constructor arguments of the environment that an evaluation protocol decides."""
        arguments: dict[str, Any] = {}
        for name, by_value in self.protocol_arguments.items():
            arguments |= by_value[getattr(protocol, name)]
        return arguments
