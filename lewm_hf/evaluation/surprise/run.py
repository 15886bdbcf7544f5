"""Violation of expectation: does a world model notice what cannot happen?

Surprise at a frame is the mean squared error between the embedding that the model predicted for it, from the frames
and actions before, and the embedding of the frame itself.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...action_blocks import to_blocks
from ...measures.correlation import roc_auc
from ...measures.significance import band, bootstrap_interval, paired_test
from ...planning.world_model import check_imagines
from ...progress import progress_bar
from ...proprioception_lewm import check_pictures_alone
from ...tasks.registry import make_env, task_names
from ..common.analysis import Analysis
from ..common.embeddings import encode
from ..common.facts import Curve
from ..common.inputs import Agent, check_trained_on, env_name, machine_facts, open_agent
from ..common.ranks import ALONE, Ranks
from ..success.protocol import content_hash
from .events import VARIANTS, Take, events_of, record_takes
from .report import film_surprise, format_surprise, plot_surprise
from .result import Detection, SurpriseEnv, SurpriseResult, SurpriseRow, SurpriseSettings

BOOTSTRAP_SEED = 0
WHERE = ("at_event", "around_event")


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


@torch.no_grad()
def surprise_curve(model: Any, latents: Tensor, blocks: Tensor) -> np.ndarray:
    """Surprise at every frame that has `history_size` frames before it.

    Args:
        model: a world model in eval mode.
        latents: `(F, *latent)` embeddings of consecutive frames.
        blocks: `(F - 1, A)` z-scored action blocks; block t leaves frame t.

    Returns:
        `(F - history_size,)`, in squared units of the embedding.
    """
    history, weight = model.config.history_size, next(model.parameters())
    windows = torch.arange(len(latents) - history)[:, None] + torch.arange(history)
    actions = blocks[windows].to(weight)
    executed = actions[:, :-1] if history > 1 else None
    predicted = model.rollout(latents[windows].to(weight), actions[:, None, -1:], executed)[:, 0, 0]
    error = predicted.float().cpu() - latents[history:]
    return error.flatten(1).square().mean(1).double().numpy()


def surprise(
    model: Any,
    *,
    env: str | None = None,
    episodes: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    trajectories: int = 100,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    processor: Any = None,
    revision: str | None = None,
    episodes_revision: str | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    ranks: Ranks = ALONE,
) -> Surprise:
    """Surprise along new episodes, unperturbed, with a color change and with a teleport in the middle.

    The three variants of an episode share seed, policy and everything before the event, so they are compared in pairs.
    Detecting the event is scored by the area under the ROC curve of perturbed against unperturbed episodes.

    Args:
        model: folder, Hub id, or a world model in eval mode (then `processor` is needed).
        env: short name or id. Default: that of `episodes`, or what the checkpoint was trained on.
        episodes: a data set (`EpisodeData`, folder or Hub id) whose environment settings are used: pictures must look
            as in training. Default: the settings that the checkpoint was trained with.
        env_kwargs: of the environment, on top of those; default picture size: the model's.
        trajectories: episodes per variant.
        steps: environment steps of an episode; the event is in the middle. Default: per environment.
        seed: of starts, policies and events.
        out: folder for `surprise.json`, `surprise.png` and `surprise.gif`. Default: nothing is written.
        overwrite: replace the result of another question that `out` holds.
        revision, episodes_revision: of a Hub checkpoint and data set.
        device: default: the accelerator, else the CPU.
        progress: show a bar.
        ranks: processes that divide the episodes, each of which calls this; all get the result, the main one writes.

    Raises:
        ValueError, FileNotFoundError: one line, before the first episode, for an unknown environment or another one
            than the model's, too few trajectories or steps, or `out` with the result of another question.
    """
    analysis = SurpriseAnalysis.carry_out(
        model, env=env, episodes=episodes, env_kwargs=env_kwargs, trajectories=trajectories, steps=steps, seed=seed,
        processor=processor, revision=revision, episodes_revision=episodes_revision, device=device, progress=progress,
        out=out, overwrite=overwrite, ranks=ranks,
    )  # fmt: skip
    return Surprise(analysis.found)


class SurpriseAnalysis(Analysis):
    """Arguments as those of `surprise`."""

    kind, title, result_type = "surprise", "Violation of expectation", SurpriseResult
    pictures = ("surprise.png", "surprise.gif")
    found: SurpriseResult

    def __init__(
        self,
        model: Any,
        *,
        env: str | None = None,
        episodes: Any = None,
        env_kwargs: Mapping[str, Any] | None = None,
        trajectories: int = 100,
        steps: int | None = None,
        seed: int = 0,
        processor: Any = None,
        revision: str | None = None,
        episodes_revision: str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
    ):
        if trajectories < 2 or seed < 0:
            raise ValueError(f"trajectories={trajectories}, seed={seed}: at least 2 trajectories and a seed from 0")
        if isinstance(episodes, str | Path):
            from ...data.episodes import load_episodes

            episodes = load_episodes(episodes, "test", episodes_revision)
        if episodes is not None and env is not None and env_name(env) != env_name(episodes.env_id):
            raise ValueError(f"env={env} contradicts the episodes, which are of {episodes.env_id}: omit one of them")
        self.progress = progress
        self.agent = agent = open_agent(model, processor, revision, device)
        check_imagines(agent.model, "surprise")
        check_pictures_alone(agent.model, "surprise")
        name = _environment(agent, env or (episodes and episodes.env_id))
        config = agent.model.config
        kwargs = {"image_size": config.image_size, **agent.env_kwargs}
        kwargs |= (episodes.env_kwargs if episodes else {}) | dict(env_kwargs or {})
        self.env = SurpriseEnv(name=name, kwargs=kwargs)
        with closing(make_env(name, **kwargs)) as environment:
            _check_actions(agent, environment, name)
            events = events_of(environment)
        self.frames, self.event = _layout(config, events.steps if steps is None else steps)
        self.settings = SurpriseSettings(
            trajectories=trajectories, steps=(self.frames - 1) * config.frameskip,
            event_step=self.event * config.frameskip, frameskip=config.frameskip, context=config.history_size,
            seed=seed, policy=events.policy, color=f"color of {events.body}", teleport=events.moved,
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
                scored.append(_score(self.agent, takes, episode, self.event))
                if episode == 0:
                    self.example = takes, scored[0]
        rows = [row for of_episode in self.ranks.together(scored) for row in of_episode]
        return SurpriseResult(
            env=self.env, settings=self.settings,
            events={variant: _compare(rows, variant) for variant in VARIANTS[1:]}, curves=_curves(rows), rows=rows,
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


def _score(agent: Agent, takes: Mapping[str, Take], episode: int, event: int) -> list[SurpriseRow]:
    config = agent.model.config
    history = config.history_size
    # The frames before the event are the same in all variants, so they are encoded once.
    fresh = [take.frames if variant == "unperturbed" else take.frames[event:] for variant, take in takes.items()]
    latents = encode(agent.model, agent.processor, np.concatenate(fresh))["embeddings"].split([len(f) for f in fresh])
    rows = []
    for (variant, take), part in zip(takes.items(), latents, strict=True):
        whole = part if variant == "unperturbed" else torch.cat([latents[0][:event], part])
        curve = surprise_curve(agent.model, whole, to_blocks(torch.from_numpy(take.actions), config))
        at = event - history
        rows.append(
            SurpriseRow(
                episode=episode,
                variant=variant,
                before=float(curve[:at].mean()),
                at_event=float(curve[at]),
                around_event=float(curve[at : at + history].mean()),
                curve=curve.tolist(),
            )
        )
    return rows


def _compare(rows: Sequence[SurpriseRow], variant: str) -> dict[str, Detection]:
    """Perturbed against unperturbed episodes, at the event and around it."""
    compared = {}
    for where in WHERE:
        usual, odd = (
            np.array([getattr(row, where) for row in rows if row.variant == name]) for name in ("unperturbed", variant)
        )
        n = len(usual)
        labels = np.repeat([0, 1], n)

        def area(
            index: np.ndarray, usual: np.ndarray = usual, odd: np.ndarray = odd, labels: np.ndarray = labels
        ) -> float:
            return roc_auc(np.concatenate([usual[index], odd[index]]), labels)

        compared[where] = Detection(
            unperturbed_mean=float(usual.mean()),
            perturbed_mean=float(odd.mean()),
            ratio=float(odd.mean() / usual.mean()) if usual.mean() > 0 else None,
            paired_test=paired_test(odd, usual),
            roc_auc=area(np.arange(n)),
            roc_auc_interval=_unless_empty(bootstrap_interval(area, n, BOOTSTRAP_SEED)),
        )
    return compared


def _unless_empty(interval: tuple[float, float]) -> tuple[float, float] | None:
    """A bootstrap says nothing where no resample differs, as for groups that do not overlap."""
    return interval if interval[0] < interval[1] else None


def _curves(rows: Sequence[SurpriseRow]) -> dict[str, Curve]:
    """Mean and its 95 % band at every frame, per variant."""
    curves = {}
    for variant in VARIANTS:
        values = np.array([row.curve for row in rows if row.variant == variant])
        low, high = band(values)
        curves[variant] = Curve(mean=values.mean(0).tolist(), low=low.tolist(), high=high.tolist())
    return curves
