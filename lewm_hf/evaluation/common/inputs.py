"""What an analysis is made of, opened and checked against each other before any work starts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...configuration_lewm_decoder import LeWMDecoderConfig
from ...data.episodes import EpisodeData, load_episodes
from ...modeling_lewm_decoder import LeWMDecoder
from ...tasks.registry import make_env, short_name
from ...world_models.base import latent_shape
from .agent import Agent, first_sentence, load_agent
from .embeddings import check_frozen
from .facts import DatasetFacts
from .provenance import dataset_fingerprint, hardware, latents_fingerprint, library_versions, model_fingerprint

if TYPE_CHECKING:
    from ...tasks.state_env import StateEnv


@dataclass(frozen=True)
class Inputs:
    """A frozen model and the episodes it is looked at with.

    Attributes:
        agent: model, processor and where they come from.
        episodes: an `EpisodeData`.
        source: folder or Hub id of the episodes, where they were loaded from one.
        env: short name of the environment, `None` where the data set names none that is a task here.
    """

    agent: Agent
    episodes: Any
    source: str | None
    env: str | None

    def make_env(self) -> "StateEnv":
        """An environment like that of the recordings.

        Raises:
            ValueError: where the data set names none that is a task here.
        """
        if self.env is None:
            raise ValueError(
                f"the episodes are of environment {self.episodes.env_id!r}, which is not a task: register_task it"
            )
        return make_env(self.env, **self.episodes.env_kwargs)

    def facts(self) -> dict[str, Any]:
        """What a result records about them, and about the machine."""
        dataset = DatasetFacts(
            source=self.source,
            revision=getattr(self.episodes, "revision", None),
            split=self.episodes.split,
            env=self.episodes.env_id,
            episodes=len(self.episodes.lengths),
            fingerprint=dataset_fingerprint(self.episodes),
        )
        return {"model": self.agent.facts(), "dataset": dataset, **machine_facts(self.agent)}

    def question(self) -> dict[str, Any]:
        """What a result says about which model and which episodes were looked at, see `Analysis.question`."""
        return {
            "model.fingerprint": self.agent.facts().fingerprint,
            "dataset.fingerprint": dataset_fingerprint(self.episodes),
        }


def machine_facts(agent: Agent) -> dict[str, Any]:
    """Library versions and hardware."""
    return {"versions": library_versions(), "hardware": hardware(next(agent.model.parameters()).device)}


def open_agent(
    model: Any, processor: Any = None, revision: str | None = None, device: torch.device | str | None = None
) -> Agent:
    """A world model ready to be looked at: a folder, a Hub id, an `Agent`, or a model in memory and its processor.

    Raises:
        FileNotFoundError: where there is no checkpoint.
        ValueError: for a damaged checkpoint, or a model in training mode.
    """
    agent = model if isinstance(model, Agent) else load_agent(model, processor, revision=revision, device=device)
    check_frozen(agent.model)
    return agent


def open_decoder(decoder: Any, agent: Agent, revision: str | None = None) -> LeWMDecoder:
    """A decoder that fits the agent's world model, on its device: a folder, a Hub id, or a decoder in memory.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: for a decoder in training mode, of another embedding size, or trained on other weights.
    """
    source = str(decoder) if isinstance(decoder, str | Path) else type(decoder).__name__
    if isinstance(decoder, str | Path):
        if Path(decoder).exists() and not (Path(decoder) / "config.json").is_file():
            raise FileNotFoundError(f"{decoder} holds no config.json: give the folder of a decoder, such as RUN/best")
        try:
            kind = LeWMDecoderConfig.get_config_dict(decoder, revision=revision)[0].get("model_type")
            if kind != LeWMDecoderConfig.model_type:
                raise ValueError(
                    f"{source} is a {kind}, not a {LeWMDecoderConfig.model_type}: train a decoder with "
                    "training/train_decoder.py"
                )
            decoder = LeWMDecoder.from_pretrained(decoder, revision=revision).eval()
        except OSError as error:
            reason = first_sentence(error)
            raise FileNotFoundError(f"no decoder at {source!r}, neither a folder nor a Hub id: {reason}") from error
    check_frozen(decoder)
    model = agent.model
    size = math.prod(latent_shape(model))
    if decoder.config.embed_dim != size:
        raise ValueError(
            f"{source} decodes embeddings of size {decoder.config.embed_dim}, but {agent.source} makes them of size "
            f"{size}: train a decoder for this model with training/train_decoder.py"
        )
    trained_on = decoder.config.world_model_fingerprint
    if trained_on not in (None, model_fingerprint(model), latents_fingerprint(model)):
        raise ValueError(
            f"{source} was trained on the embeddings of other weights than {agent.source} has: give that model, or "
            "train a decoder for this one with training/train_decoder.py"
        )
    return decoder.to(next(model.parameters()).device)


def open_inputs(
    model: Any,
    episodes: Any,
    *,
    split: str = "test",
    processor: Any = None,
    revision: str | None = None,
    episodes_revision: str | None = None,
    device: torch.device | str | None = None,
) -> Inputs:
    """Opens both and refuses what does not belong together.

    Args:
        model: see `open_agent`.
        episodes: an `EpisodeData`, or a folder or Hub id of which `split` is loaded.

    Raises:
        FileNotFoundError, ValueError: one line, for what is missing or damaged, or a model that was trained for
            another environment or another action dimension.
    """
    source, agent = None, open_agent(model, processor, revision, device)
    if isinstance(episodes, str | Path):
        from ...data.cache import read_kept_frames

        source, episodes = str(episodes), load_for(agent, episodes, split, episodes_revision)
        read_kept_frames(episodes)
    check_trained_on(agent, episodes.env_id)
    made_for, found = agent.model.config.action_dim, episodes.action_dim
    if made_for != found:
        raise ValueError(
            f"{agent.source} was made for action_dim={made_for}, but the episodes have {found} action dimensions: give "
            "the data set it was trained on"
        )
    return Inputs(agent, episodes, source, env_name(episodes.env_id))


def load_for(
    agent: Agent, source: str | Path, split: str, revision: str | None = None, columns: Mapping[str, Any] | None = None
) -> EpisodeData:
    """Opens episodes for a model: recordings are read as those were that it was trained on.

    Args:
        columns: what is read otherwise, see `load_episodes`.

    Raises:
        FileNotFoundError, ValueError: one line; see `load_episodes`.
    """
    named = {**agent.columns, **(columns or {})}
    size = agent.model.config.image_size
    return load_episodes(source, split, revision, **named, image_size=size, if_needed=not columns)


def check_trained_on(agent: Agent, env_id: str | None) -> None:
    """Refuses a model that says it was trained in another environment.

    Raises:
        ValueError: one line with both names.
    """
    trained, asked = env_name(agent.trained_on), env_name(env_id)
    if trained is not None and asked is not None and trained != asked:
        raise ValueError(
            f"{agent.source} was trained on {agent.trained_on}, not on {env_id}: give episodes of {trained}, or "
            "another model"
        )


def env_name(env_id: str | None) -> str | None:
    """The short name behind an environment's id or short name; `None` for one that is no task here."""
    try:
        return short_name(env_id) if env_id else None
    except (ValueError, ImportError):
        return None
