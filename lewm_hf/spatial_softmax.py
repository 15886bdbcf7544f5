"""Softmax-weighted sums over the places of a picture: what a map says about where something is."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Of one thread's logits that are worked on at once: what its cache holds beside their exponentials and gradients.
PORTION_BYTES = 2**19


def weighted_sums(logits: Tensor, scale: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of K functions of the place, weighted by `exp(scale * logits)`, in float32.

    On a CPU a few pictures at a time, and backward again from the logits: six passes over each map stay in the cache,
    and nothing but the logits is kept. One core of an Intel Xeon, 640 pictures, 32 maps of 26 x 32, there and back:
    100 ms instead of 400.

    Args:
        logits: `(N, places, maps)`.
        scale: `(maps,)`.
        places: `(K, places)`, one row for each function.

    Returns:
        `(N, K, maps)`, relative to `exp(largest)`, and `largest` `(N, maps)`, the largest `scale * logits` of each map,
        which has no gradient.
    """
    if logits.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        return _InPortions.apply(logits, scale, places)
    scaled = logits.float() * scale
    largest = scaled.detach().amax(1, keepdim=True)
    return places @ (scaled - largest).exp(), largest[:, 0]


class _InPortions(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, scale: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        count, size, maps = logits.shape
        sums, largest = places.new_empty(count, len(places), maps), places.new_empty(count, 1, maps)
        portion = _portion(logits)
        scratch = places.new_empty(portion, size, maps)
        for start in range(0, count, portion):
            part = slice(start, start + portion)
            weights = scratch[: len(logits[part])].copy_(logits[part]).mul_(scale)
            torch.amax(weights, 1, keepdim=True, out=largest[part])
            torch.matmul(places, weights.sub_(largest[part]).exp_(), out=sums[part])
        ctx.save_for_backward(logits, scale, places, largest)
        of_maps = largest[:, 0]
        ctx.mark_non_differentiable(of_maps)
        return sums, of_maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _of_largest: Tensor) -> tuple[Tensor | None, ...]:
        logits, scale, places, largest = ctx.saved_tensors
        grad_logits, grad_scale = torch.empty_like(logits), torch.zeros_like(scale)
        portion = _portion(logits)
        three = places.new_empty(3, portion, *logits.shape[1:])
        for start in range(0, len(logits), portion):
            part = slice(start, start + portion)
            plain, weights, slope = three[:, : len(logits[part])]
            torch.mul(plain.copy_(logits[part]), scale, out=weights)
            torch.matmul(places.T, grad[part], out=slope)
            slope *= weights.sub_(largest[part]).exp_()
            grad_scale += torch.mul(slope, plain, out=plain).sum((0, 1))
            grad_logits[part].copy_(slope.mul_(scale))
        return grad_logits, grad_scale, None


def _portion(logits: Tensor) -> int:
    """Pictures of one portion."""
    bytes_each = 4 * logits.shape[1:].numel()
    return max(1, min(len(logits), torch.get_num_threads() * PORTION_BYTES // bytes_each))
