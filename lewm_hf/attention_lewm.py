"""How CPUs compute the attention of a training step fastest.

Measured on one core of an Intel Xeon with AMX, forward and backward:

- up to 64 tokens two matrix products beat the fused kernel: a bfloat16 step over 17 tokens takes 1 / 2.7 of its time;
- over 257 tokens in bfloat16 the fused kernel's backward is what is slow (143 ms for 64 frames of three heads beside
  22 ms forward): spelled out a few frames at a time it takes 63 ms, and as little memory. Spelled out for all frames at
  once, forward and backward, both take 102 ms and keep every probability;
- in float32 the fused kernel wins both ways (38 + 95 ms beside 117 + 179 ms spelled out).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SHORT_SEQUENCE = 64
# Attention scores of one thread that are worked on at once: what its cache holds beside their gradients.
PORTION_BYTES = 2**21


class RecomputedAttention(torch.autograd.Function):
    """Fused attention whose backward is spelled out, a few frames at a time: nothing but its inputs is kept.

    Inputs `(B, heads, T, head_dim)`, without mask, causality and dropout; the result has the same shape.
    """

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scaling = scaling
        return F.scaled_dot_product_attention(query, key, value, scale=scaling)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
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
