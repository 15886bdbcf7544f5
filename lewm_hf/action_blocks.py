"""Raw environment actions <-> z-scored action blocks.

Block *k* holds the `frameskip` raw actions that leave frame *k*, z-scored per raw dimension and then flattened
(released code: normalization acts before the reshape). A dimension that was constant in training is only shifted, as
scikit-learn's `StandardScaler` does: divided by a spread of nothing, other data would be off by a factor of 1e8.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .action_choices import Choices

STD_FLOOR = 1e-8
# Rates of actions that count as the same: clocks round, and video has 29.97 frames where its header says 30.
SAME_RATE = 0.01


def same_rate(one: float, other: float) -> bool:
    """Whether so many and so many actions a second are the same to a model."""
    return math.isclose(one, other, rel_tol=SAME_RATE)


def _statistics(config: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    if config.action_mean is None or config.action_std is None:
        raise ValueError(
            "the config has no action statistics (action_mean, action_std), so actions cannot be translated to "
            "environment units: train with this package, or convert the checkpoint with `lewm convert --dataset DIR`"
        )
    mean = torch.tensor(config.action_mean, dtype=torch.float64)
    std = torch.tensor(config.action_std, dtype=torch.float64)
    std = torch.where(std > STD_FLOOR, std, 1.0)  # a dimension that never moved has no scale of its own
    return mean.to(like.dtype).to(like.device), std.to(like.dtype).to(like.device)


def moving(config: Any) -> list[bool]:
    """Which entries of an action block `(frameskip * action_dim,)` ever changed in the data set."""
    return [std > STD_FLOOR for std in config.action_std] * config.frameskip


def to_blocks(actions: Tensor, config: Any) -> Tensor:
    """Raw actions `(..., time * frameskip, action_dim)` -> z-scored blocks `(..., time, frameskip * action_dim)`.

    Raises:
        ValueError: on another action dimension, a length that is not a multiple of `frameskip`, or missing statistics.
    """
    steps, action_dim = actions.shape[-2:]
    if action_dim != config.action_dim:
        raise ValueError(f"actions have {action_dim} dimensions, but the model was made for {config.action_dim}")
    if steps % config.frameskip:
        raise ValueError(f"{steps} actions do not fill whole blocks of frameskip={config.frameskip}")
    mean, std = _statistics(config, actions)
    return ((actions - mean) / std).unflatten(-2, (-1, config.frameskip)).flatten(-2)


def from_blocks(blocks: Tensor, config: Any) -> Tensor:
    """Z-scored blocks `(..., time, frameskip * action_dim)` -> raw actions `(..., time * frameskip, action_dim)`.

    Choices come out exactly 0 or 1, where the blocks are one-hot to rounding.
    """
    if blocks.shape[-1] != config.action_block_size:
        raise ValueError(f"blocks are {blocks.shape[-1]} wide, but the model was made for {config.action_block_size}")
    mean, std = _statistics(config, blocks)
    actions = blocks.unflatten(-1, (config.frameskip, config.action_dim)).flatten(-3, -2) * std + mean
    return actions.round() if getattr(config, "action_choices", None) else actions


def block_bounds(
    config: Any,
    given: tuple[Sequence[float], Sequence[float]] | np.ndarray | None = None,
    device: torch.device | str = "cpu",
    *,
    clipped: bool = True,
) -> tuple[Tensor, Tensor] | Choices | None:
    """Lowest and highest z-scored action block, `(frameskip * action_dim,)` float32 each; `None` where none are known.

    Where actions are choices (`config.action_choices`), what moves a block to the nearest that can be executed.

    What never moved in training stays where it was whatever the bounds: no model knows what it does.

    Args:
        config: its `action_low` and `action_high` count, in environment units.
        given: the same, for a config that states none; two vectors, or an array of two rows.
        clipped: `False` leaves all dimensions that moved without bounds.

    Raises:
        ValueError: for bounds of another shape than the action's, NaN, or a lowest action above the highest.
    """
    if choices := getattr(config, "action_choices", None):
        mean, std = _statistics(config, torch.empty(0, device=device))
        moved = torch.tensor(moving(config)[: config.action_dim], device=device)
        return Choices(choices, mean, std, moved, config.frameskip)
    low, high = getattr(config, "action_low", None), getattr(config, "action_high", None)
    known = given if low is None or high is None else (low, high)
    moved = torch.tensor(moving(config))
    if known is None or not clipped:
        if moved.all():
            return None
        known = [-math.inf] * config.action_dim, [math.inf] * config.action_dim
    try:
        lowest, highest = known
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"action bounds of type {type(known).__name__} are not two vectors: give the lowest action and the highest"
        ) from error
    limits = [torch.as_tensor(one, dtype=torch.float64) for one in (lowest, highest)]
    for one in limits:
        if one.shape != (config.action_dim,):
            raise ValueError(
                f"action bounds of shape {tuple(one.shape)} do not fit action_dim={config.action_dim}: give one number "
                "per action dimension"
            )
    if not (limits[0] <= limits[1]).all():  # NaN, too
        low, high = (one.tolist() for one in limits)
        raise ValueError(f"action bounds from {low} to {high} leave no action: check their order")
    mean, std = _statistics(config, limits[0])
    low, high = (((one - mean) / std).repeat(config.frameskip) for one in limits)
    return tuple(torch.where(moved, one, 0.0).float().to(device) for one in (low, high))
