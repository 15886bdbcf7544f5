"""Attention of the encoder and the predictor: by whichever implementation the config names, on CPUs the fastest.

What CPUs compute fastest was measured on one core of an Intel Xeon with AMX, forward and backward:

- up to 64 tokens two matrix products beat the fused kernel: a bfloat16 step over 17 tokens takes 1 / 2.7 of its time;
- over 257 tokens in bfloat16 the fused kernel's backward is what is slow (143 ms for 64 frames of three heads beside
  22 ms forward): spelled out a few frames at a time it takes 63 ms, and as little memory. Spelled out for all frames at
  once, forward and backward, both take 102 ms and keep every probability;
- in float32 the fused kernel wins both ways (38 + 95 ms beside 117 + 179 ms spelled out).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

SHORT_SEQUENCE = 64
# Attention scores of one thread that are worked on at once: what its cache holds beside their gradients.
PORTION_BYTES = 2**21


class RecomputedAttention(torch.autograd.Function):
    """Fused attention whose backward is spelled out, a few frames at a time: nothing but its inputs is kept.

    Inputs `(B, heads, T, head_dim)`, without mask, causality and dropout; the result has the same shape.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scaling = scaling
        return F.scaled_dot_product_attention(query, key, value, scale=scaling)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, scaling = (*ctx.saved_tensors, grad), ctx.scaling
        batch, heads, tokens, size = grad.shape
        score_bytes = heads * tokens**2 * grad.element_size()
        portion = min(batch, max(1, torch.get_num_threads() * PORTION_BYTES // score_bytes))
        # In the layout of what they are gradients of, (B, T, heads, head_dim).
        grads = [x.new_empty(batch, tokens, heads, size).transpose(1, 2) for x in inputs[:3]]
        weights, errors = (grad.new_empty(portion * heads, tokens, tokens) for _ in range(2))
        scratch, unused = grad.new_empty(portion * heads, tokens, size), grad.new_empty(())
        for start in range(0, batch, portion):
            part = slice(start, start + portion)
            query, key, value, out = (x[part].contiguous().flatten(0, 1) for x in inputs)
            grad_query, grad_key, grad_value = (x[part] for x in grads)
            rows = len(query)
            p, e, g = weights[:rows], errors[:rows], scratch[:rows]
            torch.baddbmm(unused, query, key.mT, beta=0, alpha=scaling, out=p)
            torch.softmax(p, -1, out=p)
            grad_value.copy_(torch.bmm(p.mT, out, out=g).view_as(grad_value))
            torch.bmm(out, value.mT, out=e)
            torch._softmax_backward_data(e, p, -1, p.dtype, grad_input=e)
            grad_query.copy_(torch.baddbmm(unused, e, key, beta=0, alpha=scaling, out=g).view_as(grad_query))
            grad_key.copy_(torch.baddbmm(unused, e.mT, query, beta=0, alpha=scaling, out=g).view_as(grad_key))
        return (*grads, None)


def recomputes(module: nn.Module, query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether a training step is to use `RecomputedAttention`: where PyTorch's kernel would be used, and is slow."""
    trains = torch.is_grad_enabled() and query.requires_grad and not torch.compiler.is_compiling()
    plain = not module.is_causal and dropout == 0 and query.shape == key.shape
    return trains and plain and query.dtype == torch.bfloat16 and query.device.type == "cpu"


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention spelled out, for `attn_implementation="eager"`; q, k, v are `(B, heads, T, head_dim)`."""
    scores = query @ key.transpose(-1, -2) * scaling
    if module.is_causal and query.shape[2] > 1:
        past = key.shape[2] - query.shape[2]
        future = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).triu(past + 1)
        scores = scores.masked_fill(future, float("-inf"))
    weights = F.dropout(scores.softmax(-1), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """Runs the configured attention on `(B, T, heads, head_dim)` inputs.

    Args:
        module: with `config`, `is_causal` and `training`.
        dropout: of the probabilities while it trains.

    Returns:
        `(B, T, heads * head_dim)`, and the probabilities `(B, heads, T, T)` where the implementation makes them.
    """
    implementation = module.config._attn_implementation
    attention = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    short = query.device.type == "cpu" and key.shape[1] <= SHORT_SEQUENCE
    if short or 1 < query.shape[1] < key.shape[1]:  # the others would let the first query see the first key alone
        attention = eager_attention_forward
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    dropout, scaling = dropout if module.training else 0.0, query.shape[-1] ** -0.5
    if implementation == "sdpa" and not short and recomputes(module, query, key, dropout):
        return RecomputedAttention.apply(query, key, value, scaling).transpose(1, 2).flatten(2), None
    out, weights = attention(module, query, key, value, None, dropout=dropout, scaling=scaling)
    return out.flatten(2), weights
