"""A training recipe: a documented dataclass, filled from a YAML file and the command line."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from ..configuration_checks import strict_reason
from ..data.cache import CACHES
from ..data.episodes import COLUMN_KEYS
from ..pictures import FITS
from ..plain_numbers import make_plain
from ..world_models.registry import find_world_model
from .described_fields import field_meanings
from .parts import check_parts, learning_rate_factors
from .recipe_files import field_names, find_recipe, parse, peek, read_keys, read_yaml, refuse_replaced
from .starting_point import MEASURED, checkpoint_config
from .trackers import TRACKERS


def option(default: Any, text: str, **metadata: Any) -> Any:
    """A field of a recipe, with what `--help` says about it."""
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class RunRecipe:
    """What every training has: data, folder, length, optimizer, machine, and when to log, save and evaluate."""

    dataset: str = option("", "directory, Hub id or address (s3://...) of the episodes")
    dataset_revision: str | None = option(None, "branch, tag or commit of a Hub data set")
    image_key: str | None = option(
        None, "of a recording: its image column or camera; several, as in top,wrist, are put side by side"
    )
    action_key: str | None = option(None, "of a recording: its action column, or several, joined: arm,gripper")
    action_choices: list[int] = field(
        default_factory=list,
        metadata={
            "help": "of a recording whose actions are choices: how many values each has; its action columns hold their "
            "numbers, counted from 0, or a 1 among zeros for each choice"
        },
    )
    episode_key: str | None = option(None, "of a table: the column that tells episodes apart")
    fps: float | None = option(None, "of a recording that does not tell: frames per second")
    fit: str | None = option(None, "crop, pad or stretch: how frames of a recording become square; planning repeats it")
    streaming: bool = option(False, "not supported: a data set is downloaded once, before training")
    frame_cache: str | None = option(
        None, "ram or memmap: decode every frame once and keep it; none: frames are decoded when used"
    )
    output_dir: str = option("", "folder of the run: metrics.jsonl, last/, best/, state/; must be new unless --resume")
    resume: bool = option(
        False, "continue the run in output_dir exactly where it stopped; what changes the training must be as it was"
    )

    max_steps: int | None = option(None, "optimizer steps; warm-up and cosine span exactly these")
    batch_size: int = option(128, "samples per batch, all processes together")
    gradient_accumulation_steps: int = option(1, "batches per optimizer step")
    learning_rate: float = option(1e-3, "peak of warm-up and cosine")
    warmup_fraction: float = option(0.01, "share of the schedule spent in linear warm-up")
    weight_decay: float = option(1e-3, "AdamW, on all parameters")
    max_grad_norm: float = option(1.0, "gradient clipping, global norm")
    seed: int = option(3072, "of initialization, the data's order and whatever a step draws")

    precision: str = option("auto", "auto (bf16 where the hardware has it), fp32 or bf16")
    compile: bool = option(False, "torch.compile the model")
    num_workers: int = option(4, "loader processes per training process; 0 decodes in the training process")

    log_every: int = option(10, "steps between two records of metrics.jsonl and the tracker")
    eval_every: int | None = option(None, "steps between two evaluations; without it only the end is evaluated")
    save_every: int = option(1000, "steps between two saved states; also saved before every evaluation")
    tracker: str = option("tensorboard", "where metrics go besides metrics.jsonl", choices=(*TRACKERS, "none"))

    needed: ClassVar[tuple[str, ...]] = ("dataset", "output_dir")
    least: ClassVar[dict[str, int]] = {
        "max_steps": 1, "batch_size": 1, "gradient_accumulation_steps": 1, "log_every": 1, "num_workers": 0,
        "eval_every": 1, "save_every": 1, "seed": 0,
    }  # fmt: skip
    precisions: ClassVar[tuple[str, ...]] = ("auto", "fp32", "bf16")

    @property
    def columns(self) -> dict[str, Any]:
        """Arguments of `load_episodes` for a recording whose columns have other names."""
        return {name: getattr(self, name) for name in COLUMN_KEYS if getattr(self, name) not in (None, [])}

    def __post_init__(self) -> None:
        make_plain(self)
        for name in self.needed:
            if not getattr(self, name):
                raise ValueError(f"the recipe gives no {name}: add `{name}: ...` to it, or --{name} to the command")
        if self.streaming:
            raise ValueError(
                "streaming=True is not supported: windows are drawn from all over a data set, in an order that a "
                "resumed run repeats to the bit, and a stream has no such order; omit it: a Hub data set is "
                "downloaded once, to where HF_HOME says, and frames are decoded when they are used"
            )
        for name, least in self.least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if math.isinf(self.learning_rate):
            raise ValueError(f"learning_rate={self.learning_rate} must be finite")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay={self.weight_decay} must not be negative")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"warmup_fraction={self.warmup_fraction} must lie in [0, 1)")
        for name, choices in {
            "precision": self.precisions, "tracker": (*TRACKERS, "none"), "frame_cache": (None, "none", *CACHES),
            "fit": (None, *FITS),
        }.items():  # fmt: skip
            if getattr(self, name) not in choices:
                known = ", ".join(choice for choice in choices if choice)
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: use one of {known}")
        if self.frame_cache == "none":  # what the command line can say against a recipe's
            self.frame_cache = None


@dataclass
class TrainingRecipe(RunRecipe):
    """Everything about a run but the model, whose fields are its configuration's. Defaults: the released recipe."""

    model_type: str = option("lewm", "which world model, such as lewm, pldm, dino_wm or goal_imitation")
    init_from: str | None = option(
        None, "checkpoint to start from, folder or Hub id: all weights that fit; its architecture is the default"
    )
    init_from_revision: str | None = option(None, "branch, tag or commit of a Hub checkpoint")
    freeze: list[str] = field(
        default_factory=list,
        metadata={"help": "parts that stay as they are, such as encoder: weights, dropout off, BatchNorm statistics"},
    )
    lr_factor: list[str] = field(
        default_factory=list, metadata={"help": "PART=NUMBER, multiplies a part's learning rate, such as encoder=0.1"}
    )

    moving_share: float = option(
        0.0, "share of the windows in which something moves, by moving_columns; 0 takes windows as they come"
    )
    moving_columns: list[int] = field(
        default_factory=list,
        metadata={"help": "entries of observation.state whose change from first to last frame counts as moving"},
    )
    moving_threshold: float = option(0.0, "their Euclidean distance above which something has moved")

    max_steps: int | None = option(
        None, "optimizer steps; warm-up and cosine span exactly these. Replaces schedule_epochs and stop_epoch"
    )
    schedule_epochs: float | None = option(
        None, "epochs that the learning rate is laid out for; all of them are run, unless stop_epoch says otherwise"
    )
    stop_epoch: float | None = option(
        None, "stop after so many epochs of schedule_epochs, without changing the schedule"
    )

    batch_size: int = option(
        128, "windows of one SIGReg statistic, all processes together; SIGReg's weight grows with it"
    )
    gradient_accumulation_steps: int = option(1, "batches per optimizer step; SIGReg stays one statistic per batch")
    learning_rate: float = option(5e-5, "peak of warm-up and cosine")
    seed: int = option(3072, "of initialization, window order, dropout and SIGReg directions")
    precision: str = option(
        "auto", "auto (bf16 where the hardware has it), fp32, bf16, or bf16_encoder: all else in fp32"
    )

    eval_pairs: int = option(20, "planning problems of an evaluation; 0 judges by prediction loss alone")
    eval_protocol: str = option("clean", "name or .yaml file of the protocol that they follow")
    eval_planner: str | None = option(None, "name or .yaml file of the planner; default: the protocol's")
    eval_overrides: list[str] = field(
        default_factory=list, metadata={"help": "field=value of protocol or planner, such as samples=200"}
    )
    eval_batches: int = option(8, "batches of the held-out prediction loss")
    recalibration_batches: int = option(32, "batches that BatchNorm is recalibrated with before judging and saving")

    least: ClassVar[dict[str, int]] = RunRecipe.least | {
        "batch_size": 2, "eval_pairs": 0, "eval_batches": 1, "recalibration_batches": 1,
    }  # fmt: skip
    precisions: ClassVar[tuple[str, ...]] = (*RunRecipe.precisions, "bf16_encoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.moving_share <= 1:
            raise ValueError(f"moving_share={self.moving_share} must lie in [0, 1]")
        if self.moving_share and not self.moving_columns:
            raise ValueError(f"moving_share={self.moving_share} needs moving_columns: the entries of observation.state")
        learning_rate_factors(self.lr_factor)


@cache
def model_fields(model_type: str) -> type:
    """The fields of a world model's configuration that a recipe may set, as `HfArgumentParser` understands them.

    Raises:
        ValueError: for an unknown `model_type`.
    """
    kind, _ = find_world_model(model_type)
    plain: dict[Any, Any] = {float | int: float, dict | None: str | None}  # a mapping is given as YAML
    common = {entry.name for entry in dataclasses.fields(PreTrainedConfig)} | {"num_channels", *MEASURED}
    fields, meanings = [], field_meanings(kind)
    for entry in dataclasses.fields(kind):
        if entry.name not in common:  # the data set decides about the last ones
            text = meanings.get(entry.name, f"field of {kind.__name__}")
            described = option(getattr(kind, entry.name), text.replace("%", "%%"))
            fields.append((entry.name, plain.get(entry.type, entry.type), described))
    return dataclasses.make_dataclass("ModelFields", fields)


def known_keys(model_type: str) -> list[str]:
    """What a recipe for this kind of model may say."""
    return field_names(TrainingRecipe, model_fields(model_type))


def read_recipe(name: str | Path) -> dict[str, Any]:
    """The keys of a YAML recipe, checked against the known ones; see `find_recipe` and `read_yaml`.

    Raises:
        FileNotFoundError, ValueError: one line, naming the file and the key.
    """
    return read_yaml(find_recipe(name), known_keys(_model_type([str(name)])))


def _model_type(argv: Sequence[str]) -> str:
    return peek(argv, "model_type") or TrainingRecipe.model_type


def _begun_with(argv: Sequence[str]) -> dict[str, Any]:
    """What a recipe that starts from a checkpoint says of the model where it says nothing: the checkpoint's fields.

    A run that is resumed has noted them down; the checkpoint need not be there any more.
    """
    source, folder = peek(argv, "init_from"), peek(argv, "output_dir")
    if not source:
        return {}
    begun = Path(folder) / "recipe.yaml" if folder else None
    if begun is not None and begun.is_file():
        config = read_keys(begun)
        model_type = config.get("model_type", TrainingRecipe.model_type)
    else:
        config = checkpoint_config(source, peek(argv, "init_from_revision")).to_dict()
        model_type = config["model_type"]
    if (asked := peek(argv, "model_type")) not in (None, model_type):
        raise ValueError(
            f"init_from={source} is of another architecture: model_type={asked!r} here, {model_type!r} there; give a "
            "checkpoint of this one, or omit model_type"
        )
    names = field_names(model_fields(model_type))
    return {"model_type": model_type} | {name: config[name] for name in names if name in config}


def parse_recipe(argv: Sequence[str]) -> tuple[TrainingRecipe, PreTrainedConfig]:
    """`[recipe.yaml] [--key value ...]` -> recipe and model; the command line wins over the file.

    With `init_from`, fields of the model that neither mentions are the checkpoint's.

    Raises:
        FileNotFoundError, ValueError: one line, naming the key, the value and what was expected.
    """
    begun = _begun_with(argv)
    model_type = begun.get("model_type") or _model_type(argv)
    kind, model = find_world_model(model_type)
    recipe, fields = parse(argv, TrainingRecipe, model_fields(model_type), defaults=begun)
    if recipe.max_steps is not None:
        replaced = {name: getattr(recipe, name) for name in ("schedule_epochs", "stop_epoch")}
        refuse_replaced(argv, replaced, "max_steps", recipe.max_steps)
    mappings = [entry.name for entry in dataclasses.fields(kind) if entry.type == dict | None]
    try:
        config = kind(**vars(fields) | {name: _mapping(name, getattr(fields, name)) for name in mappings})
        with torch.device("meta"):
            outline = model(config)  # refuses what it cannot build
        check_parts(outline, recipe.freeze, recipe.lr_factor)
        if recipe.precision == "bf16_encoder" and not hasattr(outline, "encoder"):
            raise ValueError(
                f"precision=bf16_encoder needs a part called encoder, which {type(outline).__name__} has not: use "
                "auto, fp32 or bf16"
            )
        return recipe, config
    except StrictDataclassError as error:
        raise ValueError(f"the recipe describes no model: {strict_reason(error)}") from error


def _mapping(name: str, text: str | None) -> dict | None:
    try:
        value = None if text is None else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name}={text!r} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict | None):
        raise ValueError(f"{name}={text!r} must be a mapping such as {{maps: 32}}")
    return value


def recipe_values(recipe: TrainingRecipe, config: PreTrainedConfig) -> dict[str, Any]:
    """Both as one flat dictionary, the keys of a recipe file."""
    return dataclasses.asdict(recipe) | {
        name: getattr(config, name) for name in field_names(model_fields(recipe.model_type))
    }


def recipe_defaults(model_type: str) -> dict[str, Any]:
    """What every key stands for where nothing is said about it."""
    return defaults_of(TrainingRecipe, model_fields(model_type))


def defaults_of(*classes: type) -> dict[str, Any]:
    return {
        entry.name: entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
        for part in classes
        for entry in dataclasses.fields(part)
    }
