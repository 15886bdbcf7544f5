"""Attention of a training step on a CPU: the numbers of the formula, and no more memory than the fused kernel needs."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from lewm_hf import LeWMConfig, LeWMModel, attention_lewm
from lewm_hf.attention_lewm import RecomputedAttention

TOKENS = 81


def by_formula(query, key, value, grad):
    """Softmax attention and its three gradients in float64, from their definitions."""
    query, key, value, grad = (x.double() for x in (query, key, value, grad))
    scale = query.shape[-1] ** -0.5
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * scale
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    out = torch.einsum("bhij,bhjd->bhid", weights, value)
    grad_weights = torch.einsum("bhid,bhjd->bhij", grad, value)
    grad_scores = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdim=True)) * scale
    return (
        out,
        torch.einsum("bhij,bhjd->bhid", grad_scores, key),
        torch.einsum("bhij,bhid->bhjd", grad_scores, query),
        torch.einsum("bhij,bhid->bhjd", weights, grad),
    )


@pytest.mark.parametrize("portion_bytes", [1, 2 * 3 * 2 * TOKENS**2, 2**30])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_recomputed_attention_is_the_formula_whatever_the_portion(dtype, tolerance, portion_bytes, monkeypatch):
    monkeypatch.setattr(attention_lewm, "PORTION_BYTES", portion_bytes)
    generator = torch.Generator().manual_seed(0)
    # Strided, as heads come out of a linear layer; five frames fill no whole number of portions.
    query, key, value, grad = torch.randn(4, 5, TOKENS, 2, 16, generator=generator).to(dtype).transpose(2, 3)
    inputs = [x.detach().requires_grad_() for x in (query, key, value)]
    out = RecomputedAttention.apply(*inputs, 16**-0.5)
    out.backward(grad)
    for got, wanted in zip([out, *(x.grad for x in inputs)], by_formula(query, key, value, grad), strict=True):
        assert got.dtype == dtype
        assert (got.double() - wanted).abs().max() < tolerance * wanted.abs().max()


def test_a_bf16_step_keeps_no_probabilities_and_is_no_less_accurate():
    """82 tokens are more than are cheaper to spell out; a probability would be a saved tensor of 82 x 82."""
    config = LeWMConfig(
        image_size=36, patch_size=4, encoder_hidden_size=32, encoder_layers=2, encoder_heads=2, encoder_mlp_size=64,
        embed_dim=8, projector_hidden_size=16, predictor_hidden_size=16, predictor_layers=1, predictor_heads=2,
        predictor_head_dim=8, predictor_mlp_size=32, predictor_dropout=0.0, action_dim=2, sigreg_projections=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LeWMModel(config).train()
    pixels, actions = torch.randn(6, 4, 3, 36, 36), torch.randn(6, 3, config.action_block_size)
    directions = model.sigreg.directions(0, 0)

    def gradients(implementation, dtype=torch.bfloat16):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        shapes = set()
        with (
            saved_tensors_hooks(lambda x: (shapes.add(tuple(x.shape[-2:])), x)[1], lambda x: x),
            torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16),
        ):
            loss = model(pixels, actions, directions).loss
        loss.backward()
        return [layer.attention.qkv.weight.grad for layer in model.encoder.layers], (82, 82) in shapes

    exact, _ = gradients("eager", torch.float32)
    fused, kept = gradients("sdpa")
    spelled_out, kept_then = gradients("eager")
    assert kept_then and not kept
    for wanted, got, rounded in zip(exact, fused, spelled_out, strict=True):
        assert (got - wanted).norm() < 1.5 * (rounded - wanted).norm() < 0.2 * wanted.norm()
