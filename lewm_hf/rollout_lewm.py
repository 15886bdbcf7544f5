"""LeWM's roll-out for a search: thousands of candidates, while the weights stay what they are.

`LeWMModel.rollout` calls the model's modules, where adapters, quantizers, offloading, hooks and autograd expect to be
called. Here the same numbers are computed from weights alone, laid out once for all candidates of a search:

- BatchNorm is folded into the linear layer before it, the first two layers of the action encoder, between which there
  is no activation, into one, and the modulations of all layers and blocks into one matrix product;
- weights lie as the matrix product reads them fastest (one core of an Intel Xeon with AMX, 150 rows, float32: 144 to
  168 GFLOP/s transposed beside 119 to 138 as `nn.Linear` keeps them; bfloat16: 610 to 980 packed beside 520 to 720);
- the first token of a window attends to itself alone: it has no query, and what it attends to is its value;
- attention over the few tokens of a window is sums of products instead of many tiny matrix products;
- what the context contributes is computed once per problem and shared by its candidates;
- on CPUs candidates are taken in portions that fit the cache, a core each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .threads import side_by_side

if TYPE_CHECKING:
    from .modeling_lewm import LeWMModel, LeWMProjector

# Candidates that one core takes at once: fewer re-read the weights too often, more do not fit its cache.
LARGEST_PORTION, SMALLEST_PORTION = 150, 32
# Sums of products over longer windows would cost more than matrix products.
LONGEST_WINDOW = 8

Token = tuple[Tensor, Tensor]  # key and value, (problems, candidates or 1, heads, head_dim) each


def is_plain(module: nn.Module, types: tuple[type, ...]) -> bool:
    """Whether calling `module` does nothing but what its class says: no adapter, quantizer, offloading or hook."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    tensors = [*module._parameters.values(), *module._buffers.values()]
    plain = all(
        type(tensor) in (nn.Parameter, Tensor) and not tensor.is_meta for tensor in tensors if tensor is not None
    )
    return type(module) in types and "forward" not in vars(module) and plain and not hooks


