"""Where things are: convolutions, then the mean place of each map (Levine et al. 2016, arXiv 1504.00702).

A flattened map or a patch token changes abruptly when a small thing crosses the border of a cell; the softmax-weighted
mean of its places moves with it from the first step of training on. On 64-pixel pictures of PushT an MLP reads the
block's angle off such features (R2 0.7 to 0.9), off those of a small ViT it does not (0.2).
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .encoder_convolutions import DEFAULT, channels_last, check_stride, initialize, stack
from .spatial_softmax import weighted_sums

if TYPE_CHECKING:
    from .configuration_lewm import LeWMConfig


class SpatialSoftmaxEncoder(nn.Module):
    """`(N, 3, H, W) -> (N, 3 * maps)`: mean x and mean y in [-1, 1] of each map, and its log-mean-exp.

    Args:
        image_size, num_channels: of the input.
        convolutions: `[channels, kernel, stride]` of each, before a last one of kernel 1 makes the maps.
        maps: feature points.
        rows: upper rows of the picture that are looked at, a multiple of the stride; default: all.
        sharpness: by how much the largest logit of a map exceeds its mean when training starts; see
            `initialize_from_data`.
    """

    def __init__(
        self,
        image_size: int,
        num_channels: int = 3,
        convolutions: Sequence[Sequence[int]] = DEFAULT,
        maps: int = 32,
        rows: int | None = None,
        sharpness: float = 6.0,
    ):
        super().__init__()
        stride = check_stride(convolutions, image_size)
        self.rows = image_size if rows is None else rows
        if self.rows % stride or not 0 < self.rows <= image_size:
            raise ValueError(
                f"rows={rows} must be a multiple of {stride}, the product of the strides, and at most "
                f"image_size={image_size}"
            )
        if not (isinstance(maps, int) and maps >= 1 and math.isfinite(sharpness) and sharpness > 0):
            raise ValueError(f"maps={maps} must be at least 1, and sharpness={sharpness} positive")
        self.layers = stack(num_channels, convolutions)
        self.to_maps = nn.Conv2d(convolutions[-1][0], maps, 1)
        self.log_temperature = nn.Parameter(torch.zeros(maps))
        self.sharpness, self.output_size = sharpness, 3 * maps

    @classmethod
    def from_config(cls, config: "LeWMConfig") -> "SpatialSoftmaxEncoder":
        return cls(config.image_size, config.num_channels, **(config.encoder_kwargs or {}))

    def initialize_weights(self) -> None:
        initialize(self)
        init.zeros_(self.log_temperature)

    @torch.no_grad()
    def initialize_from_data(self, pixel_values: Tensor) -> None:
        """Scales each map so that on `(N, 3, H, W)` frames its largest logit lies `sharpness` above its mean.

        Without it every softmax starts out flat, each mean lies in the middle of the picture, and hundreds of steps
        pass before the points move.
        """
        logits = self._logits(pixel_values).float().flatten(2)
        spread = (logits.amax(-1) - logits.mean(-1)).mean(0).clamp_min(1e-3)
        self.log_temperature.copy_((self.sharpness / spread).log())

    def _logits(self, pixel_values: Tensor) -> Tensor:
        pixels = channels_last(pixel_values[:, :, : self.rows].to(self.to_maps.weight.dtype))
        return self.to_maps(self.layers(pixels))

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits = self._logits(pixel_values)
        # In half precision neighboring places would share a mean.
        device = pixel_values.device.type  # "meta", where only shapes are asked for, knows no autocast
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            height, width = logits.shape[2:]
            y, x = (torch.linspace(-1, 1, size, device=logits.device) for size in (height, width))
            places = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones_like(x).repeat(height)])
            # Places before maps, as the convolutions left them: (N, H * W, maps).
            rows, scale = logits.movedim(1, 3).flatten(1, 2), self.log_temperature.float().exp()
            sums, largest = weighted_sums(rows, scale, places)
            x, y, total = sums.unbind(1)
            level = total.log() + largest - math.log(height * width)
            points = torch.cat([x / total, y / total, level], 1)
        return points.to(self.to_maps.weight.dtype)
