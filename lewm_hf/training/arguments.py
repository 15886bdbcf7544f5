"""A training recipe: a documented dataclass, filled from a YAML file and the command line."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError

from ..configuration_lewm import LeWMConfig
from ..data.cache import CACHES
from ..modeling_lewm import build_encoder
from .recipe_files import field_names, find_recipe, parse, read_yaml
from .trackers import TRACKERS

MEASURED = ("action_mean", "action_std", "action_statistics_source", "action_low", "action_high")


def option(default: Any, text: str, **metadata: Any) -> Any:
    """A field of a recipe, with what `--help` says about it."""
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class RunRecipe:
    """What every training has: data, folder, length, optimizer, machine, and when to log, save and evaluate."""

    dataset: str = option("", "directory or Hub id of the episodes")
    dataset_revision: str | None = option(None, "branch, tag or commit of a Hub data set")
    frame_cache: str | None = option(
        None, "ram or memmap: decode every frame once and keep it; none: frames are decoded when used"
    )
    output_dir: str = option("", "folder of the run: metrics.jsonl, last/, best/, state/; must be new unless --resume")
    resume: bool = option(False, "continue the run in output_dir exactly where it stopped")

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

    def __post_init__(self):
        for name in self.needed:
            if not getattr(self, name):
                raise ValueError(f"the recipe gives no {name}: add `{name}: ...` to it, or --{name} to the command")
        for name, least in self.least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay={self.weight_decay} must not be negative")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"warmup_fraction={self.warmup_fraction} must lie in [0, 1)")
        for name, choices in {
            "precision": self.precisions, "tracker": (*TRACKERS, "none"), "frame_cache": (None, "none", *CACHES)
        }.items():  # fmt: skip
            if getattr(self, name) not in choices:
                known = ", ".join(choice for choice in choices if choice)
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: use one of {known}")
        if self.frame_cache == "none":  # what the command line can say against a recipe's
            self.frame_cache = None


@dataclass
class TrainingRecipe(RunRecipe):
    """Everything about a run but the model, whose fields are those of `LeWMConfig`. Defaults: the released recipe."""

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
    schedule_epochs: float | None = option(None, "epochs that the learning rate is laid out for; run in full unless")
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

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.moving_share <= 1:
            raise ValueError(f"moving_share={self.moving_share} must lie in [0, 1]")
        if self.moving_share and not self.moving_columns:
            raise ValueError(f"moving_share={self.moving_share} needs moving_columns: the entries of observation.state")


def _model_fields() -> type:
    """The fields of `LeWMConfig` that a recipe may set, as a dataclass that `HfArgumentParser` understands."""
    plain = {float | int: float, dict | None: str | None}  # a mapping is given as YAML
    fields = []
    for name, annotation in LeWMConfig.__annotations__.items():
        if name == "num_channels" or name in MEASURED:  # the data set decides
            continue
        default = getattr(LeWMConfig, name)
        fields.append((name, plain.get(annotation, annotation), option(default, "field of LeWMConfig")))
    return dataclasses.make_dataclass("ModelFields", fields)


ModelFields = _model_fields()


def one_line(error: Exception) -> str:
    """Strict dataclasses wrap the cause in a multi-line report; the cause alone says what is wrong."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ").removeprefix("TypeError: ")


def read_recipe(name: str | Path) -> dict[str, Any]:
    """The keys of a YAML recipe, checked against the known ones; see `find_recipe` and `read_yaml`.

    Raises:
        FileNotFoundError, ValueError: one line, naming the file and the key.
    """
    return read_yaml(find_recipe(name), field_names(TrainingRecipe, ModelFields))


def parse_recipe(argv: Sequence[str]) -> tuple[TrainingRecipe, LeWMConfig]:
    """`[recipe.yaml] [--key value ...]` -> recipe and model; the command line wins over the file.

    Raises:
        FileNotFoundError, ValueError: one line, naming the key, the value and what was expected.
    """
    recipe, fields = parse(argv, TrainingRecipe, ModelFields)
    try:
        values = vars(fields) | {"encoder_kwargs": _mapping("encoder_kwargs", fields.encoder_kwargs)}
        config = LeWMConfig(**values)
        with torch.device("meta"):
            build_encoder(config)  # refuses what it cannot build
        return recipe, config
    except StrictDataclassError as error:
        raise ValueError(f"the recipe describes no model: {one_line(error)}") from None


def _mapping(name: str, text: str | None) -> dict | None:
    try:
        value = None if text is None else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name}={text!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict | None):
        raise ValueError(f"{name}={text!r} must be a mapping such as {{maps: 32}}")
    return value


def recipe_values(recipe: TrainingRecipe, config: LeWMConfig) -> dict:
    """Both as one flat dictionary, the keys of a recipe file."""
    return dataclasses.asdict(recipe) | {f.name: getattr(config, f.name) for f in dataclasses.fields(ModelFields)}


def recipe_defaults() -> dict[str, Any]:
    """What every key stands for where nothing is said about it."""
    return defaults_of(TrainingRecipe, ModelFields)


def defaults_of(*classes: type) -> dict[str, Any]:
    return {
        entry.name: entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
        for part in classes
        for entry in dataclasses.fields(part)
    }
