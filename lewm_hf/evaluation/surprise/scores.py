"""How surprised a model is: frame by frame along one episode, and perturbed episodes against unperturbed ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...action_blocks import to_blocks
from ...measures.correlation import roc_auc
from ...measures.significance import band, bootstrap_interval, paired_test
from ..common.agent import Agent
from ..common.embeddings import encode
from ..common.facts import Curve
from .events import VARIANTS, Take
from .result import Detection, SurpriseRow

BOOTSTRAP_SEED = 0
WHERE = ("at_event", "around_event")


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


def score_takes(agent: Agent, takes: Mapping[str, Take], episode: int, event: int) -> list[SurpriseRow]:
    """The rows of one episode: every variant before frame number `event`, at it and around it."""
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


def compare_variants(rows: Sequence[SurpriseRow], variant: str) -> dict[str, Detection]:
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


def mean_curves(rows: Sequence[SurpriseRow]) -> dict[str, Curve]:
    """Mean and its 95 % band at every frame, per variant."""
    curves = {}
    for variant in VARIANTS:
        values = np.array([row.curve for row in rows if row.variant == variant])
        low, high = band(values)
        curves[variant] = Curve(mean=values.mean(0).tolist(), low=low.tolist(), high=high.tolist())
    return curves
