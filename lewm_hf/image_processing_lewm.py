"""Pictures -> normalized tensors, in the order of the released code: scale, normalize, resize."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

from .pictures import FITS, rgb, square
from .plain_numbers import plain

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _to_tensor(image: Any) -> Tensor:
    """One picture, an array of pictures or nested lists of them -> `(..., height, width, 3)`, uint8 or float."""
    if isinstance(image, Sequence) and not isinstance(image, str):
        if not image:
            raise ValueError("got an empty list of images: give at least one")
        parts = [_to_tensor(part) for part in image]
        shapes = {tuple(part.shape) for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"images of one batch have different shapes {sorted(shapes)}: process them one by one")
        if len({part.is_floating_point() for part in parts}) > 1:  # stacked, whole numbers would be floats beyond 1
            raise ValueError("images of one batch are floats in [0, 1] and whole numbers to 255: give one kind")
        return torch.stack(parts)
    if isinstance(image, Image.Image):
        image = rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "fiu":
            raise ValueError(f"an image of dtype {image.dtype} has no colors: give uint8, or floats in [0, 1]")
        # PyTorch compares no unsigned integers but uint8, and takes no other machine's byte order.
        wanted = np.int64 if image.dtype.kind == "u" and image.itemsize > 1 else image.dtype.newbyteorder("=")
        image = torch.from_numpy(np.array(image, dtype=wanted, order="C"))
    if not isinstance(image, Tensor):
        raise ValueError(
            f"cannot read an image of type {type(image).__name__}: give PIL, numpy, torch or lists of these"
        )
    if image.dim() < 3:
        raise ValueError(f"an image of shape {tuple(image.shape)} has no channels: expected (..., height, width, 3)")
    if image.shape[-1] == 3:
        return image
    if image.shape[-3] == 3:
        return image.movedim(-3, -1)
    raise ValueError(f"an image of shape {tuple(image.shape)} does not have 3 channels (first or last): convert to RGB")


def _three(name: str, values: Any) -> list[float]:
    """One number for each channel.

    Raises:
        ValueError: one line for anything else.
    """
    numbers = [plain(value) for value in values] if isinstance(values, Sequence | np.ndarray | Tensor) else []
    if len(numbers) != 3 or not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError(f"{name}={values!r} must be three finite numbers, one for each channel")
    return [float(number) for number in numbers]


class LeWMImageProcessor(BaseImageProcessor):
    """Scales to [0, 1], normalizes with the ImageNet statistics, then resizes to `image_size` (bilinear, antialiased).

    Args:
        image_size: side of the square output in pixels; pictures of that size are not resampled.
        image_mean, image_std: per-channel statistics in units of [0, 1].
        fit: how the training pictures were made square, repeated on every picture that is not: `"crop"` takes the
            middle, `"pad"` adds black borders, `"stretch"` distorts. `None`, for training pictures that were square by
            themselves, refuses others.
        cameras: names of the cameras whose pictures the training pictures were made of, from left to right. Pictures
            are then given by camera, `{"top": ..., "wrist": ...}`, all of one size.

    Raises:
        ValueError: for another `fit`, fewer than two cameras, or numbers that no picture can be made with.
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        image_size: int = 224,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        fit: str | None = None,
        cameras: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if fit not in (None, *FITS):
            raise ValueError(f"fit={fit!r} is unknown: use None or one of {', '.join(FITS)}")
        # Plain numbers: NumPy's do not go into JSON.
        self.image_size = plain(image_size)
        if type(self.image_size) is not int or self.image_size < 1:
            raise ValueError(f"image_size={image_size!r} must be a whole number of pixels, at least 1")
        self.image_mean, self.image_std = _three("image_mean", image_mean), _three("image_std", image_std)
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std={self.image_std} must be positive")
        self.fit = fit
        if cameras is not None and len(set(cameras)) < 2:
            raise ValueError(f"cameras={list(cameras)} must be different names, two or more: one alone needs none")
        self.cameras = None if cameras is None else list(cameras)

    def normalize(self, frames: Tensor) -> Tensor:
        """Frames, uint8 `(..., height, width, 3)` or float in [0, 1] -> float32 `(..., 3, image_size, image_size)`.

        Runs on the device of `frames`: send uint8 there and normalize there, a quarter of the traffic. Frames that need
        no resizing keep their layout in memory, which is the one that convolutions want.
        """
        unit, width = 255.0 if frames.dtype == torch.uint8 else 1.0, frames.shape[-2]
        # Rows of pixels: three channels at a time would be three numbers at a time.
        mean = torch.tensor(self.image_mean, device=frames.device).mul_(unit).repeat(width)
        scale = torch.tensor(self.image_std, device=frames.device).mul_(unit).reciprocal_().repeat(width)
        rows = frames.flatten(-2).to(torch.float32, copy=True).sub_(mean).mul_(scale)
        pixels = rows.unflatten(-1, (width, -1)).movedim(-1, -3)
        if pixels.shape[-2:] == (self.image_size, self.image_size):
            return pixels
        batch = pixels.shape[:-3]
        resized = torch.nn.functional.interpolate(
            pixels.contiguous().view(-1, *pixels.shape[-3:]),
            size=(self.image_size, self.image_size),
            mode="bilinear",
            antialias=True,
        )
        return resized.view(*batch, *resized.shape[-3:])

    def preprocess(self, images: Any, return_tensors: str | None = "pt", **kwargs: Any) -> BatchFeature:
        """Any picture or nesting of pictures -> `pixel_values`.

        A single picture gives `(1, 3, S, S)`, a list of B pictures `(B, 3, S, S)`, a list of B videos of T frames
        `(B, T, 3, S, S)`; arrays keep their leading dimensions, channels may come first or last.

        Raises:
            ValueError: on other than 3 channels, mixed sizes, floats outside [0, 1], NaN, pictures that are not square
                although the training pictures were, or unknown arguments.
        """
        if kwargs:
            raise ValueError(f"unknown arguments {sorted(kwargs)}: LeWMImageProcessor takes images and return_tensors")
        frames = _to_tensor(images) if self.cameras is None else self._tiled(images, self.cameras)
        if frames.is_floating_point():
            # Written so that NaN fails too.
            if not bool(((frames >= 0) & (frames <= 1)).all()):
                raise ValueError("float images must lie in [0, 1] without NaN: divide by 255, or give uint8")
        elif frames.dtype == torch.bool:
            raise ValueError("boolean images have no colors: give uint8, or floats in [0, 1]")
        elif frames.dtype != torch.uint8:
            if not bool(((frames >= 0) & (frames <= 255)).all()):
                raise ValueError(f"integer images must lie in [0, 255], got {frames.dtype} outside of it: give uint8")
            frames = frames.to(torch.uint8)
        if frames.dim() == 3:
            frames = frames[None]
        height, width = frames.shape[-3:-1]
        if self.fit is not None:
            frames = square(frames, self.fit)
        elif height != width:
            raise ValueError(
                f"a picture of {width}x{height} pixels is not square, as all training pictures were: crop or pad it, "
                "or say how in preprocessor_config.json, with fit: crop, pad or stretch"
            )
        return BatchFeature({"pixel_values": self.normalize(frames).contiguous()}, tensor_type=return_tensors)

    def _tiled(self, images: Any, cameras: list[str]) -> Tensor:
        """Pictures by camera, or nestings of such mappings -> `(..., height, width of all, 3)`.

        Raises:
            ValueError: where a camera is missing or unknown, or they make pictures of different sizes.
        """
        if isinstance(images, list | tuple) and images:
            return torch.stack([self._tiled(part, cameras) for part in images])
        if not isinstance(images, Mapping) or set(images) != set(cameras):
            got = f"the cameras {', '.join(map(str, images))}" if isinstance(images, Mapping) else type(images).__name__
            raise ValueError(f"expected a mapping from the cameras {', '.join(cameras)} to a picture, got {got}")
        parts = {name: _to_tensor(images[name]) for name in cameras}
        if len({tuple(part.shape) for part in parts.values()}) > 1:
            listed = ", ".join(f"{name} {tuple(part.shape)}" for name, part in parts.items())
            raise ValueError(f"the cameras make pictures of different sizes ({listed}): resize them to one size first")
        return torch.cat(list(parts.values()), dim=-2)

    def __call__(self, images: Any, **kwargs: Any) -> BatchFeature:
        return self.preprocess(images, **kwargs)
