"""Proprioception: what a robot reports of itself, an optional second input beside each picture.

A model that was trained with it names the recorded columns and their statistics in its config
(`proprioception_key`, `proprioception_mean`, `proprioception_std`), takes z-scored vectors of `proprioception_size`
numbers, and refuses pictures without them. Size 0, the default, is a model of pictures alone.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# A number that never moved in training has no scale of its own.
STD_FLOOR = 1e-8


def check_fields(config: Any) -> None:
    """Refuses a config whose fields about proprioception contradict each other.

    Raises:
        ValueError: naming the field.
    """
    size, mean, std = config.proprioception_size, config.proprioception_mean, config.proprioception_std
    if size < 0:
        raise ValueError(f"proprioception_size={size} must be at least 0")
    if (mean is None) != (std is None):
        raise ValueError("proprioception_mean and proprioception_std go together: give both or neither")
    for name, values in (("proprioception_mean", mean), ("proprioception_std", std)):
        if values is not None and len(values) != size:
            raise ValueError(f"{name} has {len(values)} entries, but proprioception_size={size}: they must agree")
        if values is not None and not all(math.isfinite(value) for value in values):
            raise ValueError(f"{name}={values} must be finite: recompute the statistics of the data set")
    if std is not None and min(std, default=0) < 0:
        raise ValueError(f"proprioception_std={std} must not be negative")


def size_of(config: Any) -> int:
    """Numbers of a proprioception vector; 0 for a model of pictures alone."""
    return getattr(config, "proprioception_size", 0)


def columns_of(config: Any) -> str:
    """How a line names them: the columns they were recorded in, where that is known."""
    return f"{size_of(config)} numbers ({', '.join(config.proprioception_key or ['of unknown columns'])})"


def check_given(config: Any, proprioception: Tensor | None, leading: Sequence[int]) -> None:
    """Refuses z-scored proprioception that is missing, superfluous, or of another shape than `(*leading, N)`.

    Raises:
        ValueError: one line.
    """
    size = size_of(config)
    if size == 0 and proprioception is None:
        return
    if size == 0 or proprioception is None:
        given = "none is given" if proprioception is None else f"{proprioception.shape[-1]} entries are given"
        raise ValueError(f"proprioception_size={size}, but {given}: give what the model was made for")
    if proprioception.shape != (*leading, size):
        raise ValueError(
            f"proprioception has shape {tuple(proprioception.shape)}: expected {(*leading, size)}, a vector of "
            f"proprioception_size={size} beside each picture"
        )


def check_pictures_alone(model: Any, what: str) -> None:
    """Refuses a model that wants proprioception where nobody gives it.

    Args:
        what: would show it pictures alone, for the message.

    Raises:
        ValueError: one line.
    """
    if size_of(model.config):
        raise ValueError(
            f"{what} shows a model pictures alone, but this one was trained with proprioception, "
            f"{columns_of(model.config)}: give a model of pictures alone"
        )


def normalized(values: Any, config: Any) -> Tensor:
    """Recorded vectors `(..., N)` in their own units -> z-scored, float32.

    Raises:
        ValueError: for another size than the config's, values that are not finite, or missing statistics.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    if config.proprioception_mean is None or config.proprioception_std is None:
        raise ValueError(
            "the config has no statistics of proprioception (proprioception_mean, proprioception_std): train with "
            "proprioception_key, which measures them"
        )
    if values.dim() < 1 or values.shape[-1] != size_of(config):
        raise ValueError(
            f"proprioception has shape {tuple(values.shape)}, but the model was trained with {columns_of(config)}"
        )
    if not values.isfinite().all():
        raise ValueError("proprioception holds NaN or infinite values: check the sensor, or leave the episode out")
    mean, std = (
        torch.tensor(one, dtype=torch.float64) for one in (config.proprioception_mean, config.proprioception_std)
    )
    return ((values - mean) / torch.where(std > STD_FLOOR, std, 1.0)).float()


def beside_pictures(given: Any, count: int, config: Any, what: str) -> Tensor | None:
    """What somebody gave beside `count` pictures, in its own units -> z-scored `(count, N)`, `None` for a model of
    pictures alone.

    Args:
        what: the argument's name, for the message.

    Raises:
        ValueError: one line, where it is missing, superfluous, or does not fit.
    """
    size = size_of(config)
    if given is None and not size:
        return None
    if not size:
        raise ValueError(f"{what} is given, but this model was trained on pictures alone: leave it away")
    if given is None or len(given) == 0:
        raise ValueError(
            f"this model was trained with proprioception, {columns_of(config)}: give {what}, one vector beside each "
            "picture, in the units of the recordings"
        )
    if len(given) != count:
        raise ValueError(f"{what} has {len(given)} vectors for {count} pictures: give one beside each")
    return normalized(torch.stack([torch.as_tensor(one, dtype=torch.float64) for one in given]), config)
