"""Strided convolutions, flattened: the encoder of deep Q-networks (Mnih et al. 2015)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .encoder_convolutions import DEFAULT, channels_last, check_stride, initialize, stack

if TYPE_CHECKING:
    from .configuration_lewm import LeWMConfig


class ConvEncoder(nn.Module):
    """`(N, 3, H, W) -> (N, channels * H / stride * W / stride)`.

    Args:
        image_size, num_channels: of the input.
        convolutions: `[channels, kernel, stride]` of each; their strides must divide the picture.
    """

    def __init__(self, image_size: int, num_channels: int = 3, convolutions: Sequence[Sequence[int]] = DEFAULT):
        super().__init__()
        stride = check_stride(convolutions, image_size)
        self.layers = stack(num_channels, convolutions)
        self.output_size = convolutions[-1][0] * (image_size // stride) ** 2

    @classmethod
    def from_config(cls, config: "LeWMConfig") -> "ConvEncoder":
        return cls(config.image_size, config.num_channels, **(config.encoder_kwargs or {}))

    def initialize_weights(self) -> None:
        initialize(self)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.layers(channels_last(pixel_values.to(self.layers[0].weight.dtype))).flatten(1)
