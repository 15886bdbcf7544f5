"""The paper's encoder: a vision transformer that gives its CLS token (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_lewm import attend
from .encoder_convolutions import check_stride, stack
from .plain_modules import is_plain

if TYPE_CHECKING:
    from .configuration_lewm import LeWMConfig


class LeWMEncoderAttention(nn.Module):
    is_causal = False

    def __init__(self, config: "LeWMConfig"):
        super().__init__()
        self.config = config
        self.heads = config.encoder_heads
        self.qkv = nn.Linear(config.encoder_hidden_size, 3 * config.encoder_hidden_size)
        self.out = nn.Linear(config.encoder_hidden_size, config.encoder_hidden_size)

    def forward(self, hidden: Tensor, first_only: bool = False) -> tuple[Tensor, Tensor | None]:
        if first_only:
            ours = [self.qkv.out_features // 3]
            (query_weight, weight), (query_bias, bias) = (
                x.tensor_split(ours) for x in (self.qkv.weight, self.qkv.bias)
            )
            query = F.linear(hidden[:, :1], query_weight, query_bias).unflatten(-1, (self.heads, -1))
            key, value = F.linear(hidden, weight, bias).unflatten(-1, (2, self.heads, -1)).unbind(2)
        else:
            query, key, value = self.qkv(hidden).unflatten(-1, (3, self.heads, -1)).unbind(2)
        attended, weights = attend(self, query, key, value)
        return self.out(attended), weights


class LeWMEncoderLayer(GradientCheckpointingLayer):
    def __init__(self, config: "LeWMConfig"):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.encoder_hidden_size, eps=1e-12)
        self.attention = LeWMEncoderAttention(config)
        self.norm2 = nn.LayerNorm(config.encoder_hidden_size, eps=1e-12)
        self.fc1 = nn.Linear(config.encoder_hidden_size, config.encoder_mlp_size)
        self.fc2 = nn.Linear(config.encoder_mlp_size, config.encoder_hidden_size)

    def forward(self, hidden: Tensor, first_only: bool = False) -> Tensor:
        """`(N, T, width)` -> the same, or with `first_only` what it gives for the first token, `(N, 1, width)`."""
        attended, _ = self.attention(self.norm1(hidden), first_only)
        hidden = hidden[:, :1] + attended if first_only else hidden + attended
        return hidden + self.fc2(F.gelu(self.fc1(self.norm2(hidden))))


LAYER_TYPES = (LeWMEncoderLayer, LeWMEncoderAttention, nn.Linear, nn.LayerNorm)


class LeWMPatchEmbedding(nn.Conv2d):
    """Patches that do not overlap, one linear map each: `(N, C, H, W) -> (N, width, H / size, W / size)`.

    Parameters and result are those of the convolution. As a matrix product it trains several times as fast: the
    convolution's gradient took a fifth of a small model's step on a CPU.
    """

    def __init__(self, channels: int, width: int, size: int):
        super().__init__(channels, width, size, stride=size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = pixel_values.unflatten(3, (-1, self.stride[1])).unflatten(2, (-1, self.stride[0]))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(patches, self.weight.flatten(1), self.bias).movedim(3, 1)


class LeWMVisionTransformer(nn.Module):
    """ViT whose output is the CLS token after the final LayerNorm: `(N, 3, H, W) -> (N, encoder_hidden_size)`.

    Of the last layer only what that token needs is computed, unless hooks or adapters have to see the others.

    Args:
        patch_embedding: `(N, 3, H, W) -> (N, encoder_hidden_size, H / patch_size, W / patch_size)`; default: one
            linear map per patch.
    """

    no_split_modules = ("LeWMEncoderLayer",)  # other encoders stay in one piece

    def __init__(self, config: "LeWMConfig", patch_embedding: nn.Module | None = None):
        super().__init__()
        width, patches = config.encoder_hidden_size, (config.image_size // config.patch_size) ** 2
        self.output_size = width
        self.patch_embedding = patch_embedding or LeWMPatchEmbedding(config.num_channels, width, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, patches + 1, width))
        self.layers = nn.ModuleList(LeWMEncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.patch_embedding(pixel_values.to(self.cls_token.dtype)).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1) + self.position_embedding
        for layer in self.layers[:-1]:
            hidden = layer(hidden)
        # Nobody asks for the other tokens, unless a hook records them or an adapter stands in between.
        alone = all(is_plain(module, LAYER_TYPES) for module in self.layers[-1].modules())
        return self.norm(self.layers[-1](hidden, alone)[:, 0])


def vit_with_convolutional_stem(config: "LeWMConfig") -> LeWMVisionTransformer:
    """The ViT behind strided convolutions instead of one linear map per patch (Xiao et al. 2021, arXiv 2106.14881).

    `encoder_kwargs={"convolutions": [[channels, kernel, stride], ...]}`, whose strides multiply to `patch_size`; by
    default kernels of 3 with stride 2 and widths that double up to half of `encoder_hidden_size`.
    """
    arguments = dict(config.encoder_kwargs or {})
    halvings = max(1, config.patch_size.bit_length() - 1)
    widths = [max(8, config.encoder_hidden_size >> (halvings - number)) for number in range(halvings)]
    convolutions = arguments.pop("convolutions", [[width, 3, 2] for width in widths])
    if arguments:
        raise ValueError(f"encoder_kwargs={arguments} are unknown to encoder='vit_conv_stem': it takes convolutions")
    stride = check_stride(convolutions, config.image_size)
    if stride != config.patch_size:
        raise ValueError(
            f"the strides of encoder='vit_conv_stem' multiply to {stride}, but patch_size={config.patch_size}: make "
            "them equal, with a power of two or convolutions of your own in encoder_kwargs"
        )
    last = nn.Conv2d(convolutions[-1][0], config.encoder_hidden_size, 1)
    return LeWMVisionTransformer(config, nn.Sequential(*stack(config.num_channels, convolutions), last))