def packs(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN's packed weights, which torch.compile uses for frozen layers, beat a plain product."""
    possible = device.type == "cpu" and dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    return possible and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class FixedLinear:
    """`(..., in) -> (..., out)`: a linear layer, and perhaps GELU behind it, whose weights never change.

    Args:
        weight, bias: `(out, in)` and `(out,)` or `None`.
        dtype: of arithmetic and result.
        gelu: apply the exact GELU to the result.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool = False):
        weight = weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.gelu = gelu
        self.packed = packs(dtype, weight.device)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        else:
            self.weight = weight.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            activation, kind = ("gelu", "none") if self.gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], kind)
        out = x @ self.weight
        if self.bias is not None:
            out += self.bias
        return F.gelu(out) if self.gelu else out


class FixedProjector:
    """`LeWMProjector` in evaluation mode, its BatchNorm folded into the layer before it."""

    def __init__(self, projector: LeWMProjector, dtype: torch.dtype):
        norm, wide = projector.batch_norm, torch.promote_types(dtype, torch.float32)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = (projector.fc1.bias.to(wide) - norm.running_mean) * scale + norm.bias
        self.fc1 = FixedLinear(projector.fc1.weight.to(wide) * scale[:, None], bias, dtype, gelu=True)
        self.fc2 = FixedLinear(projector.fc2.weight, projector.fc2.bias, dtype)

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.fc2(self.fc1(hidden))


class FixedLayer:
    """`LeWMPredictorLayer` without its modulation, on tokens `(T, problems, candidates or 1, width)`."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype):
        attention, mlp = layer.attention, layer.mlp
        self.dtype, self.heads, self.eps = dtype, attention.heads, layer.norm1.eps
        query, key_value = attention.qkv.weight.detach().tensor_split([attention.qkv.out_features // 3])
        query = query / math.sqrt(len(query) // self.heads)
        self.query = FixedLinear(query, None, dtype)
        self.key_value = FixedLinear(key_value, None, dtype)
        self.out = FixedLinear(attention.out.weight, attention.out.bias, dtype)
        self.fc1 = FixedLinear(mlp.fc1.weight, mlp.fc1.bias, dtype, gelu=True)
        self.fc2 = FixedLinear(mlp.fc2.weight, mlp.fc2.bias, dtype)
        self.norms = [(norm.weight.detach().to(dtype), norm.bias.detach().to(dtype), norm.eps)
                      for norm in (attention.norm, mlp.norm)]  # fmt: skip

    def __call__(self, hidden: Tensor, modulation: Tensor, past: list[Token], last_only: bool) -> tuple[Tensor, list]:
        """Output of all new tokens or of the last one, and keys and values of all tokens so far.

        Args:
            hidden: the new tokens.
            modulation: `(T, problems, candidates or 1, 6 * width)` theirs; one has been added to the scales.
        """
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, -1)
        rows = self._modulated(hidden, shift_attn, scale_attn, self.norms[0])
        keys, values = self.key_value(rows).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        present = past + list(zip(keys, values, strict=True))
        kept = slice(-1, None) if last_only else slice(None)
        start = len(rows) - 1 if last_only else 0
        alone = int(start == 0 and not past)  # the first token of a window sees itself alone
        attended = [values[0]] * alone
        if start + alone < len(rows):
            queries = self.query(rows[start + alone :]).unflatten(-1, (self.heads, -1))
            ends = range(len(past) + start + alone + 1, len(present) + 1)
            attended += [attend(query, present[:end]) for query, end in zip(queries, ends, strict=True)]
        attended = attended[0][None] if len(attended) == 1 else torch.stack(attended)
        hidden = self._gated(hidden[kept], gate_attn[kept], self.out(attended.flatten(-2)))
        rows = self._modulated(hidden, shift_mlp[kept], scale_mlp[kept], self.norms[1])
        return self._gated(hidden, gate_mlp[kept], self.fc2(self.fc1(rows))), present

    def _modulated(self, hidden: Tensor, shift: Tensor, scale: Tensor, norm: tuple) -> Tensor:
        width, (weight, bias, eps) = hidden.shape[-1:], norm
        rows = F.layer_norm(hidden, width, eps=self.eps).to(self.dtype)
        return F.layer_norm(torch.addcmul(shift, rows, scale), width, weight, bias, eps)

    def _gated(self, hidden: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
        if hidden.dtype == self.dtype:
            return torch.addcmul(hidden, gate, branch)
        return hidden + gate * branch


def attend(query: Tensor, tokens: list[Token]) -> Tensor:
    """What a query `(problems, candidates, heads, head_dim)`, scaled already, makes of the tokens that it sees."""
    if len(tokens) == 2:  # the softmax of two is a sigmoid
        (first_key, first), (second_key, second) = tokens
        weight = (query * (second_key - first_key)).sum(-1, keepdim=True).sigmoid()
        return torch.lerp(first.expand_as(second), second, weight)
    weights = torch.stack([(query * key).sum(-1, keepdim=True) for key, _ in tokens]).softmax(0)
    attended = weights[0] * tokens[0][1]
    for weight, (_, value) in zip(weights[1:], tokens[1:], strict=True):
        attended = torch.addcmul(attended, weight, value)
    return attended


class FixedRollout:
    """Computes what `model.rollout` does, for as long as the model's weights are what they were; see this module.

    Several threads may call it at once. Gradients go through the model instead.

    Args:
        model: whose action encoder, predictor and `pred_proj` are plain and in evaluation mode.
        dtype: of matrix products and activations. The tokens themselves stay in float32.
    """

    def __init__(self, model: LeWMModel, dtype: torch.dtype):
        self.model, self.dtype = model, dtype
        self.wide = torch.promote_types(dtype, torch.float32)
        encoder, predictor = model.action_encoder, model.predictor
        bottleneck, fc1 = encoder.bottleneck, encoder.fc1
        first, second = bottleneck.weight.detach().to(self.wide), fc1.weight.detach().to(self.wide)
        bias = second @ bottleneck.bias.detach().to(self.wide) + fc1.bias.detach().to(self.wide)
        self.action_fc1 = FixedLinear(second @ first, bias, dtype)
        self.action_fc2 = FixedLinear(encoder.fc2.weight, encoder.fc2.bias, dtype)
        biases = [layer.modulation.bias.detach().to(self.wide).clone() for layer in predictor.layers]
        for bias in biases:  # both scales enter as one plus what the action says
            bias.unflatten(0, (6, -1))[[1, 4]] += 1
        weights = [layer.modulation.weight.detach() for layer in predictor.layers]
        self.modulation = FixedLinear(torch.cat(weights), torch.cat(biases), dtype)
        self.positions = predictor.position_embedding.detach()[0].to(self.wide)
        self.layers = [FixedLayer(layer, dtype) for layer in predictor.layers]
        self.norm = [predictor.norm.weight.detach().to(self.wide), predictor.norm.bias.detach().to(self.wide)]
        self.projections = [
            FixedLinear(part.weight, part.bias, dtype) if isinstance(part, nn.Linear) else None
            for part in (predictor.input_projection, predictor.output_projection)
        ]
        self.pred_proj = FixedProjector(model.pred_proj, dtype)
        self.cores = torch.get_num_threads()

    def __call__(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        """`(B, C, D)`, `(B, S, T, A)` -> `(B, S, T, D)`; see `LeWMModel.rollout`."""
        if torch.is_grad_enabled() and candidates.requires_grad:
            return self.model.rollout(context, candidates, executed)
        context, executed = self.model.check_rollout(context, candidates, executed)
        with torch.no_grad(), torch.autocast(context.device.type, enabled=False):
            parts = [candidates]
            if context.device.type == "cpu":
                parts = candidates.split(self._portion(*candidates.shape[:2]), 1)
            imagined = side_by_side(lambda part: self._imagine(context, part, executed), parts)
            return torch.cat(imagined, 1).to(context.dtype)

    def _portion(self, problems: int, samples: int) -> int:
        """Candidates of a portion. Does not depend on which thread asks, nor do the bits of a plan therefore."""
        most = max(SMALLEST_PORTION, min(LARGEST_PORTION, math.ceil(problems * samples / self.cores))) // problems
        return math.ceil(samples / math.ceil(samples / max(1, most)))

    def _imagine(self, context: Tensor, candidates: Tensor, executed: Tensor | None) -> Tensor:
        history, shared = self.model.config.history_size, context.shape[1] - 1
        modulations = self._modulations(candidates.permute(2, 0, 1, 3))
        tokens = context.transpose(0, 1)[:, :, None].to(self.wide)  # (C, B, 1, D)
        known = self._modulations(executed.transpose(0, 1)[:, :, None]) if shared else None
        new, imagined, past, begin = [tokens[-1:]], [], None, 0
        for end in range(shared + 1, shared + 1 + len(modulations)):
            start = max(0, end - history)
            if past is None or start > 0:  # positions are re-indexed: nothing computed before is still true
                past, begin = [[] for _ in self.layers], max(start, shared)
                if start < shared:
                    _, past = self._predict(tokens[start:shared], known[start:shared], 0, past)
            window = slice(begin - shared, end - shared)
            rows = torch.cat([token.expand(-1, -1, candidates.shape[1], -1) for token in new[window]])
            hidden, past = self._predict(rows, modulations[window], begin - start, past)
            begin = end
            imagined.append(self.pred_proj(hidden).to(self.wide))
            new.append(imagined[-1])
        return torch.cat(imagined).permute(1, 2, 0, 3)

    def _modulations(self, blocks: Tensor) -> Tensor:
        """Blocks `(T, problems, candidates or 1, A)` -> `(T, problems, candidates or 1, layers, 6 * width)`."""
        condition = self.action_fc2(F.silu(self.action_fc1(blocks.to(self.dtype).contiguous())))
        return self.modulation(F.silu(condition)).unflatten(-1, (len(self.layers), -1))

    def _predict(self, rows: Tensor, modulations: Tensor, first: int, past: list[list[Token]]):
        """Predictor over new tokens from position `first` on: the last one's output, and what later ones need."""
        into, out_of = self.projections
        hidden = rows if into is None else into(rows.to(self.dtype)).to(self.wide)
        hidden, present = hidden + self.positions[first : first + len(rows), None, None], []
        for index, layer in enumerate(self.layers):
            last_only = index == len(self.layers) - 1
            hidden, tokens = layer(hidden, modulations[..., index, :], past[index], last_only)
            present.append(tokens)
        hidden = F.layer_norm(hidden, hidden.shape[-1:], *self.norm, eps=self.model.predictor.norm.eps).to(self.dtype)
        return hidden if out_of is None else out_of(hidden), present


def prepare(model: LeWMModel, types: tuple[type, ...], dtype: torch.dtype | None = None) -> FixedRollout | None:
    """A `FixedRollout`, or `None` where something stands between the weights and what the modules would compute.

    Args:
        model: a LeWM.
        types: of the modules that its roll-out runs through; any other, derived ones too, has to be called.
        dtype: see `FixedRollout`; default: the model's.
    """
    modules = [module for part in (model.action_encoder, model.predictor, model.pred_proj) for module in part.modules()]
    parameters = [parameter for module in modules for parameter in module.parameters(recurse=False)]
    if model.config.history_size > LONGEST_WINDOW or any(module.training for module in modules):
        return None
    if len({parameter.device for parameter in parameters}) > 1 or not all(
        is_plain(module, types) for module in modules
    ):
        return None
    return FixedRollout(model, model.dtype if dtype is None else dtype)
