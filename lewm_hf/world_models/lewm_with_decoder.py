"""LeWM trained with a pixel loss beside its own: the ablation of the paper's table 7, where it costs ten points.

The decoder is the one that people look through (`modeling_lewm_decoder.py`), but here its gradient reaches the encoder.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor

from ..configuration_lewm import LeWMConfig
from ..configuration_lewm_decoder import LeWMDecoderConfig
from ..modeling_lewm import LeWMModel, LeWMOutput
from ..modeling_lewm_decoder import LeWMDecoder
from ..plain_numbers import plain_fields


@plain_fields
@strict
class LeWMWithDecoderConfig(LeWMConfig):
    """`LeWMConfig` and a decoder.

    Args:
        decoder_weight: of the pixel loss, on normalized pixels.
        decoder_patch_size, decoder_hidden_size, decoder_layers, decoder_heads, decoder_mlp_size, decoder_latent_tokens:
            see `LeWMDecoderConfig`.
    """

    model_type = "lewm_with_decoder"

    decoder_weight: float | int = 1.0
    decoder_patch_size: int = 16
    decoder_hidden_size: int = 256
    decoder_layers: int = 4
    decoder_heads: int = 4
    decoder_mlp_size: int = 1024
    decoder_latent_tokens: int = 8

    def decoder_config(self) -> LeWMDecoderConfig:
        """The decoder's own configuration."""
        names = ("patch_size", "hidden_size", "layers", "heads", "mlp_size", "latent_tokens")
        sizes = {name: getattr(self, f"decoder_{name}") for name in names}
        return LeWMDecoderConfig(
            embed_dim=self.embed_dim, image_size=self.image_size, num_channels=self.num_channels, **sizes
        )

    def validate_decoder(self) -> None:
        """Refuses a weight below 0 and sizes of the decoder that do not divide each other.

        Raises:
            ValueError: one line that names the value.
        """
        if not 0 <= self.decoder_weight < float("inf"):
            raise ValueError(f"decoder_weight={self.decoder_weight} must be a finite number of at least 0")
        for whole, part in (("image_size", "decoder_patch_size"), ("decoder_hidden_size", "decoder_heads")):
            if getattr(self, part) < 1 or getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole}={getattr(self, whole)} is not a multiple of {part}={getattr(self, part)}: change one of "
                    "them"
                )


@dataclass
class LeWMWithDecoderOutput(LeWMOutput):
    """`LeWMOutput`, and `pixel_loss`: scalar, mean squared error of the decoded frames in normalized units."""

    pixel_loss: Tensor | None = None


class LeWMWithDecoderModel(LeWMModel):
    """LeWM and a decoder of its embeddings, trained together.

    Args:
        config: sizes and weights of the losses; see `LeWMWithDecoderConfig`.
    """

    config: LeWMWithDecoderConfig
    config_class = LeWMWithDecoderConfig
    method = ("LeWorldModel with a pixel loss", "https://arxiv.org/abs/2603.19312")
    output_class = LeWMWithDecoderOutput

    def __init__(self, config: LeWMWithDecoderConfig):
        super().__init__(config)
        self.pixel_decoder = LeWMDecoder(config.decoder_config())
        self.post_init()

    def forward(self, pixel_values: Tensor, actions: Tensor | None = None, *args: Any, **kwargs: Any) -> LeWMOutput:
        """See `LeWMModel.forward`; the pixel loss is added to its loss."""
        output = super().forward(pixel_values, actions, *args, **kwargs)
        if output.loss is not None:
            pixels = self.pixel_decoder(output.embeddings).pixels
            with torch.autocast(pixels.device.type, enabled=False):
                output["pixel_loss"] = F.mse_loss(pixels.float(), pixel_values.float())
                output["loss"] = output.loss + self.config.decoder_weight * output.pixel_loss
        return output
