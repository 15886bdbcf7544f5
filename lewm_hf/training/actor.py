"""A goal-conditioned actor for a finished world model: supervised regression on its frozen embeddings.

Each frame of the data is paired with a later one of its episode as the goal, and the actor learns the action block
that the data's behavior took in between (Ghosh et al. 2021, arXiv 1912.06088). It is imitation: where goals come from
the behavior that made the data, its success says as much about that behavior as about the world model.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..action_blocks import moving, to_blocks
from ..configuration_lewm import LeWMConfig
from ..data.episode_data import EpisodeData
from ..data.proprioception import proprioception_rows
from ..evaluation.common.agent import load_agent, training_facts_of
from ..evaluation.common.inputs import load_for
from ..folders import check_new_folder, new_folder
from ..image_processing_lewm import LeWMImageProcessor
from ..modeling_lewm import LeWMModel
from ..plain_numbers import make_plain
from ..progress import progress_bar
from ..proprioception_lewm import size_of
from .freed_memory import keep_freed_memory
from .precision import mixed_precision
from .schedule import learning_rate

FRAMES_AT_ONCE = 512
PRECISIONS = ("fp32", "bf16", "auto")


@dataclass(frozen=True, kw_only=True)
class ActorFit:
    """How an actor is fitted.

    Args:
        steps, batch_size: optimizer steps, and pairs of frames of each.
        peak_learning_rate, weight_decay: AdamW, warm-up over a twentieth and a cosine to 0.
        near_share: share of the pairs that are at most half of `max_blocks` apart; the others are drawn from all.
        inputs: `"embeddings"`, or `"features"` for an actor that sees the encoder's output of real frames too.
        hidden_size, layers, max_blocks: see `LeWMConfig`'s fields that begin with `actor_`.
        precision: of the matrix products of a step: `"fp32"`, `"bf16"`, or `"auto"` for the latter where it is faster.
            Weights and what they are fitted to stay in float32. On one core of an Intel Xeon with AMX a step of
            lewm-pusht-mini's actor takes 34 ms in bfloat16 beside 62.
        seed: of initialization and pairs.
    """

    steps: int = 3000
    batch_size: int = 512
    peak_learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    inputs: str = "features"
    hidden_size: int = 256
    layers: int = 3
    max_blocks: int = 5
    near_share: float = 0.0
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("steps", "batch_size", "hidden_size", "layers", "max_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r} is unknown: use one of {', '.join(PRECISIONS)}")
        if not 0 <= self.near_share <= 1:
            raise ValueError(f"near_share={self.near_share} must be between 0 and 1")
        if not self.peak_learning_rate > 0:
            raise ValueError(f"peak_learning_rate={self.peak_learning_rate} must be positive")


class _Pairs:
    """Frozen embeddings of all frames of a split, and the pairs that goals are drawn from.

    Args:
        parts: one data set or several, each with a pace of its own.
        what: of the progress bar.
    """

    def __init__(self, model: LeWMModel, processor: LeWMImageProcessor, parts: Sequence[EpisodeData], what: str):
        config, first_row = model.config, 0
        starts: list[np.ndarray] = []
        aheads: list[np.ndarray] = []
        aparts: list[np.ndarray] = []
        blocks: list[Tensor] = []
        embeddings: list[Tensor] = []
        features: list[Tensor] = []
        for episodes in parts:
            apart = episodes.rows_apart(config.frameskip)
            ends = np.repeat(episodes.offsets + episodes.lengths - 1, episodes.lengths)
            ahead = (ends - np.arange(episodes.num_rows)) // apart  # whole blocks that the episode still holds
            leaving = np.flatnonzero(ahead >= 1)
            if not len(leaving):
                raise ValueError(
                    f"no episode of {episodes.name} is longer than an action block of {config.frameskip} steps: "
                    "collect longer ones"
                )
            actions = torch.from_numpy(
                episodes.actions[leaving[:, None] + np.arange(apart)].reshape(len(leaving), -1, config.action_dim)
            )
            starts.append(leaving + first_row)
            aheads.append(ahead[leaving])
            aparts.append(np.full(len(leaving), apart))
            blocks.append(to_blocks(actions, config)[:, 0])
            for kept, rows in zip((embeddings, features), _embed(model, processor, episodes, what), strict=True):
                kept.append(rows)
            first_row += episodes.num_rows
        self.starts, self.ahead, self.apart = (np.concatenate(one) for one in (starts, aheads, aparts))
        self.embeddings, self.features = torch.cat(embeddings), torch.cat(features)
        self.blocks = torch.cat(blocks).to(self.embeddings.device)

    def draw(
        self, generator: np.random.Generator, count: int, max_blocks: int, near_share: float = 0.0
    ) -> dict[str, Tensor]:
        """`count` pairs, uniform over frames and over 1 to `max_blocks` blocks, cut short at an episode's end.

        Args:
            near_share: share of the pairs that is drawn from the nearer half of these blocks instead.
        """
        chosen = generator.integers(len(self.starts), size=count)
        rows = self.starts[chosen]
        farthest: int | np.ndarray = max_blocks
        if near_share:
            farthest = np.where(generator.random(count) < near_share, -(-max_blocks // 2), max_blocks)
        left = np.minimum(generator.integers(1, farthest + 1), self.ahead[chosen])
        return {"now": torch.from_numpy(rows), "goal": torch.from_numpy(rows + left * self.apart[chosen]),
                "left": torch.from_numpy(left), "block": torch.from_numpy(chosen)}  # fmt: skip


@torch.no_grad()
def _embed(model: Any, processor: Any, episodes: EpisodeData, what: str) -> tuple[Tensor, Tensor]:
    """Embeddings `(rows, D)` and features `(rows, width)` of all frames, in float32."""
    parts, body = [], None
    if size_of(model.config):
        body = torch.from_numpy(proprioception_rows(episodes, model.config)).to(model.device)
    rows = np.arange(episodes.num_rows)
    with progress_bar(total=len(rows), desc=f"embedding {what}", unit="frame", show=True) as bar:
        for first in range(0, len(rows), FRAMES_AT_ONCE):
            frames = torch.from_numpy(episodes.frames(rows[first : first + FRAMES_AT_ONCE])).to(model.device)
            beside = () if body is None else (body[None, first : first + len(frames)],)
            seen = model.observe(processor.normalize(frames)[None], *beside)
            parts.append([part[0].float() for part in seen])
            bar.update(len(frames))
    embeddings, features = (torch.cat(part) for part in zip(*parts, strict=True))
    return embeddings, features


def _error(
    model: LeWMModel, pairs: _Pairs, drawn: dict[str, Tensor], entries: slice | Tensor = slice(None)
) -> dict[str, Tensor]:
    """Mean squared error of each actor on some pairs, in z-scored units, where copying the mean gives about 1.

    Args:
        entries: of a block, those that count; one that never moves has no error to speak of.
    """
    actor, blocks = model.actor, pairs.blocks[drawn["block"]]
    assert actor is not None, "a model with an actor is fitted"
    now, goal, left = drawn["now"], drawn["goal"], drawn["left"].to(blocks.device)
    z, f = pairs.embeddings, pairs.features
    proposed = {"embeddings": actor.on_embeddings(z[now], z[goal], left)}
    if actor.on_features is not None:
        proposed["features"] = actor(z[now], z[goal], left, f[now], f[goal])
    return {name: F.mse_loss(actions.float()[..., entries], blocks[..., entries]) for name, actions in proposed.items()}


def add_actor(
    source: str | Path,
    dataset: str,
    out: str | Path,
    fit: ActorFit,
    *,
    more: Sequence[str] = (),
    revision: str | None = None,
    episodes_revision: str | None = None,
) -> dict[str, float]:
    """Writes a checkpoint with a fitted actor into a new folder; returns the errors of `fit_actor`.

    Args:
        source: folder or Hub id of a finished model.
        dataset: folder or Hub id, with the splits `train` and `test`.
        out: new folder.
        fit: how the actor is fitted.
        more: further data sets whose training episodes join.
        revision, episodes_revision: of a Hub checkpoint and of `dataset`.

    Raises:
        ValueError, FileNotFoundError, OSError: one line, before any work where the input is at fault.
    """
    out = Path(out)
    check_new_folder(out)
    agent = load_agent(source, revision=revision)
    if not isinstance(agent.model, LeWMModel):
        raise ValueError(f"{source} is a {type(agent.model).__name__}: actors are heads of LeWMModel")
    if agent.model.device.type == "cpu":
        keep_freed_memory()
    episodes = {split: [load_for(agent, dataset, split, episodes_revision)] for split in ("train", "test")}
    episodes["train"] += [load_for(agent, one, "train") for one in more]
    fitted, errors = fit_actor(agent.model, agent.processor, episodes, fit)
    facts = training_facts_of(source, revision)
    facts["parameters"] = sum(parameter.numel() for parameter in fitted.parameters())
    facts["actor"] = asdict(fit) | {"more_episodes": [str(one) for one in more], "mean_squared_error": errors}
    with new_folder(out) as folder:
        fitted.save_pretrained(folder)
        agent.processor.save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return errors


def fit_actor(
    model: LeWMModel,
    processor: LeWMImageProcessor,
    episodes: Mapping[str, EpisodeData | Sequence[EpisodeData]],
    fit: ActorFit | None = None,
) -> tuple[LeWMModel, dict[str, float]]:
    """A copy of the model with a freshly fitted actor, and the actor's errors.

    Args:
        model: a finished world model; none of its weights changes.
        processor: its image processor.
        episodes: `train`, and `test` to measure held-out errors on; a data set each, or several.
        fit: how.

    Returns:
        The model in evaluation mode, and mean squared errors of z-scored blocks by `split_actor`, over
        the entries that ever move.

    Raises:
        ValueError: where the episodes do not fit the model, or are too short.
    """
    fit = fit or ActorFit()
    parts = {split: [one] if isinstance(one, EpisodeData) else list(one) for split, one in episodes.items()}
    for part in [one for several in parts.values() for one in several]:
        if part.action_dim != model.config.action_dim:
            raise ValueError(
                f"{part.name} has {part.action_dim}-dimensional actions, but the model has "
                f"action_dim={model.config.action_dim}: give the episodes that it was trained on"
            )
    chosen = {
        "actor": True, "actor_inputs": fit.inputs, "actor_hidden_size": fit.hidden_size, "actor_layers": fit.layers,
        "actor_max_blocks": fit.max_blocks,
    }  # fmt: skip
    config = LeWMConfig(**(copy.deepcopy(model.config).to_dict() | chosen))
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        fitted = LeWMModel(config).to(model.device)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("actor.")}
    heads = {name: value for name, value in fitted.state_dict().items() if name.startswith("actor.")}
    fitted.load_state_dict(kept | heads)
    fitted.eval()
    pairs = {split: _Pairs(fitted, processor, several, split) for split, several in parts.items()}
    train, actor = pairs["train"], fitted.actor
    if actor.on_features is not None:
        rows = torch.cat([train.features, train.embeddings], -1)
        actor.on_features.batch_norm.running_mean.copy_(rows.mean(0))
        actor.on_features.batch_norm.running_var.copy_(rows.var(0).clamp_min(1e-12))
    parameters = [*actor.on_embeddings.net.parameters()]
    parameters += [] if actor.on_features is None else [*actor.on_features.net.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=fit.weight_decay, fused=True)
    generator = np.random.default_rng(fit.seed)
    device, half = fitted.device, mixed_precision(fit.precision, fitted.device) == "bf16"
    with progress_bar(total=fit.steps, desc="fitting the actor", unit="step", show=True) as bar:
        for step in range(fit.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, fit.steps, 0.05, fit.peak_learning_rate)
            drawn = train.draw(generator, fit.batch_size, fit.max_blocks, fit.near_share)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                errors = _error(fitted, train, drawn)
            optimizer.zero_grad()
            sum(errors.values()).backward()
            optimizer.step()
            bar.update()
    measured: dict[str, float] = {}
    moved = torch.tensor(moving(fitted.config), device=device)
    for split, drawn_from in pairs.items():
        with torch.no_grad():
            errors = _error(
                fitted, drawn_from, drawn_from.draw(np.random.default_rng(fit.seed + 1), 8192, fit.max_blocks), moved
            )
        measured |= {f"{split}_{name}": float(value) for name, value in errors.items()}
    return fitted, measured
