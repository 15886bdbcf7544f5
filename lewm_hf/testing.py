"""Does a class keep the contract of a world model? A check for anybody's own, like gymnasium's `check_env`."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from .proprioception_lewm import size_of
from .randomness import preserved_randomness
from .world_models.base import TrainableWorldModel, WorldModel

BATCH, SAMPLES, HORIZON = 3, 4, 3
CONFIG_FIELDS = {
    "history_size": int, "frameskip": int, "action_dim": int, "action_block_size": int, "image_size": int,
    "action_mean": list | None, "action_std": list | None,
}  # fmt: skip
# What a method that does not fit its arguments may end in.
RAISED = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError)


Result = TypeVar("Result")


class ContractError(ValueError):
    """A world model breaks its contract; `failures` holds one line for each way in which it does."""

    def __init__(self, failures: list[str]):
        super().__init__("\n".join(failures))
        self.failures = failures


def check_world_model(model: WorldModel, *, tolerance: float = 1e-4, seed: int = 0) -> None:
    """Runs a world model on random frames and actions and compares what must agree.

    Shapes; finite values; evaluation mode deterministic and every row independent of its batch; frames encoded alone;
    a roll-out equal to one step after the other, from one and from `history_size` context frames, and blind to later
    blocks; with `losses` a finite scalar, equal on equal input, whose gradient reaches every trainable parameter, and
    `step_inputs` a pure function; for a `PreTrainedModel` that a saved and loaded copy computes the same. Puts the
    model back into the mode it came in, leaves its weights, gradients and torch's random generators alone.

    Args:
        model: any class with the members of `lewm_hf.world_models.base.WorldModel`, on its device.
        tolerance: largest difference that rounding may make, relative to the largest entry.
        seed: of the random frames and actions.

    Raises:
        ContractError: one line per broken promise: what was expected, what came, and where it matters. A part whose
            result later parts need ends the check.
    """
    failures: list[str] = []
    for check in (_members, _behavior, _training, _saving):
        failures += check(model, tolerance, seed)
        if failures:
            raise ContractError(failures)


def _members(model: Any, tolerance: float, seed: int) -> Iterator[str]:
    for name in ("encode", "rollout"):
        if not callable(getattr(model, name, None)):
            yield f"{type(model).__name__} has no method {name}: see lewm_hf.world_models.base.WorldModel"
    if hasattr(model, "losses") != hasattr(model, "step_inputs"):
        yield "losses and step_inputs go together: define both (step_inputs may return {}), or neither"
    config = getattr(model, "config", None)
    if config is None:
        yield f"{type(model).__name__} has no config: planner and data path read {', '.join(CONFIG_FIELDS)} there"
        return
    for name, kind in CONFIG_FIELDS.items():
        if not hasattr(config, name):
            yield f"config has no field {name}: planner and data path read it there"
        elif not isinstance(getattr(config, name), kind):
            yield f"config.{name}={getattr(config, name)!r} is no {getattr(kind, '__name__', kind)}"
        elif kind is int and getattr(config, name) < 1:
            yield f"config.{name}={getattr(config, name)} must be at least 1"
    if (
        isinstance(getattr(config, "action_block_size", None), int)
        and config.action_block_size != config.frameskip * config.action_dim
    ):
        yield (
            f"config.action_block_size={config.action_block_size} is not frameskip * action_dim = "
            f"{config.frameskip * config.action_dim}"
        )
    for name in ("action_mean", "action_std"):
        values = getattr(config, name, None)
        if values is not None and len(values) != config.action_dim:
            yield f"config.{name} has {len(values)} entries, one for each of action_dim={config.action_dim} is needed"


class _Inputs:
    """Random frames and blocks on the model's device."""

    def __init__(self, model: Any, seed: int):
        config, self.device = model.config, _device(model)
        generator = torch.Generator().manual_seed(seed)
        channels, size = getattr(config, "num_channels", 3), config.image_size

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(self.device)

        self.frames = draw(BATCH, config.history_size + 1, channels, size, size)
        self.blocks = draw(BATCH, config.history_size + 1, config.action_block_size)
        self.candidates = draw(BATCH, SAMPLES, HORIZON + config.history_size, config.action_block_size)
        self.batch = {"pixel_values": self.frames, "actions": self.blocks}
        if numbers := size_of(config):
            self.batch["proprioception"] = draw(BATCH, config.history_size + 1, numbers)

    def encode(self, model: Any, rows: slice = slice(None), times: slice = slice(None)) -> Tensor:
        """Latents of these frames, and of what comes beside them."""
        seen = [self.batch[name] for name in ("pixel_values", "proprioception") if name in self.batch]
        return model.encode(*(values[rows, times].clone() for values in seen))


def _device(model: Any) -> torch.device:
    if isinstance(model, nn.Module):
        return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    return getattr(model, "device", torch.device("cpu"))


