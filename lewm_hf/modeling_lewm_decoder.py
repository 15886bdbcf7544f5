"""A decoder for LeWM's embeddings: for people to look at, trained afterwards on a frozen model.

LeWM itself is never trained with pixels (paper, table 7: a pixel loss hurts planning). The decoder reads the projected
embedding, because that is what a rollout yields. Shapes: D embedding, P patches, W hidden size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .configuration_lewm_decoder import LeWMDecoderConfig
from .pretrained_lewm import LeWMPreTrainedModel


@dataclass
class LeWMDecoderOutput(ModelOutput):
    """Args:
    loss: scalar mean squared error over all pixels, where `labels` were given.
    pixels: `(..., 3, H, W)` in units of [0, 1], not clipped.
    hidden_states: with `output_hidden_states=True`, the patch queries and what leaves each layer, `(N, P, W)` each.
    """

    loss: Tensor | None = None
    pixels: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class LeWMDecoderLayer(nn.Module):
    """Cross-attention from the patch queries to the embedding, then an MLP; both residual, with LayerNorm before."""

    def __init__(self, config: LeWMDecoderConfig):
        super().__init__()
        width = config.hidden_size
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.mlp_size)
        self.fc2 = nn.Linear(config.mlp_size, width)

    def forward(self, hidden: Tensor, latent: Tensor) -> Tensor:
        """`(N, P, W)` queries and `(N, latent tokens, W)` -> `(N, P, W)`."""
        query = self.query(self.norm1(hidden)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(latent).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        hidden = hidden + self.out(attended)
        return hidden + self.fc2(F.gelu(self.fc1(self.norm2(hidden))))


class LeWMPixelHead(nn.Linear):
    """A type of its own for zero weights: from the first step on the decoder only adds to the background. Random
    pixels would take most of the training to unlearn, because what moves in a scene is small."""


class LeWMBackground(nn.Module):
    """A picture that is always there, so that embeddings only have to tell what differs from it."""

    def __init__(self, config: LeWMDecoderConfig):
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(config.num_channels, config.image_size, config.image_size))


class LeWMPatchQueries(nn.Module):
    """One learned vector per patch."""

    def __init__(self, config: LeWMDecoderConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, config.num_patches, config.hidden_size))


class LeWMDecoder(LeWMPreTrainedModel):
    """Embeddings `(..., D)` -> pictures `(..., 3, H, W)`.

    Args:
        config: sizes; see `LeWMDecoderConfig`.
    """

    config: LeWMDecoderConfig
    config_class = LeWMDecoderConfig
    base_model_prefix = "decoder"
    main_input_name = "embeddings"
    input_modalities = ("time",)
    supports_gradient_checkpointing = False
    _no_split_modules = ["LeWMDecoderLayer"]
    _can_record_outputs = {"hidden_states": LeWMDecoderLayer}
    _keep_in_fp32_modules_strict = []
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False

    def __init__(self, config: LeWMDecoderConfig):
        super().__init__(config)
        self.latent = nn.Linear(config.embed_dim, config.latent_tokens * config.hidden_size)
        self.latent_norm = nn.LayerNorm(config.hidden_size)
        self.queries = LeWMPatchQueries(config)
        self.layers = nn.ModuleList(LeWMDecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.pixels = LeWMPixelHead(config.hidden_size, config.num_channels * config.patch_size**2)
        self.background = LeWMBackground(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LeWMPatchQueries):
            init.normal_(module.weight)  # patches start out as different as embeddings are
        elif isinstance(module, LeWMBackground):
            init.constant_(module.pixels, 0.5)
        elif isinstance(module, LeWMPixelHead):
            init.zeros_(module.weight)
            init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """What makes tokens of an embedding."""
        return self.latent

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces what `get_input_embeddings` returns."""
        self.latent = value

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, embeddings: Tensor, labels: Tensor | None = None, output_hidden_states: bool | None = None
    ) -> LeWMDecoderOutput:
        """Decodes embeddings, each by itself.

        Args:
            embeddings: `(..., D)` projected embeddings: `LeWMModel.encode`, `predict` or `rollout`.
            labels: `(..., 3, H, W)` pictures in [0, 1] to compare with.
            output_hidden_states: also return the patch queries on their way.

        Raises:
            ValueError: on embeddings of another size, or labels of another shape than the pictures.
        """
        config = self.config
        if embeddings.dim() < 1 or embeddings.shape[-1] != config.embed_dim:
            raise ValueError(
                f"embeddings of shape {tuple(embeddings.shape)} do not fit: expected (..., {config.embed_dim}); the "
                "decoder belongs to another world model"
            )
        flat = embeddings.reshape(-1, config.embed_dim).to(self.latent.bias.dtype)
        latent = self.latent_norm(self.latent(flat).unflatten(-1, (config.latent_tokens, -1)))
        hidden = self.queries.weight.expand(len(flat), -1, -1)
        for layer in self.layers:
            hidden = layer(hidden, latent)
        side, patch = config.image_size // config.patch_size, config.patch_size
        patches = self.pixels(self.norm(hidden)).view(-1, side, side, config.num_channels, patch, patch)
        shape = (*embeddings.shape[:-1], *self.background.pixels.shape)
        pixels = patches.permute(0, 3, 1, 4, 2, 5).reshape(shape) + self.background.pixels
        loss = None
        if labels is not None:
            if labels.shape != pixels.shape:
                raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit: expected {tuple(pixels.shape)}")
            loss = F.mse_loss(pixels.float(), labels.float())
        return LeWMDecoderOutput(loss, pixels)

    @torch.no_grad()
    def pictures(self, embeddings: Tensor) -> Tensor:
        """Embeddings `(..., D)` -> uint8 pictures `(..., H, W, 3)` on the same device."""
        pixels = self(embeddings).pixels.float()
        return (pixels * 255).round_().clamp_(0, 255).to(torch.uint8).movedim(-3, -1)
