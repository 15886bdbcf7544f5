"""A training recipe: a documented dataclass, filled from a YAML file and the command line."""

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser

from ..configuration_lewm import LeWMConfig
from ..data.cache import CACHES
from ..modeling_lewm import build_encoder
from .trackers import TRACKERS

MEASURED = ("action_mean", "action_std", "action_statistics_source", "action_low", "action_high")
FRAME_CACHES = ("none", *CACHES)
PRECISIONS = ("auto", "fp32", "bf16", "bf16_encoder")


def _option(default, text: str, **metadata):
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class TrainingRecipe:
    """Everything about a run but the model, whose fields are those of `LeWMConfig`. Defaults: the released recipe."""

    dataset: str = _option("", "directory or Hub id of the episodes")
    dataset_revision: str | None = _option(None, "branch, tag or commit of a Hub data set")
    frame_cache: str | None = _option(
        None, "ram or memmap: decode every frame once and keep it; none: frames are decoded when used"
    )
    output_dir: str = _option("", "folder of the run: metrics.jsonl, last/, best/, state/; must be new unless --resume")
    resume: bool = _option(False, "continue the run in output_dir exactly where it stopped")

    moving_share: float = _option(
        0.0, "share of the windows in which something moves, by moving_columns; 0 takes windows as they come"
    )
    moving_columns: list[int] = field(
        default_factory=list,
        metadata={"help": "entries of observation.state whose change from first to last frame counts as moving"},
    )
    moving_threshold: float = _option(0.0, "their Euclidean distance above which something has moved")

    max_steps: int | None = _option(
        None, "optimizer steps; warm-up and cosine span exactly these. Replaces schedule_epochs and stop_epoch"
    )
    schedule_epochs: float | None = _option(None, "epochs that the learning rate is laid out for; run in full unless")
    stop_epoch: float | None = _option(
        None, "stop after so many epochs of schedule_epochs, without changing the schedule"
    )

    batch_size: int = _option(
        128, "windows of one SIGReg statistic, all processes together; SIGReg's weight grows with it"
    )
    gradient_accumulation_steps: int = _option(1, "batches per optimizer step; SIGReg stays one statistic per batch")
    learning_rate: float = _option(5e-5, "peak of warm-up and cosine")
    warmup_fraction: float = _option(0.01, "share of the schedule spent in linear warm-up")
    weight_decay: float = _option(1e-3, "AdamW, on all parameters")
    max_grad_norm: float = _option(1.0, "gradient clipping, global norm")
    seed: int = _option(3072, "of initialization, window order, dropout and SIGReg directions")

    precision: str = _option(
        "auto", "auto (bf16 where the hardware has it), fp32, bf16, or bf16_encoder: all else in fp32",
        choices=PRECISIONS,
    )  # fmt: skip
    compile: bool = _option(False, "torch.compile the model")
    num_workers: int = _option(4, "loader processes per training process; 0 decodes in the training process")

    log_every: int = _option(10, "steps between two records of metrics.jsonl and the tracker")
    eval_every: int | None = _option(None, "steps between two evaluations; without it only the end is evaluated")
    save_every: int = _option(1000, "steps between two saved states; also saved before every evaluation")
    eval_pairs: int = _option(20, "planning problems of an evaluation; 0 judges by prediction loss alone")
    eval_protocol: str = _option("clean", "name or .yaml file of the protocol that they follow")
    eval_planner: str | None = _option(None, "name or .yaml file of the planner; default: the protocol's")
    eval_overrides: list[str] = field(
        default_factory=list, metadata={"help": "field=value of protocol or planner, such as samples=200"}
    )
    eval_batches: int = _option(8, "batches of the held-out prediction loss")
    recalibration_batches: int = _option(32, "batches that BatchNorm is recalibrated with before judging and saving")
    tracker: str = _option("tensorboard", "where metrics go besides metrics.jsonl", choices=(*TRACKERS, "none"))

    def __post_init__(self):
        if self.frame_cache not in (None, *FRAME_CACHES):
            raise ValueError(f"frame_cache={self.frame_cache!r} is unknown: use one of {', '.join(FRAME_CACHES)}")
        if self.frame_cache == "none":  # what the command line can say against a recipe's
            self.frame_cache = None
        for name in ("dataset", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"the recipe gives no {name}: add `{name}: ...` to it, or --{name} to the command")
        for name, least in {
            "batch_size": 2, "gradient_accumulation_steps": 1, "log_every": 1, "num_workers": 0, "eval_pairs": 0,
            "eval_batches": 1, "recalibration_batches": 1, "eval_every": 1, "save_every": 1, "seed": 0,
        }.items():  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        if not 0 <= self.moving_share <= 1:
            raise ValueError(f"moving_share={self.moving_share} must lie in [0, 1]")
        if self.moving_share and not self.moving_columns:
            raise ValueError(f"moving_share={self.moving_share} needs moving_columns: the entries of observation.state")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay={self.weight_decay} must not be negative")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"warmup_fraction={self.warmup_fraction} must lie in [0, 1)")
        for name, choices in (("precision", PRECISIONS), ("tracker", (*TRACKERS, "none"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: use one of {', '.join(choices)}")


def _model_fields() -> type:
    """The fields of `LeWMConfig` that a recipe may set, as a dataclass that `HfArgumentParser` understands."""
    plain = {float | int: float, dict | None: str | None}  # a mapping is given as YAML
    fields = []
    for name, annotation in LeWMConfig.__annotations__.items():
        if name == "num_channels" or name in MEASURED:  # the data set decides
            continue
        default = getattr(LeWMConfig, name)
        fields.append((name, plain.get(annotation, annotation), _option(default, "field of LeWMConfig")))
    return dataclasses.make_dataclass("ModelFields", fields)


ModelFields = _model_fields()


class _Parser(HfArgumentParser):
    def error(self, message: str):
        raise ValueError(f"the command line is wrong: {message}")


def _one_line(error: Exception) -> str:
    """Strict dataclasses wrap the cause in a multi-line report; the cause alone says what is wrong."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ").removeprefix("TypeError: ")


def known_keys() -> list[str]:
    return [f.name for part in (TrainingRecipe, ModelFields) for f in dataclasses.fields(part)]


def _refuse_unknown(keys: Sequence[str], where: str):
    known = known_keys()
    for key in keys:
        if key not in known:
            closest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown recipe key {key!r} in {where}: the closest known key is {closest!r}")


def read_recipe(path: str | Path) -> dict:
    """The keys of a YAML recipe, checked against the known ones.

    Raises:
        FileNotFoundError, ValueError: one line, naming the file and the key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no recipe {path}: give one of training/recipes/*.yaml") from None
    try:
        keys = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ValueError(f"{path}, line {line}, is no YAML: write one `key: value` per line") from None
    if not isinstance(keys, dict):
        raise ValueError(f"{path} holds no `key: value` lines: see training/recipes/ for examples")
    _refuse_unknown(list(keys), str(path))
    return keys


def parse_recipe(argv: Sequence[str]) -> tuple[TrainingRecipe, LeWMConfig]:
    """`[recipe.yaml] [--key value ...]` -> recipe and model; the command line wins over the file.

    Raises:
        FileNotFoundError, ValueError: one line, naming the key, the value and what was expected.
    """
    argv = list(argv)
    keys = read_recipe(argv.pop(0)) if argv and not argv[0].startswith("-") else {}
    for argument in argv:
        if argument.startswith("--"):
            name = argument[2:].split("=")[0].replace("-", "_")
            _refuse_unknown([] if name in ("no_resume", "no_compile", "help") else [name], "the command line")
    parser = _Parser((TrainingRecipe, ModelFields), allow_abbrev=False)
    # Through the command line, so that YAML's `5e-5`, a string to it, is read as the number it is meant to be.
    from_file = []
    for key, value in keys.items():
        texts = [str(text) for text in value] if isinstance(value, list) else [str(value)]
        from_file += [f"--{key}", *texts] if value not in (None, []) else []
    recipe, fields, unread = parser.parse_args_into_dataclasses(
        from_file + argv, look_for_args_file=False, return_remaining_strings=True
    )
    if unread:
        raise ValueError(f"cannot place {' '.join(unread)!r} of the command line: give [recipe.yaml] [--key value ...]")
    try:
        values = vars(fields) | {"encoder_kwargs": _mapping("encoder_kwargs", fields.encoder_kwargs)}
        config = LeWMConfig(**values)
        with torch.device("meta"):
            build_encoder(config)  # refuses what it cannot build
        return recipe, config
    except StrictDataclassError as error:
        raise ValueError(f"the recipe describes no model: {_one_line(error)}") from None


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
