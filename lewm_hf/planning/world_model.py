"""What planning asks of a world model beyond the contract of `world_models/base.py`: evaluation mode and statistics."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..world_models.base import WorldModel, WorldModelConfig


def has_actor(model: WorldModel) -> bool:
    """Whether a checkpoint holds the optional actor."""
    return bool(getattr(model.config, "has_actor", False))


def check_actor(model: WorldModel, wanted: str) -> None:
    """Refuses a model without an actor.

    Args:
        wanted: what asks for one, for the message.

    Raises:
        ValueError: one line.
    """
    if not has_actor(model):
        raise ValueError(
            f"{wanted} needs a checkpoint with an actor, but this {type(model).__name__} has none: fit one with "
            "`lewm train-actor`, train with actor_weight, or choose a planner without"
        )


def check_imagines(model: WorldModel, wanted: str) -> None:
    """Refuses a model that imagines no future, such as one that only imitates.

    Args:
        wanted: what asks for a roll-out, for the message.

    Raises:
        ValueError: one line.
    """
    if not hasattr(model, "rollout"):
        raise ValueError(
            f"{wanted} asks what follows from actions, which {type(model).__name__} does not predict: give a world "
            "model, or let this one act with policy=actor"
        )


def check_evaluating(model: WorldModel) -> None:
    """Refuses a model in training mode: what it makes of a frame would depend on the frames beside it.

    Raises:
        ValueError: one line.
    """
    if getattr(model, "training", False):
        raise ValueError(
            f"{type(model).__name__} is in training mode, where BatchNorm and dropout change what it sees: call "
            "model.eval() first"
        )


def check_ready(model: WorldModel) -> None:
    """Refuses a model that would plan, but wrongly.

    Raises:
        ValueError: for what is no world model, one in training mode, or without action statistics.
    """
    if not hasattr(getattr(model, "config", None), "action_mean"):  # a path, or a decoder
        raise ValueError(f"a {type(model).__name__} is no world model: give one, as AutoModel.from_pretrained loads it")
    check_evaluating(model)
    if model.config.action_mean is None or model.config.action_std is None:
        raise ValueError(
            "the config has no action statistics (action_mean, action_std), so plans cannot leave in environment "
            "units: train with this package, or convert the checkpoint with `lewm convert --dataset DIR`"
        )


def check_same_as_config(model: WorldModel, **given: Any) -> None:
    """Refuses values that repeat a field of the config and contradict it.

    Raises:
        ValueError: on the first contradiction.
    """
    for name, value in given.items():
        expected = getattr(model.config, name)
        if value != expected:
            raise ValueError(
                f"{name}={value!r} contradicts the checkpoint, whose config.json says {expected!r}: leave it out, the "
                "planner reads the config"
            )


def candidate_bytes(model: WorldModel, context: Tensor, horizon: int) -> int:
    """An upper bound of what the roll-out of one candidate plan holds in memory, in bytes; 0 if unknown.

    Counts the outputs of all linear layers outside `model.encoder`, for every token of the window and of the plan, as
    if nothing were freed on the way: about 3.5 times what LeWM really holds (0.41 MB at the released size).
    """
    if not isinstance(model, nn.Module):
        return 0
    # `nn.Module.modules` also makes names: half a millisecond of every plan.
    # By the object: adapters wrap a model, whose encoder lies deeper then.
    encoder, modules, width = getattr(model, "encoder", None), [*model._modules.values()], 0
    for module in modules:  # grows on the way
        if module is not None and module is not encoder:
            width += module.out_features if isinstance(module, nn.Linear) else 0
            modules += module._modules.values()
    tokens = (model.config.history_size + horizon) * context[0, 0, ..., 0].numel()
    return width * tokens * context.element_size()


class Imaginer(Protocol):
    """What a search needs of a world model."""

    config: WorldModelConfig

    def rollout(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        """See `WorldModel`."""
        ...


class _Prepared:
    """A world model whose roll-out is laid out for one search."""

    def __init__(self, model: WorldModel, rollout: Callable[..., Tensor]):
        self.config, self.rollout = model.config, rollout


def for_search(model: WorldModel, dtype: torch.dtype | None, compiled: bool) -> tuple[Imaginer, bool]:
    """What imagines the candidates of one search, during which weights stay what they are.

    A world model may offer `prepare_rollout(dtype)`: a faster `rollout`, which several threads may call, or `None`.

    Args:
        dtype: of its arithmetic, `None` for the model's.
        compiled: whether it is going to be compiled: only a model's own weights need not be compiled anew every time.

    Returns:
        What has `rollout` and `config`, and whether several threads may use it at once.
    """
    prepare = getattr(model, "prepare_rollout", None)
    rollout = prepare(dtype) if prepare is not None and not compiled else None
    return (model, False) if rollout is None else (_Prepared(model, rollout), True)
