"""Violation of expectation: does a world model notice what cannot happen?

Surprise at a frame is the mean squared error between the embedding that the model predicted for it, from the frames
and actions before, and the embedding of the frame itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...action_blocks import to_blocks
from ...measures.correlation import roc_auc
from ...measures.significance import bootstrap_interval, paired_test
from ...planning.world_model import check_imagines
from ...progress import progress_bar
from ...tasks.registry import make_env, task_names
from ..common.embeddings import encode
from ..common.inputs import Agent, check_trained_on, env_name, machine_facts, open_agent
from ..common.outputs import check_out, clear
from ..common.results import write_result
from ..success.protocol import content_hash
from .events import VARIANTS, Take, events_of, record_takes

BOOTSTRAP_SEED = 0
WHERE = ("at_event", "around_event")


@dataclass(frozen=True)
class SurpriseRow:
    """One variant of one episode.

    Attributes:
        episode: its number; the three variants of an episode are the same until the event.
        variant: `"unperturbed"`, `"color"` or `"teleport"`.
        before: mean surprise at frames before the event.
        at_event: surprise at the first frame that shows the change.
        around_event: mean over the predictions whose window (context and target) holds frames of both sides.
        curve: surprise at every frame from number `history_size` on.
    """

    episode: int
    variant: str
    before: float
    at_event: float
    around_event: float
    curve: list[float]


@dataclass(frozen=True)
class Surprise:
    """What `surprise` returns.

    Attributes:
        result: the content of `surprise.json`.
        rows: three per episode.
    """

    result: dict[str, Any]
    rows: list[SurpriseRow]


@torch.no_grad()
def surprise_curve(model, latents: Tensor, blocks: Tensor) -> np.ndarray:
    """Surprise at every frame that has `history_size` frames before it.

    Args:
        model: a world model in eval mode.
        latents: `(F, *latent)` embeddings of consecutive frames.
        blocks: `(F - 1, A)` z-scored action blocks; block t leaves frame t.

    Returns:
        `(F - history_size,)`, in squared units of the embedding.
    """
    history, device = model.config.history_size, next(model.parameters()).device
    windows = torch.arange(len(latents) - history)[:, None] + torch.arange(history)
    actions = blocks[windows].to(device)
    executed = actions[:, :-1] if history > 1 else None
    predicted = model.rollout(latents[windows].to(device), actions[:, None, -1:], executed)[:, 0, 0]
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
    processor: Any = None,
    revision: str | None = None,
    episodes_revision: str | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
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
        revision, episodes_revision: of a Hub checkpoint and data set.
        device: default: the accelerator, else the CPU.
        progress: show a bar.

    Raises:
        ValueError, FileNotFoundError: one line, before the first episode, for an unknown environment or another one
            than the model's, too few trajectories or steps.
    """
    check_out(out)
    if trajectories < 2 or seed < 0:
        raise ValueError(f"trajectories={trajectories}, seed={seed}: at least 2 trajectories and a seed from 0")
    if isinstance(episodes, str | Path):
        from ...data.episodes import load_episodes

        episodes = load_episodes(episodes, "test", episodes_revision)
    if episodes is not None and env is not None and env_name(env) != env_name(episodes.env_id):
        raise ValueError(f"env={env} contradicts the episodes, which are of {episodes.env_id}: leave one of them out")
    agent = open_agent(model, processor, revision, device)
    check_imagines(agent.model, "surprise")
    name = _environment(agent, env or (episodes and episodes.env_id))
    config = agent.model.config
    kwargs = {"image_size": config.image_size, **agent.env_kwargs}
    kwargs |= (episodes.env_kwargs if episodes else {}) | dict(env_kwargs or {})

    rows, example = [], None
    environment = make_env(name, **kwargs)
    try:
        _check_actions(agent, environment, name)
        events = events_of(environment)
        frames, event = _layout(config, events.steps if steps is None else steps)
        for episode in progress_bar(range(trajectories), unit="episode", show=progress):
            takes = record_takes(
                environment, env_name=name, seed=seed, episode=episode, frames=frames,
                frameskip=config.frameskip, event=event,
            )  # fmt: skip
            scored = _score(agent, takes, episode, event)
            rows += scored
            example = example or (takes, scored)
    finally:
        environment.close()
    result = {
        "format": 1,
        "kind": "surprise",
        "env": {"name": name, "kwargs": kwargs},
        "settings": {
            "trajectories": trajectories, "steps": (frames - 1) * config.frameskip,
            "event_step": event * config.frameskip,
            "frameskip": config.frameskip, "context": config.history_size, "seed": seed, "policy": events.policy,
            "color": f"color of {events.body}", "teleport": events.moved,
        },
        "events": {variant: _compare(rows, variant) for variant in VARIANTS[1:]},
        "curves": _curves(rows),
        "rows": [asdict(row) for row in rows],
        "rows_hash": content_hash([asdict(row) for row in rows]),
        "model": agent.facts(),
        **machine_facts(agent),
    }  # fmt: skip
    if out is not None:
        from .report import film_surprise, plot_surprise

        clear(out, ("surprise.json",))
        plot_surprise(Path(out) / "surprise.png", result)
        film_surprise(Path(out) / "surprise.gif", *example, result)
        write_result(Path(out) / "surprise.json", result)  # last: where it exists the folder is complete
    return Surprise(result, rows)


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


def _layout(config, steps: int) -> tuple[int, int]:
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


def _check_actions(agent: Agent, environment, name: str) -> None:
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


def _compare(rows: Sequence[SurpriseRow], variant: str) -> dict[str, Any]:
    """Perturbed against unperturbed episodes, at the event and around it."""
    compared = {}
    for where in WHERE:
        usual, odd = (
            np.array([getattr(row, where) for row in rows if row.variant == name]) for name in ("unperturbed", variant)
        )
        n = len(usual)
        labels = np.repeat([0, 1], n)

        def area(index: np.ndarray, usual=usual, odd=odd, labels=labels) -> float:
            return roc_auc(np.concatenate([usual[index], odd[index]]), labels)

        compared[where] = {
            "unperturbed_mean": float(usual.mean()),
            "perturbed_mean": float(odd.mean()),
            "ratio": float(odd.mean() / usual.mean()) if usual.mean() > 0 else None,
            "paired_test": asdict(paired_test(odd, usual)),
            "roc_auc": area(np.arange(n)),
            "roc_auc_interval": _unless_empty(bootstrap_interval(area, n, BOOTSTRAP_SEED)),
        }
    return compared


def _unless_empty(interval: tuple[float, float]) -> tuple[float, float] | None:
    """A bootstrap says nothing where no resample differs, as for groups that do not overlap."""
    return interval if interval[0] < interval[1] else None


def _curves(rows: Sequence[SurpriseRow]) -> dict[str, dict[str, list[float]]]:
    """Mean and its 95 % band at every frame, per variant."""
    from ...measures.significance import band

    curves = {}
    for variant in VARIANTS:
        values = np.array([row.curve for row in rows if row.variant == variant])
        low, high = band(values)
        curves[variant] = {"mean": values.mean(0).tolist(), "low": low.tolist(), "high": high.tolist()}
    return curves
