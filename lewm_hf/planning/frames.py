"""Pictures on their way to latents."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..pictures import size
from ..world_models.base import ActingWorldModel, WorldModel
from .world_model import check_evaluating


def frame_size(picture: Any) -> tuple[int, int]:
    """(height, width) of a PIL picture, upright, or of an array or tensor with channels first or last; of pictures by
    camera, that of the first one.

    Raises:
        ValueError: on other than 3 channels, and for what is no picture.
    """
    if isinstance(picture, Mapping) and picture:
        return frame_size(next(iter(picture.values())))
    if isinstance(picture, Image.Image):
        return size(picture)
    if not hasattr(picture, "shape"):
        raise ValueError(
            f"cannot read a picture of type {type(picture).__name__}: give PIL, numpy or torch; "
            "`lewm_hf.pictures.read` opens a file"
        )
    shape = tuple(picture.shape)
    if len(shape) == 3 and shape[-1] == 3:
        return shape[:2]
    if len(shape) == 3 and shape[0] == 3:
        return shape[1:]
    raise ValueError(f"a picture of shape {shape} does not have 3 channels (first or last): convert it to RGB")


def several_pictures(given: Any) -> bool:
    """Whether something is a list, or an array or tensor with one dimension more, of pictures and not one picture."""
    return isinstance(given, list | tuple) or getattr(given, "ndim", 0) == 4


def check_same_size(observation: tuple[int, int], goal: tuple[int, int]) -> None:
    """Refuses a goal picture that was not taken like the observation; arguments are `frame_size` of both.

    Raises:
        ValueError: on different sizes.
    """
    if observation != goal:
        raise ValueError(
            f"the goal is {goal[0]}x{goal[1]} pixels, but the observation {observation[0]}x{observation[1]}: take both "
            "with the same camera, or resize one of them first"
        )


@torch.no_grad()
def encode_frames(model: WorldModel, pixel_values: Tensor, proprioception: Tensor | None = None) -> Tensor:
    """Normalized frames `(N, 3, H, W)`, and of models with it z-scored proprioception `(N, P)` -> `(N, *latent)`.

    On a CPU frame by frame, so that a latent does not depend on its neighbours in the batch, not even in its last
    bit; that costs nothing there.
    """
    check_evaluating(model)
    return torch.cat([model.encode(*part)[:, 0] for part in _portions(pixel_values, proprioception)])


@torch.no_grad()
def observe_frames(
    model: ActingWorldModel, pixel_values: Tensor, proprioception: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Like `encode_frames`: latents `(N, D)` and features `(N, F)`."""
    check_evaluating(model)
    latents, features = zip(*(model.observe(*part) for part in _portions(pixel_values, proprioception)), strict=True)
    return torch.cat(latents)[:, 0], torch.cat(features)[:, 0]


def _portions(pixel_values: Tensor, proprioception: Tensor | None) -> Iterator[tuple[Tensor, ...]]:
    """Arguments of `encode`: frames one by one on a CPU, elsewhere all at once."""
    size = 1 if pixel_values.device.type == "cpu" else len(pixel_values)
    inputs = [pixel_values] if proprioception is None else [pixel_values, proprioception.to(pixel_values.device)]
    return zip(*(values[:, None].split(size) for values in inputs), strict=True)
