"""A planner that computes what the reference implementations compute, as a baseline: nothing is shared or kept.

Every step of every candidate runs the whole window through action encoder, predictor and projector, attention is
PyTorch's fused kernel, weights lie as training left them, and each iteration reads its costs back to the host. Start
and goal are encoded before, which of the two reference implementations only the newer one does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm_hf import LeWMModel
from lewm_hf.planning import PlanSettings


def predict(model: LeWMModel, embeddings: Tensor, blocks: Tensor) -> Tensor:
    """`(N, T, D)` and `(N, T, A)` -> every frame's successor `(N, T, D)`."""
    actions, predictor = model.action_encoder, model.predictor
    condition = actions.fc2(F.silu(actions.fc1(actions.bottleneck(blocks))))
    hidden = predictor.input_projection(embeddings) + predictor.position_embedding[:, : embeddings.shape[1]]
    for layer in predictor.layers:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = layer.modulation(F.silu(condition)).chunk(6, -1)
        rows = layer.attention.norm(layer.norm1(hidden) * (1 + scale_a) + shift_a)
        query, key, value = (
            part.unflatten(-1, (layer.attention.heads, -1)).transpose(1, 2)
            for part in layer.attention.qkv(rows).chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + gate_a * layer.attention.out(attended.transpose(1, 2).flatten(2))
        rows = layer.mlp.norm(layer.norm2(hidden) * (1 + scale_m) + shift_m)
        hidden = hidden + gate_m * layer.mlp.fc2(F.gelu(layer.mlp.fc1(rows)))
    rows = predictor.output_projection(predictor.norm(hidden)).flatten(0, 1)
    rows = model.pred_proj.batch_norm(model.pred_proj.fc1(rows))
    return model.pred_proj.fc2(F.gelu(rows)).unflatten(0, embeddings.shape[:2])


def rollout(model: LeWMModel, context: Tensor, candidates: Tensor) -> Tensor:
    """From one context frame: `(B, 1, D)`, `(B, S, T, A)` -> `(B, S, T, D)`."""
    samples, horizon = candidates.shape[1:3]
    embeddings, blocks = context.repeat_interleave(samples, 0), candidates.flatten(0, 1)
    for end in range(1, horizon + 1):
        window = slice(max(0, end - model.config.history_size), end)
        following = predict(model, embeddings[:, window], blocks[:, window])[:, -1:]
        embeddings = torch.cat([embeddings, following], 1)
    return embeddings[:, 1:].unflatten(0, (-1, samples))


@torch.no_grad()
def plan(model: LeWMModel, context: Tensor, goal: Tensor, settings: PlanSettings) -> Tensor:
    """The cross-entropy method, one problem after the other -> `(B, horizon, A)` z-scored action blocks.

    Args:
        model: in evaluation mode.
        context: `(B, 1, D)` embedding of each problem's observation.
        goal: `(B, D)`.
        settings: `solver.samples`, `solver.iterations`, the elites of CEM (30 by default), `horizon`, `seed`,
            `rollout_dtype`.
    """
    dtype = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}[settings.rollout_dtype]
    generator = torch.Generator(context.device).manual_seed(settings.seed)
    search = settings.search
    elites = min(getattr(search, "elites", 30), search.samples)
    plans = []
    for frame, wanted in zip(context.split(1), goal.split(1), strict=True):
        shape = (1, search.samples, settings.horizon, model.config.action_block_size)
        mean = torch.zeros(shape[2:], device=context.device)
        std = torch.ones_like(mean)
        for _ in range(search.iterations):
            candidates = mean + std * torch.randn(shape, generator=generator, device=context.device)
            candidates[:, 0] = mean
            with torch.autocast(context.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                imagined = rollout(model, frame, candidates)
            costs = (imagined[:, :, -1].float() - wanted[:, None].float()).square().sum(-1)[0]
            chosen = costs.topk(elites, largest=False)
            best = candidates[0, chosen.indices]
            mean, std = best.mean(0), best.std(0)
            chosen.values.mean().item()
        plans.append(mean)
    return torch.stack(plans)