class _Checked:
    """Runs a model in evaluation mode and puts it back into the mode it came in."""

    def __init__(self, model: Any):
        self.model = model
        self.modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []

    def __enter__(self) -> None:
        if self.modes:
            self.model.eval()

    def __exit__(self, *exception: object) -> None:
        for part, training in self.modes:
            part.training = training


def _attempt(what: str, call: Callable[[], Result]) -> tuple[Result | None, list[str]]:
    """What a call returns, or `None` and why it failed as a line."""
    try:
        returned = call()
    except RAISED as error:
        reason = (str(error).splitlines() or [""])[0]
        return None, [f"{what} raised {type(error).__name__}: {reason}"]
    return returned, [] if returned is not None else [f"{what} returned nothing"]


def _equal(ours: Tensor, other: Tensor, tolerance: float) -> bool:
    scale = max(float(other.float().abs().max()), 1.0)
    return ours.shape == other.shape and bool((ours.float() - other.float()).abs().max() <= tolerance * scale)


def _difference(ours: Tensor, other: Tensor) -> str:
    if ours.shape != other.shape:
        return f"shapes {tuple(ours.shape)} and {tuple(other.shape)}"
    return f"up to {float((ours.float() - other.float()).abs().max()):.2g}"


@torch.no_grad()
def _behavior(model: Any, tolerance: float, seed: int) -> Iterator[str]:
    inputs = _Inputs(model, seed)
    with _Checked(model), preserved_randomness(inputs.device):
        latents, failed = _attempt("encode", lambda: inputs.encode(model))
        if latents is None:
            yield from failed
            return
        yield from _encoding(model, inputs, latents, tolerance)
        if latents.dim() < 3 or latents.shape[:2] != inputs.frames.shape[:2]:
            return
        for frames in sorted({1, model.config.history_size}):
            yield from _imagining(model, inputs, latents[:, :frames], tolerance)


def _encoding(model: Any, inputs: _Inputs, latents: Tensor, tolerance: float) -> Iterator[str]:
    batch, time = inputs.frames.shape[:2]
    if latents.dim() < 3 or latents.shape[:2] != (batch, time):
        yield (
            f"encode made {tuple(latents.shape)} of {tuple(inputs.frames.shape)}: expected ({batch}, {time}, *latent) "
            "with at least one dimension of latent"
        )
        return
    if not torch.isfinite(latents).all():
        yield "encode returns NaN or infinite values for standard normal pixels"
        return
    if not torch.equal(latents, inputs.encode(model)):
        yield "encode differs between two calls in evaluation mode: dropout or sampling must be off there"
    alone = torch.cat([inputs.encode(model, slice(row, row + 1)) for row in range(BATCH)])
    if not _equal(alone, latents, tolerance):
        yield (
            f"encode depends on the other rows of the batch ({_difference(alone, latents)}): in evaluation mode "
            "BatchNorm must use its running statistics"
        )
    single = inputs.encode(model, times=slice(-1, None))
    if not _equal(single, latents[:, -1:], tolerance):
        yield (
            f"encode of one frame depends on the frames before it ({_difference(single, latents[:, -1:])}): goals are "
            "single frames, so each frame must be encoded alone"
        )


def _imagining(model: Any, inputs: _Inputs, context: Tensor, tolerance: float) -> Iterator[str]:
    frames = context.shape[1]
    # More blocks than the window holds, so that it slides.
    candidates, executed = inputs.candidates, inputs.blocks[:, : frames - 1] if frames > 1 else None
    told = f"rollout from {frames} context frame{'s' if frames > 1 else ''}"
    given = (context.clone(), candidates.clone(), None if executed is None else executed.clone())
    imagined, failed = _attempt(told, lambda: model.rollout(*given))
    if imagined is None:
        yield from failed
        return
    expected = (*candidates.shape[:3], *context.shape[2:])
    if imagined.shape != expected:
        yield f"{told} has shape {tuple(imagined.shape)}: expected (problems, plans, blocks, *latent) = {expected}"
        return
    if not torch.isfinite(imagined).all():
        yield f"{told} holds NaN or infinite values"
        return
    kept = (context, candidates, executed)
    if any(one is not None and not torch.equal(one, other) for one, other in zip(kept, given, strict=True)):
        yield f"{told} changes its arguments in place: planners use them again"
    if not torch.equal(imagined, model.rollout(*kept)):
        yield f"{told} differs between two calls in evaluation mode: dropout or sampling must be off there"
    one = model.rollout(context[:1], candidates[:1, 1:2], None if executed is None else executed[:1])
    if not _equal(one, imagined[:1, 1:2], tolerance):
        yield f"{told} depends on the other plans or problems of the batch ({_difference(one, imagined[:1, 1:2])})"
    early = model.rollout(context, candidates[:, :, :1], executed)
    if not _equal(early, imagined[:, :, :1], tolerance):
        yield f"{told}: the first step depends on later blocks ({_difference(early, imagined[:, :, :1])})"
    stepped, failed = _attempt(f"{told}, continued", lambda: _step_by_step(model, *kept))
    if stepped is None:
        yield from failed
    elif not _equal(imagined, stepped, tolerance):
        yield (
            f"{told} differs from imagining one block after the other with the last history_size="
            f"{model.config.history_size} frames as context ({_difference(imagined, stepped)})"
        )


