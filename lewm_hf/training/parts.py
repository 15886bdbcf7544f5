"""Parts of a model by name: which of them stand still while the rest is trained, and which learn more slowly.

A part is a module by its dotted name: `encoder`, or `predictor.layers.0`. A frozen part is what it is in evaluation:
its weights get no gradient, its dropout is off, and its BatchNorms neither look at the batch nor change their
statistics, in training and in the recalibration before a model is judged.
"""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn


def check_parts(model: nn.Module, freeze: Sequence[str], lr_factor: Sequence[str]) -> None:
    """Refuses names that the model has no part of, and factors that are none; on the meta device too.

    Args:
        freeze: names of parts.
        lr_factor: `PART=NUMBER` each.

    Raises:
        ValueError: one line.
    """
    known = {name for name, _ in model.named_modules() if name}
    factors = learning_rate_factors(lr_factor)
    for key, names in (("freeze", freeze), ("lr_factor", factors)):
        for name in names:
            if name not in known:
                parts = ", ".join(name for name, _ in model.named_children())
                raise ValueError(
                    f"{key}={name} is not a part of {type(model).__name__}: use one of {parts}, or one within"
                )
    for name in factors:
        if any(_within(name, frozen) for frozen in freeze):
            raise ValueError(
                f"lr_factor={name} lies within what freeze={' '.join(freeze)} keeps from learning: omit it"
            )
    if not any(not any(_within(name, frozen) for frozen in freeze) for name, _ in model.named_parameters()):
        raise ValueError(f"freeze={' '.join(freeze)} leaves nothing to train: freeze less")


def learning_rate_factors(lr_factor: Sequence[str]) -> dict[str, float]:
    """`["encoder=0.1"]` -> part and factor.

    Raises:
        ValueError: one line for anything else, or a factor that is not positive.
    """
    factors = {}
    for entry in lr_factor:
        name, _, value = entry.partition("=")
        try:
            factors[name] = float(value)
        except ValueError:
            factors[name] = math.nan
        if not name or not (math.isfinite(factors[name]) and factors[name] > 0):
            raise ValueError(
                f"lr_factor={entry!r} must be PART=NUMBER with a number above 0, such as encoder=0.1; `freeze` keeps a "
                "part as it is"
            )
    return factors


def freeze_parts(model: nn.Module, freeze: Sequence[str]) -> list[nn.Module]:
    """Keeps these parts from learning, and returns them; the caller holds them in evaluation mode."""
    frozen = [model.get_submodule(name) for name in freeze]
    for part in frozen:
        part.requires_grad_(False)
    return frozen


def parameter_groups(model: nn.Module, lr_factor: Sequence[str]) -> list[dict[str, Any]]:
    """What an optimizer takes: all parameters, one group for each factor of the learning rate.

    The innermost part that a factor was given for decides. A group without a `lr_factor` follows the schedule as it is.
    """
    factors = learning_rate_factors(lr_factor)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        parts = [part for part in factors if _within(name, part)]
        groups.setdefault(factors[max(parts, key=len)] if parts else 1.0, []).append(parameter)
    return [
        {"params": members} | ({} if factor == 1.0 else {"lr_factor": factor}) for factor, members in groups.items()
    ]


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
