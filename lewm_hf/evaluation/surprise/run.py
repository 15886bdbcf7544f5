"""Violation of expectation: does a world model notice what cannot happen?

Surprise at a frame is the mean squared error between the embedding that the model predicted for it, from the frames
and actions before, and the embedding of the frame itself.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...arguments_of import arguments_of
from ...planning.world_model import check_imagines
from ...progress import progress_bar
from ...proprioception_lewm import check_pictures_alone
from ...tasks.registry import make_env, task_names
from ..common.analysis import Analysis
from ..common.inputs import Agent, check_trained_on, env_name, machine_facts
from ..success.protocol import content_hash
from .arguments import SurpriseArguments
from .events import VARIANTS, events_of, record_takes
from .report import film_surprise, format_surprise, plot_surprise
from .result import SurpriseEnv, SurpriseResult, SurpriseRow, SurpriseSettings
from .scores import compare_variants, mean_curves, score_takes


@dataclass(frozen=True)
class Surprise:
    """What `surprise` returns.

    Attributes:
        result: the content of `surprise.json`.
        rows: three per episode.
    """

    result: SurpriseResult

    @property
    def rows(self) -> list[SurpriseRow]:
        return self.result.rows


@arguments_of(SurpriseArguments)
def surprise(given: SurpriseArguments) -> Surprise:
    """Surprise along new episodes, unperturbed, with a color change and with a teleport in the middle.

    The three variants of an episode share seed, policy and everything before the event, so they are compared in pairs.
    Detecting the event is scored by the area under the ROC curve of perturbed against unperturbed episodes. The files
    are `surprise.json`, `surprise.png` and `surprise.gif`.

    Returns:
        The result and its rows.

    Raises:
        ValueError, FileNotFoundError: one line, before the first episode, for an unknown environment or another one
            than the model's, too few trajectories or steps, or `out` with the result of another question.
    """
    return Surprise(given.carry_out(SurpriseAnalysis).found)


class SurpriseAnalysis(Analysis):
    """See `surprise`."""

    kind, title, result_type = "surprise", "Violation of expectation", SurpriseResult
    pictures = ("surprise.png", "surprise.gif")
    found: SurpriseResult

    def __init__(self, given: SurpriseArguments):
        if given.trajectories < 2 or given.seed < 0:
            raise ValueError(
                f"trajectories={given.trajectories}, seed={given.seed}: at least 2 trajectories and a seed from 0"
            )
        episodes, env = given.episodes, given.env
        if isinstance(episodes, str | Path):
            from ...data.episodes import load_episodes

            episodes = load_episodes(episodes, "test", given.episodes_revision)
        if episodes is not None and env is not None and env_name(env) != env_name(episodes.env_id):
            raise ValueError(f"env={env} contradicts the episodes, which are of {episodes.env_id}: omit one of them")
        self.progress = given.progress
        self.agent = agent = given.open_agent()
        check_imagines(agent.model, "surprise")
        check_pictures_alone(agent.model, "surprise")
        name = _environment(agent, env or (episodes and episodes.env_id))
        config = agent.model.config
        kwargs = {"image_size": config.image_size, **agent.env_kwargs}
        kwargs |= (episodes.env_kwargs if episodes else {}) | dict(given.env_kwargs or {})
        self.env = SurpriseEnv(name=name, kwargs=kwargs)
        with closing(make_env(name, **kwargs)) as environment:
            _check_actions(agent, environment, name)
            events = events_of(environment)
        self.frames, self.event = _layout(config, events.steps if given.steps is None else given.steps)
        self.settings = SurpriseSettings(
            trajectories=given.trajectories, steps=(self.frames - 1) * config.frameskip,
            event_step=self.event * config.frameskip, frameskip=config.frameskip, context=config.history_size,
            seed=given.seed, policy=events.policy, color=f"color of {events.body}", teleport=events.moved,
        )  # fmt: skip

    def question(self) -> dict[str, Any]:
        return {"env": self.env, "settings": self.settings, "model.fingerprint": self.agent.facts().fingerprint}

    def run(self) -> SurpriseResult:
        scored: list[list[SurpriseRow]] = []
        mine = range(self.settings.trajectories)[self.ranks.share]
        show = self.progress and self.ranks.main
        with closing(make_env(self.env.name, **self.env.kwargs)) as environment:
            for episode in progress_bar(mine, unit="episode", show=show):
                takes = record_takes(
                    environment, env_name=self.env.name, seed=self.settings.seed, episode=episode, frames=self.frames,
                    frameskip=self.settings.frameskip, event=self.event,
                )  # fmt: skip
                scored.append(score_takes(self.agent, takes, episode, self.event))
                if episode == 0:
                    self.example = takes, scored[0]
        rows = [row for of_episode in self.ranks.together(scored) for row in of_episode]
        return SurpriseResult(
            env=self.env, settings=self.settings,
            events={variant: compare_variants(rows, variant) for variant in VARIANTS[1:]},
            curves=mean_curves(rows), rows=rows,
            rows_hash=content_hash(rows), model=self.agent.facts(), **machine_facts(self.agent),
        )  # fmt: skip

    @classmethod
    def text(cls, result: SurpriseResult) -> str:
        return format_surprise(result)

    def draw(self, out: Path) -> None:
        plot_surprise(out / "surprise.png", self.found)
        film_surprise(out / "surprise.gif", *self.example, self.found)


def _environment(agent: Agent, env_id: str | None) -> str:
    asked = env_id or agent.trained_on
    if asked is None:
        raise ValueError(
            f"{agent.source} does not say what it was trained on: give env, one of {', '.join(task_names())}"
        )
    name = env_name(asked)
    if name is None:
        raise ValueError(f"unknown environment {asked!r}: use one of {', '.join(task_names())}, or register_task it")
    check_trained_on(agent, asked)
    return name


def _layout(config: Any, steps: int) -> tuple[int, int]:
    """Number of frames, and the first one after the event."""
    frames = steps // config.frameskip + 1
    event = frames // 2
    # A clean prediction before the event, and the whole of its aftermath.
    least = 2 * (config.history_size + 1) * config.frameskip
    if event <= config.history_size or frames - event < config.history_size:
        raise ValueError(
            f"steps={steps} leave no room for {config.history_size} context frames, {config.frameskip} steps apart, on "
            f"both sides of the event: ask for at least {least}"
        )
    return frames, event


def _check_actions(agent: Agent, environment: Any, name: str) -> None:
    made_for, (found,) = agent.model.config.action_dim, environment.action_space.shape
    if made_for != found:
        raise ValueError(
            f"{agent.source} was made for action_dim={made_for}, but {name} has {found} action dimensions: give the "
            "environment it was trained on"
        )