def _step_by_step(model: Any, context: Tensor, candidates: Tensor, executed: Tensor | None) -> Tensor:
    """Every plan alone and block by block, each prediction becoming a context frame of the next."""
    samples = candidates.shape[1]
    known = context.repeat_interleave(samples, 0)
    blocks = candidates.flatten(0, 1)
    if executed is not None:
        blocks = torch.cat([executed.repeat_interleave(samples, 0), blocks], 1)
    first, history = context.shape[1], model.config.history_size
    for end in range(first, first + candidates.shape[2]):
        start = max(0, end - history)
        between = blocks[:, start : end - 1] if end - start > 1 else None
        following = model.rollout(known[:, start:end], blocks[:, None, end - 1 : end], between)[:, 0]
        known = torch.cat([known, following], 1)
    return known[:, first:].unflatten(0, (-1, samples))


def _training(model: Any, tolerance: float, seed: int) -> Iterator[str]:
    if not isinstance(model, TrainableWorldModel) or not isinstance(model, nn.Module):
        return
    inputs = _Inputs(model, seed)
    batch = inputs.batch
    first, again = model.step_inputs(seed, 5), model.step_inputs(seed, 5)
    if first.keys() != again.keys() or any(not torch.equal(first[name], again[name]) for name in first):
        yield "step_inputs differs between two calls with the same (seed, number): ranks would disagree"
        return
    step = {name: value.to(inputs.device) for name, value in first.items()}
    with _Checked(model), preserved_randomness(inputs.device):
        found, failed = _attempt("losses", lambda: model.losses(batch, step))
        if found is None:
            yield from failed
            return
        if "loss" not in found:
            yield f"losses returns {sorted(found)}: 'loss' is missing"
            return
        loss = found["loss"]
        if loss.dim() or not torch.isfinite(loss):
            yield f"losses['loss'] has shape {tuple(loss.shape)} and value {loss.tolist()}: expected a finite scalar"
            return
        if not torch.allclose(loss, model.losses(batch, step)["loss"]):
            yield "losses differs between two calls in evaluation mode: draw what is random in step_inputs"
        named = cast(nn.Module, model).named_parameters()
        trainable = {name: parameter for name, parameter in named if parameter.requires_grad}
        if not loss.requires_grad:
            yield "losses['loss'] has no gradient: it was computed under no_grad or detached"
            return
        gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
        idle = [name for name, gradient in zip(trainable, gradients, strict=True) if gradient is None]
        if idle:
            yield (
                f"the loss does not reach {len(idle)} trainable parameters such as {idle[0]}: freeze them with "
                "requires_grad_(False), or several ranks would wait for their gradients forever"
            )
        elif not any(bool(gradient.any()) for gradient in gradients):
            yield "the gradient of the loss is zero everywhere"


@torch.no_grad()
def _saving(model: Any, tolerance: float, seed: int) -> Iterator[str]:
    if not isinstance(model, PreTrainedModel):
        return
    inputs = _Inputs(model, seed)
    with tempfile.TemporaryDirectory() as folder, _Checked(model), preserved_randomness(inputs.device):
        model.save_pretrained(folder)
        for loader, told in ((type(model), type(model).__name__), (AutoModel, "AutoModel")):
            loaded, failed = _attempt(f"{told}.from_pretrained", partial(loader.from_pretrained, folder))
            if loaded is None:
                remedy = "; AutoConfig.register and AutoModel.register make it known" if loader is AutoModel else ""
                yield failed[0] + remedy
                continue
            loaded = loaded.to(inputs.device).eval()
            before, after = _own_fields(model.config), _own_fields(loaded.config)
            changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
            if changed:
                yield f"config fields {changed} change when the model is saved and loaded with {told}"
            if not torch.equal(inputs.encode(loaded), inputs.encode(model)):
                yield f"encode differs after saving and loading with {told}: some weight or buffer is not saved"


def _own_fields(config: Any) -> dict[str, Any]:
    """What a config says, without what transformers notes about the file it came from."""
    noted = ("architectures", "dtype", "transformers_version", "auto_map")
    return {name: value for name, value in config.to_dict().items() if name not in noted and not name.startswith("_")}
