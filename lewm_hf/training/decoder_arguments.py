"""A recipe for training a decoder: a documented dataclass, filled from a YAML file and the command line."""

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser

from ..configuration_lewm_decoder import LeWMDecoderConfig
from .arguments import FRAME_CACHES, PRECISIONS
from .trackers import TRACKERS


def _option(default, text: str, **metadata):
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class DecoderRecipe:
    """Everything about the training of a decoder. What the world model decides is read from its config."""

    model: str = _option("", "folder or Hub id of the frozen world model")
    model_revision: str | None = _option(None, "branch, tag or commit of a Hub model")
    dataset: str = _option("", "directory or Hub id of the episodes")
    dataset_revision: str | None = _option(None, "branch, tag or commit of a Hub data set")
    frame_cache: str | None = _option(None, "none, ram or memmap: decode every frame once and keep it")
    output_dir: str = _option("", "folder of the run: metrics.jsonl, last/, best/, state/; must be new unless --resume")
    resume: bool = _option(False, "continue the run in output_dir exactly where it stopped")

    patch_size: int = _option(16, "side of the square that one query paints")
    hidden_size: int = _option(256, "width of the decoder")
    layers: int = _option(4, "cross-attention layers")
    heads: int = _option(4, "attention heads")
    mlp_size: int = _option(1024, "hidden width of the MLPs")
    latent_tokens: int = _option(8, "tokens that an embedding is unfolded into; 1 is the paper's form")

    max_steps: int = _option(20_000, "optimizer steps")
    batch_size: int = _option(128, "frames per step, all processes together")
    learning_rate: float = _option(1e-3, "peak of warm-up and cosine")
    warmup_fraction: float = _option(0.02, "share of the steps spent in linear warm-up")
    weight_decay: float = _option(1e-3, "AdamW, on all parameters")
    max_grad_norm: float = _option(1.0, "gradient clipping, global norm")
    seed: int = _option(3072, "of initialization and frame order")

    precision: str = _option("auto", "auto (bf16 where the hardware has it), fp32 or bf16", choices=PRECISIONS)
    num_workers: int = _option(4, "loader processes per training process; 0 decodes in the training process")
    log_every: int = _option(50, "steps between two records of metrics.jsonl and the tracker")
    eval_every: int | None = _option(None, "steps between two evaluations; without it only the end is evaluated")
    save_every: int = _option(1000, "steps between two saved states; also saved before every evaluation")
    eval_frames: int = _option(512, "held-out frames of an evaluation")
    background_frames: int = _option(1024, "training frames whose mean is the picture that the decoder starts from")
    tracker: str = _option("tensorboard", "where metrics go besides metrics.jsonl", choices=(*TRACKERS, "none"))

    def __post_init__(self):
        if self.frame_cache not in (None, *FRAME_CACHES):
            raise ValueError(f"frame_cache={self.frame_cache!r} is unknown: use one of {', '.join(FRAME_CACHES)}")
        if self.frame_cache == "none":  # what the command line can say against a recipe's
            self.frame_cache = None
        for name in ("model", "dataset", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"the recipe gives no {name}: add `{name}: ...` to it, or --{name} to the command")
        for name, least in {
            "max_steps": 1, "batch_size": 1, "log_every": 1, "eval_every": 1, "save_every": 1, "eval_frames": 1,
            "background_frames": 1, "num_workers": 0, "seed": 0,
        }.items():  # fmt: skip
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
        for name, choices in (("precision", PRECISIONS), ("tracker", (*TRACKERS, "none"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: use one of {', '.join(choices)}")

    def config(self, world_model_config, fingerprint: str) -> LeWMDecoderConfig:
        """The decoder that belongs to a world model.

        Raises:
            ValueError: one line, where the sizes do not fit each other or the model's pictures.
        """
        sizes = ("patch_size", "hidden_size", "layers", "heads", "mlp_size", "latent_tokens")
        try:
            return LeWMDecoderConfig(
                embed_dim=world_model_config.embed_dim,
                image_size=world_model_config.image_size,
                world_model_fingerprint=fingerprint,
                **{name: getattr(self, name) for name in sizes},
            )
        except StrictDataclassError as error:
            reason = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
            raise ValueError(f"the recipe describes no decoder: {reason}") from None


class _Parser(HfArgumentParser):
    def error(self, message: str):
        raise ValueError(f"the command line is wrong: {message}")


def parse_decoder_recipe(argv: Sequence[str]) -> DecoderRecipe:
    """`[recipe.yaml] [--key value ...]`; the command line wins over the file.

    Raises:
        FileNotFoundError, ValueError: one line, naming the key, the value and what was expected.
    """
    argv = list(argv)
    path = argv.pop(0) if argv and not argv[0].startswith("-") else None
    keys = {} if path is None else _read(Path(path))
    _refuse_unknown(keys, str(path))
    given = [argument[2:].split("=")[0].replace("-", "_") for argument in argv if argument.startswith("--")]
    _refuse_unknown([name for name in given if name not in ("no_resume", "help")], "the command line")
    # Through the command line, so that YAML's `1e-3`, a string to it, is read as the number it is meant to be.
    from_file = [text for key, value in keys.items() if value is not None for text in (f"--{key}", str(value))]
    recipe, unread = _Parser(DecoderRecipe, allow_abbrev=False).parse_args_into_dataclasses(
        from_file + argv, look_for_args_file=False, return_remaining_strings=True
    )
    if unread:
        raise ValueError(f"cannot place {' '.join(unread)!r} of the command line: give [recipe.yaml] [--key value ...]")
    return recipe


def _read(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {path}: give training/recipes/decoder.yaml or one like it")
    try:
        keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ValueError(f"{path}, line {line}, is no YAML: write one `key: value` per line") from None
    if not isinstance(keys, dict):
        raise ValueError(f"{path} holds no `key: value` lines: see training/recipes/ for examples")
    return keys


def _refuse_unknown(keys, where: str) -> None:
    known = [entry.name for entry in dataclasses.fields(DecoderRecipe)]
    for key in keys:
        if key not in known:
            closest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown recipe key {key!r} in {where}: the closest known key is {closest!r}")
