"""BatchNorm statistics that fit the weights they are used with.

The running statistics of training are an average over weights that no longer exist. Judged with them, a young model's
prediction loss can be hundreds of times its training loss; so they are measured anew, with frozen weights, before a
model is evaluated or saved (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3).
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..sigreg import all_reduce_sum, world_size


class _Moments:
    """Mean and summed squared deviation per channel, merged batch by batch in float64 (Chan et al. 1979)."""

    def __init__(self, channels: int):
        self.count = torch.zeros((), dtype=torch.float64)
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def merge(self, count: Tensor, mean: Tensor, squares: Tensor) -> None:
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + squares + delta.square() * (self.count * count / total)
        self.count = total

    def observe(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A forward pre-hook: `(rows, channels, ...)` entering a BatchNorm."""
        rows = inputs[0].detach().transpose(0, 1).flatten(1).float()
        mean = rows.mean(1)
        squares = (rows - mean[:, None]).square().sum(1)
        # In this order: some accelerators (MPS) have no float64.
        self.merge(torch.tensor(float(rows.shape[1]), dtype=torch.float64), mean.cpu().double(), squares.cpu().double())

    def over_ranks(self, device: torch.device) -> "_Moments":
        """The moments of all ranks' rows together."""
        count = all_reduce_sum(self.count.to(device))
        mean = all_reduce_sum((self.mean * self.count).to(device)) / count
        between = self.count.to(device) * (self.mean.to(device) - mean).square()
        merged = _Moments(len(self.mean))
        merged.count, merged.mean = count, mean
        merged.squares = all_reduce_sum(self.squares.to(device) + between)
        return merged


def encode_and_predict(model: nn.Module, pixel_values: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings `(B, T, D)` and predictions `(B, T - 1, D)` of a window, without the loss terms."""
    embeddings = model.encode(pixel_values)
    return embeddings, model.predict(embeddings[:, :-1], actions[:, : embeddings.shape[1] - 1])


def _learns(norm: _BatchNorm) -> bool:
    """Whether a BatchNorm's statistics belong to what is trained: those of a frozen backbone stay as they are."""
    frozen = norm.affine and not any(parameter.requires_grad for parameter in norm.parameters(recurse=False))
    return norm.track_running_stats and not frozen


@torch.no_grad()
def recalibrate_batch_norm(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    forward: Callable = encode_and_predict,
    kept: Iterable[nn.Module] = (),
) -> int:
    """Replaces every BatchNorm's running statistics by those of all rows of `batches`; returns the number of rows.

    Each batch is normalized by itself, as in training, but dropout is off, as in planning: it would inflate the
    variance that `pred_proj` sees. Draws no random number, changes no weight and leaves every module in the mode it
    was in. On several ranks each passes its own share, equally many batches, and all get the statistics of the whole.

    Args:
        model: anything with `torch.nn.BatchNorm*` inside; those that are frozen keep their statistics.
        batches: arguments of `forward` after the model; by default `(pixel_values, actions)` of training windows.
        forward: runs the model on one batch.
        kept: parts of the model whose BatchNorms keep their statistics, too.

    Raises:
        ValueError: without a single batch, or with a single row.
    """
    settled = {module for part in kept for module in part.modules()}
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and _learns(module) and module not in settled
    ]
    if not norms:
        return 0
    modes = {module: module.training for module in model.modules()}
    tracked = [norm.num_batches_tracked.clone() for norm in norms]
    moments = [_Moments(norm.num_features) for norm in norms]
    hooks = [norm.register_forward_pre_hook(seen.observe) for norm, seen in zip(norms, moments, strict=True)]
    try:
        model.eval()
        for norm in norms:
            norm.train()
        for batch in batches:
            forward(model, *batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    for norm, seen, batches_tracked in zip(norms, moments, tracked, strict=True):
        # Collectives need the accelerator's tensors; elsewhere float64 stays on the CPU, which every machine has it on.
        if world_size() > 1:
            seen = seen.over_ranks(norm.running_mean.device)
        if seen.count < 2:
            raise ValueError(
                "BatchNorm cannot be recalibrated on fewer than two rows: give at least one batch of windows"
            )
        norm.running_mean.copy_(seen.mean.float())
        norm.running_var.copy_((seen.squares / (seen.count - 1)).float())
        norm.num_batches_tracked.copy_(batches_tracked)
    return int(moments[0].count)
