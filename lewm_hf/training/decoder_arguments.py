"""A recipe for training a decoder: a documented dataclass, filled from a YAML file and the command line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from huggingface_hub.errors import StrictDataclassError

from ..configuration_checks import strict_reason
from ..configuration_lewm_decoder import LeWMDecoderConfig
from ..world_models.base import latent_shape
from .arguments import RunRecipe, option
from .recipe_files import parse


@dataclass
class DecoderRecipe(RunRecipe):
    """Everything about the training of a decoder. What the world model decides is read from its config."""

    model: str = option("", "folder or Hub id of the frozen world model")
    model_revision: str | None = option(None, "branch, tag or commit of a Hub model")

    patch_size: int = option(16, "side of the square that one query paints")
    hidden_size: int = option(256, "width of the decoder")
    layers: int = option(4, "cross-attention layers")
    heads: int = option(4, "attention heads")
    mlp_size: int = option(1024, "hidden width of the MLPs")
    latent_tokens: int = option(8, "tokens that an embedding is unfolded into; 1 is the paper's form")

    max_steps: int = option(20_000, "optimizer steps")
    batch_size: int = option(128, "frames per batch, all processes together")
    warmup_fraction: float = option(0.02, "share of the steps spent in linear warm-up")
    log_every: int = option(50, "steps between two records of metrics.jsonl and the tracker")
    eval_frames: int = option(512, "held-out frames of an evaluation")
    background_frames: int = option(1024, "training frames whose mean is the picture that the decoder starts from")

    needed: ClassVar[tuple[str, ...]] = ("model", *RunRecipe.needed)
    least: ClassVar[dict[str, int]] = RunRecipe.least | {"eval_frames": 1, "background_frames": 1}

    def config(self, world_model: Any, fingerprint: str) -> LeWMDecoderConfig:
        """The decoder that belongs to a world model; latents of patches are decoded flattened.

        Raises:
            ValueError: one line, where the sizes do not fit each other or the model's pictures.
        """
        sizes = ("patch_size", "hidden_size", "layers", "heads", "mlp_size", "latent_tokens")
        try:
            return LeWMDecoderConfig(
                embed_dim=math.prod(latent_shape(world_model)),
                image_size=world_model.config.image_size,
                world_model_fingerprint=fingerprint,
                **{name: getattr(self, name) for name in sizes},
            )
        except StrictDataclassError as error:
            raise ValueError(f"the recipe describes no decoder: {strict_reason(error)}") from error


def parse_decoder_recipe(argv: Sequence[str]) -> DecoderRecipe:
    """`[recipe.yaml] [--key value ...]`; the command line wins over the file.

    Raises:
        FileNotFoundError, ValueError: one line, naming the key, the value and what was expected.
    """
    return parse(argv, DecoderRecipe)[0]
