"""A checkpoint ready to be judged: loaded strictly, or refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import AutoImageProcessor, AutoModel

from ...configuration_lewm import LeWMConfig
from ...data.episodes import COLUMN_KEYS
from ...data.source_folder import HUB_ID
from ...planning.world_model import check_ready
from ...world_models.registry import import_offered
from .facts import ModelFacts
from .outputs import read_object
from .provenance import model_fingerprint

if TYPE_CHECKING:
    from ...tasks.state_env import StateEnv


@dataclass(frozen=True)
class Agent:
    """A world model, its image processor and where they come from.

    Args:
        source: folder or Hub id, or the class name of a model that was passed in.
        revision: commit of a Hub checkpoint.
        trained_on: environment id of the training episodes, where the checkpoint says so.
        env_kwargs: how that environment was made, except for the picture size.
        columns: how the recordings that it was trained on are read, see `load_episodes`.
    """

    model: Any
    processor: Any
    source: str
    revision: str | None = None
    trained_on: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> ModelFacts:
        """What a result records about the model."""
        config = self.model.config
        return ModelFacts(
            source=self.source,
            revision=self.revision,
            class_name=type(self.model).__name__,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            fingerprint=model_fingerprint(self.model),
            trained_on=self.trained_on,
            image_size=config.image_size,
            history_size=config.history_size,
            frameskip=config.frameskip,
            action_dim=config.action_dim,
            action_mean=config.action_mean,
            action_std=config.action_std,
        )


def default_device() -> torch.device:
    """The machine's accelerator, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def load_agent(
    model: Any,
    processor: Any = None,
    *,
    revision: str | None = None,
    device: torch.device | str | None = None,
) -> Agent:
    """Loads a checkpoint, or wraps a model in memory.

    Args:
        model: folder, Hub id, or a world model (left on its device unless `device` is given).
        processor: needed beside a model in memory only.
        revision: of a Hub checkpoint.

    Raises:
        FileNotFoundError, OSError: where there is no checkpoint.
        ValueError: where weights are missing, left over or of another shape: such a model would be partly random.
    """
    if not isinstance(model, str | Path):
        if processor is None:
            raise ValueError(f"a {type(model).__name__} in memory needs its image processor: pass processor=...")
        model = model if device is None else model.to(device)
        return Agent(model, processor, type(model).__name__)
    folder = Path(model)
    if not folder.exists() and not HUB_ID.fullmatch(str(model)):
        raise FileNotFoundError(
            f"{str(model)!r} is not a checkpoint's folder: there is none; give one, such as RUN/best, or a Hub id like "
            "org/name"
        )
    if folder.exists() and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{model} holds no config.json: give the folder of a checkpoint, such as RUN/best")
    try:
        # Names the converter where AutoModel would only find an unknown config.
        import_offered(LeWMConfig.get_config_dict(model, revision=revision)[0].get("model_type"))
        loaded, info = AutoModel.from_pretrained(
            model, revision=revision, output_loading_info=True, ignore_mismatched_sizes=True
        )
        if not hasattr(loaded, "encode"):
            raise ValueError(f"{model} is a {type(loaded).__name__}, which encodes nothing: give a world model")
        processor = AutoImageProcessor.from_pretrained(model, revision=revision)
    except OSError as error:
        reason = first_sentence(error)
        if folder.exists() and not (folder / "preprocessor_config.json").is_file():
            raise FileNotFoundError(
                f"{model} holds no preprocessor_config.json: save its image processor beside the model"
            ) from error
        if folder.exists():
            raise ValueError(f"{model} is damaged ({reason}): save or copy it again") from error
        raise FileNotFoundError(f"{str(model)!r} is neither a checkpoint's folder nor a Hub id: {reason}") from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            keys, kind = sorted(map(str, info[problem])), problem.replace("_", " ")
            raise ValueError(
                f"checkpoint {model} does not fit {type(loaded).__name__}: {len(keys)} {kind} such as {keys[0]}; part "
                f"of the model would be random, so save the checkpoint again or fix its config.json"
            )
    check_processor(model, getattr(processor, "image_size", None), loaded.config.image_size)
    loaded = loaded.eval().to(device or default_device())
    commit = None if folder.exists() else commit_of(str(model), revision)
    facts = training_facts_of(model, revision)
    env_kwargs = {name: value for name, value in facts.get("env_kwargs", {}).items() if name != "image_size"}
    told = facts.get("recipe")
    recipe = told if isinstance(told, dict) else {}
    columns = {name: recipe[name] for name in COLUMN_KEYS if recipe.get(name) not in (None, [])}
    return Agent(loaded, processor, str(model), commit, facts.get("env_id"), env_kwargs, columns)


def commit_of(repo_id: str, revision: str | None) -> str:
    """The commit that a Hub checkpoint was loaded from: the name of its folder in the cache."""
    return Path(hf_hub_download(repo_id, "config.json", revision=revision)).parent.name


def check_processor(source: str | Path, made: int | None, taken: int) -> None:
    """Refuses a checkpoint whose image processor makes pictures of another size than its model takes.

    Raises:
        ValueError: one line with both sizes.
    """
    if made not in (None, taken):
        raise ValueError(
            f"the image processor of {source} makes {made} pixels, but the model takes image_size={taken}: the files "
            "belong to different checkpoints, copy them again"
        )


def first_sentence(error: Exception) -> str:
    """The first sentence of what a library says; the rest is its advice."""
    text = re.split(r"(?<=[.!?])\s|\n", str(error).strip(), maxsplit=1)[0]
    return " ".join(text.split()).rstrip(".")


def training_facts_of(model: str | Path, revision: str | None) -> dict[str, Any]:
    """What `training.json` beside a checkpoint says; nothing for a checkpoint without one."""
    path = Path(model) / "training.json"
    if not Path(model).exists():
        try:
            path = Path(hf_hub_download(str(model), "training.json", revision=revision))
        except EntryNotFoundError:
            return {}
    if not path.is_file():
        return {}
    facts = read_object(path, "copy it again from the training run, or remove it")
    if not isinstance(facts.get("env_kwargs", {}), dict):
        raise ValueError(
            f"{path}: env_kwargs={facts['env_kwargs']!r} is not an object: copy it again from the training run"
        )
    return facts


def check_agent(agent: Agent, env: "StateEnv", env_id: str) -> None:
    """Refuses a model that cannot act in this environment.

    Raises:
        ValueError: one line, naming the value and the remedy.
    """
    config = agent.model.config
    check_ready(agent.model)
    (action_dim,) = env.action_space.shape
    if config.action_dim != action_dim:
        raise ValueError(
            f"{agent.source} was made for action_dim={config.action_dim}, but {env_id} has {action_dim} action "
            f"dimensions: give a model that was trained on {env_id}"
        )
