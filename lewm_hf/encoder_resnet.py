"""ResNet-18 (He et al. 2016, arXiv 1512.03385): the encoder ablation of the paper."""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

if TYPE_CHECKING:
    from .configuration_lewm import LeWMConfig


class LeWMResNet(nn.Module):
    """ResNet-18 (transformers): `(N, 3, H, W) -> (N, 512)`; the paper's encoder ablation."""

    output_size = 512

    def __init__(self, config: "LeWMConfig"):
        super().__init__()
        self.resnet = ResNetModel(
            ResNetConfig(
                num_channels=config.num_channels,
                embedding_size=64,
                hidden_sizes=[64, 128, 256, 512],
                depths=[2, 2, 2, 2],
                layer_type="basic",
            )
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.resnet(pixel_values).pooler_output.flatten(1)
