"""The checkpoint that a run starts from: all of its weights that fit, and what does not fit in one line.

Which fields of a configuration make another architecture is found out and not listed: those that change a weight's
shape, or what the same weights compute. Loss weights, dropout and the like may differ. Actions may be of another width:
the parts whose shapes depend on it then start anew, and so do optional heads that the checkpoint has not.
"""

import copy
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ..action_blocks import same_rate
from ..configuration_lewm import LeWMConfig
from ..data.source_folder import HUB_ID
from ..evaluation.common.agent import Agent, first_sentence, load_agent
from ..evaluation.common.provenance import model_fingerprint
from ..proprioception_lewm import size_of
from ..randomness import preserved_randomness
from ..world_models.registry import find_world_model

logger = logging.getLogger(__name__)

# What the data set decides, and what follows from the width of an action block.
MEASURED = (
    "action_mean", "action_std", "action_statistics_source", "action_low", "action_high", "action_choices",
    "actions_per_second",
    "proprioception_mean", "proprioception_std",
)  # fmt: skip
ACTION_WIDTH = ("frameskip", "action_dim")


def checkpoint_config(source: str | Path, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a checkpoint, without its weights.

    Raises:
        FileNotFoundError, ValueError: one line, where there is none, it may not be read, or it is of no world model.
    """
    folder = Path(source)
    if not folder.exists() and not HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(
            f"init_from={source} is not a checkpoint: there is no such folder; give one, such as RUN/best, or a Hub id "
            "like org/name"
        )
    if folder.exists() and not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"init_from={source} holds no config.json: give a checkpoint's folder, such as RUN/best"
        )
    try:
        # Names the converter where AutoConfig would only find an unknown config.
        model_type = LeWMConfig.get_config_dict(source, revision=revision)[0].get("model_type")
        find_world_model(str(model_type))
        return AutoConfig.from_pretrained(source, revision=revision)
    except OSError as error:
        raise FileNotFoundError(
            f"init_from={source} is not a checkpoint, neither a folder nor a readable Hub id: {first_sentence(error)}"
        ) from error


@dataclass(frozen=True)
class StartingPoint:
    """Weights that a model of a given configuration starts with.

    Attributes:
        agent: the checkpoint.
        anew: parts that start from random weights all the same.
        left: parts of the checkpoint that the model has not.
        before, now: frameskip and action dimension, there and here.
    """

    agent: Agent
    anew: tuple[str, ...]
    left: tuple[str, ...]
    before: tuple[int, int]
    now: tuple[int, int]

    @classmethod
    def open(cls, source: str | Path, config: PreTrainedConfig, revision: str | None = None) -> "StartingPoint":
        """Loads a checkpoint and compares it with a configuration.

        Args:
            source: folder or Hub id.
            config: of the model that is to be trained.

        Raises:
            FileNotFoundError, ValueError: one line, where there is no such checkpoint, it is damaged, or of another
                architecture, naming the fields that differ.
        """
        before = checkpoint_config(source, revision)
        if before.model_type != config.model_type:
            raise ValueError(
                f"init_from={source} is of another architecture: model_type={config.model_type!r} here, "
                f"{before.model_type!r} there; give a checkpoint of this one, or omit model_type"
            )
        agent = load_agent(source, revision=revision, device="cpu")
        _check_architecture(agent, config)
        shapes, there = _shapes(type(agent.model), config), _shapes(type(agent.model), before)
        anew = [part for part in _parts(shapes) if part not in _parts(there)]
        was, now = (tuple(getattr(one, name) for name in ACTION_WIDTH) for one in (before, config))
        if was != now:
            wider = _shapes(type(agent.model), _with(config, {"action_dim": config.action_dim + 1}))
            anew += [part for part in _parts(shapes) if part not in anew and _of(shapes, part) != _of(wider, part)]
        left = [part for part in _parts(there) if part not in _parts(shapes)]
        return cls(agent, tuple(anew), tuple(left), was, now)

    def fill(self, model: PreTrainedModel) -> None:
        """Gives a fresh model the checkpoint's weights and buffers, but for the parts that start anew."""
        saved, fresh = self.agent.model.state_dict(), model.state_dict()
        model.load_state_dict({name: fresh[name] if _part(name) in self.anew else saved[name] for name in fresh})

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint's training.json says about where it started."""
        return {
            "source": self.agent.source,
            "revision": self.agent.revision,
            "fingerprint": model_fingerprint(self.agent.model),
            "new_parts": list(self.anew),
        }

    @property
    def remark(self) -> str:
        """What was and was not taken over, for the line that says what begins."""
        count = sum(1 for name in self.agent.model.state_dict() if _part(name) not in (*self.anew, *self.left))
        text = f"; starts with {count} tensors of {self.agent.source}"
        if self.before != self.now:
            there, here = (" x ".join(map(str, sizes)) for sizes in (self.before, self.now))
            text += f", whose action blocks are {there} and here {here}"
        text += f"; {', '.join(self.anew)} created anew" if self.anew else ""
        return text + (f"; {', '.join(self.left)} left away" if self.left else "")

    def tell_of_another_rate(self, config: PreTrainedConfig) -> None:
        """Warns where an action lasts longer or shorter in the data than in those that the checkpoint comes from.

        Args:
            config: with what was measured on the data.
        """
        then, now = (getattr(one, "actions_per_second", None) for one in (self.agent.model.config, config))
        if then and now and not same_rate(then, now):
            logger.warning(
                "%s was trained on %g actions per second, the data set has %g: the same action block does something "
                "else here, which the model has to learn anew",
                self.agent.source, then, now,
            )  # fmt: skip


def _check_architecture(agent: Agent, config: PreTrainedConfig) -> None:
    before = agent.model.config
    free = {entry.name for entry in dataclasses.fields(PreTrainedConfig)} | {*MEASURED, *ACTION_WIDTH}
    if not size_of(before):  # a second input is one more part, which starts anew
        free |= {"proprioception_size", "proprioception_key"}
    differing = {
        entry.name: getattr(config, entry.name)
        for entry in dataclasses.fields(type(config))
        if entry.name not in free and getattr(config, entry.name) != getattr(before, entry.name)
    }
    guilty = [name for name, value in differing.items() if _changes(agent.model, {name: value})]
    if not guilty and differing and _changes(agent.model, differing):
        guilty = list(differing)  # none does alone
    if guilty:
        listed = ", ".join(f"{name}={getattr(config, name)!r} here, {getattr(before, name)!r} there" for name in guilty)
        raise ValueError(
            f"init_from={agent.source} is of another architecture: {listed}; omit these keys, which takes the "
            "checkpoint's, or train from nothing"
        )


@torch.no_grad()
def _changes(model: PreTrainedModel, values: dict[str, Any]) -> bool:
    """Whether a model of the same weights under other fields has other shapes, or computes something else."""
    kind = type(model)
    try:
        config = _with(model.config, values, measured=True)
        shapes, there = _shapes(kind, config), _shapes(kind, model.config)
    except (ValueError, StrictDataclassError):
        return True
    shared = [part for part in _parts(shapes) if part in _parts(there)]
    if any(_of(shapes, part) != _of(there, part) for part in shared):
        return True
    with preserved_randomness(torch.device("cpu")):
        other = kind(config).eval()
    saved, fresh = model.state_dict(), other.state_dict()
    other.load_state_dict({name: saved.get(name, value) for name, value in fresh.items()})
    side = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((1, 2, 3, side, side), generator=generator)
    blocks = torch.randn((1, 2, model.config.history_size + 1, model.config.action_block_size), generator=generator)
    body = torch.randn((1, 2, size_of(model.config)), generator=generator) if size_of(model.config) else None
    try:
        return not all(
            torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
            for ours, theirs in zip(*(_computed(one, pixels, blocks, body) for one in (model, other)), strict=True)
        )
    except ValueError:  # it takes no such pictures
        return True


def _computed(model: PreTrainedModel, pixels: Tensor, blocks: Tensor, body: Tensor | None) -> list[Tensor]:
    latents = model.encode(pixels) if body is None else model.encode(pixels, body)
    return [latents, model.rollout(latents[:, :1], blocks)] if hasattr(model, "rollout") else [latents]


def _with(config: PreTrainedConfig, values: dict[str, Any], measured: bool = False) -> PreTrainedConfig:
    """A copy with other fields; `measured`: the action statistics stay, whose length is that of an action.

    Raises:
        ValueError: where no such configuration can be.
    """
    kept = copy.deepcopy(config.to_dict())
    if not measured:
        kept |= dict.fromkeys(MEASURED)
    return type(config).from_dict(kept | values)


def _shapes(kind: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in kind(config).state_dict().items()}


def _part(name: str) -> str:
    return name.partition(".")[0]


def _parts(shapes: dict[str, torch.Size]) -> list[str]:
    return list(dict.fromkeys(map(_part, shapes)))


def _of(shapes: dict[str, torch.Size], part: str) -> dict[str, torch.Size]:
    return {name: shape for name, shape in shapes.items() if _part(name) == part}
