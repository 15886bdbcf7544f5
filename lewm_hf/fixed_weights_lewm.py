"""LeWM's weights laid out for a search, and what they compute of a window of tokens; see `rollout_lewm.py`.

- BatchNorm is folded into the linear layer before it, the first two layers of the action encoder, between which there
  is no activation, into one; a layer's modulations of all blocks are one matrix product;
- weights lie as the matrix product reads them fastest (one core of an Intel Xeon with AMX, 150 rows, float32: 144 to
  168 GFLOP/s transposed beside 119 to 138 as `nn.Linear` keeps them; bfloat16: 610 to 980 packed beside 520 to 720);
- softmax ignores what all scores have in common, and its weights sum to one: keys and values are made of what
  distinguishes a token from the first of its window, which itself needs neither query nor key nor value, and one matrix
  `out @ value` says what it adds to every token of the window (a tenth of all operations less);
- attention over the few tokens of a window is sums of products instead of many tiny matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .modeling_lewm import LeWMModel, LeWMProjector

# Of a predictor whose weights are worth packing. Packed ones cannot be part of a recording (`recordings.py`), without
# which threads hold each other up in small operations. Plans of a model of width 96 in bfloat16, AMD EPYC: one core
# takes 107 ms with packed weights and 115 with plain ones, two take 176 and 64.
WIDE = 128

Token = tuple[Tensor, Tensor]  # key and value, (problems, candidates or 1, heads, head_dim) each


class Past(NamedTuple):
    """What a layer keeps of a window's tokens: the first one, what it adds to every output, keys and values of others.

    `(problems, candidates or 1, width)` each.
    """

    first: Tensor
    output: Tensor
    tokens: list[Token]


def packs(dtype: torch.dtype, device: torch.device, width: int) -> bool:
    """Whether oneDNN's packed weights, which torch.compile uses for frozen layers, beat a plain product.

    Args:
        width: of the predictor's tokens.
    """
    if width < WIDE:
        return False
    possible = device.type == "cpu" and dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    return possible and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class FixedLinear:
    """`(..., in) -> (..., out)`: a linear layer, and perhaps GELU behind it, whose weights never change.

    Args:
        weight, bias: `(out, in)` and `(out,)` or `None`.
        dtype: of arithmetic and result.
        packed: whether the weight is laid out for oneDNN; see `packs`.
        gelu: apply the exact GELU to the result.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, packed: bool = False, gelu: bool = False
    ):
        weight = weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.gelu = gelu
        self.packed = packed
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
        return torch.ops.aten.gelu_(out) if self.gelu else out


class FixedProjector:
    """`LeWMProjector` in evaluation mode, its BatchNorm folded into the layer before it."""

    def __init__(self, projector: LeWMProjector, dtype: torch.dtype, packed: bool):
        norm, wide = projector.batch_norm, torch.promote_types(dtype, torch.float32)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = (projector.fc1.bias.to(wide) - norm.running_mean) * scale + norm.bias
        self.fc1 = FixedLinear(projector.fc1.weight.to(wide) * scale[:, None], bias, dtype, packed, gelu=True)
        self.fc2 = FixedLinear(projector.fc2.weight, projector.fc2.bias, dtype, packed)

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.fc2(self.fc1(hidden))


class FixedLayer:
    """`LeWMPredictorLayer` on tokens `(T, problems, candidates or 1, width)` whose modulation is known."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype, packed: bool):
        attention, mlp = layer.attention, layer.mlp
        self.dtype, self.heads, self.eps = dtype, attention.heads, layer.norm1.eps
        query, key, value = attention.qkv.weight.detach().chunk(3)
        wide, out = torch.promote_types(dtype, torch.float32), attention.out.weight.detach()
        self.size = len(query) // self.heads
        self.query = FixedLinear(query / math.sqrt(self.size), None, dtype, packed)
        self.key_value = FixedLinear(torch.cat([key, value]), None, dtype, packed)
        self.qkv = FixedLinear(attention.qkv.weight, None, dtype, packed)
        self.out_of_window = FixedLinear(out, attention.out.bias, dtype, packed)
        self.first = FixedLinear(out.to(wide) @ value.to(wide), attention.out.bias, dtype, packed)
        self.out = FixedLinear(out, None, dtype, packed)
        self.modulation = FixedLinear(*_one_plus_scales(layer.modulation, wide), dtype, packed)
        self.fc1 = FixedLinear(mlp.fc1.weight, mlp.fc1.bias, dtype, packed, gelu=True)
        self.fc2 = FixedLinear(mlp.fc2.weight, mlp.fc2.bias, dtype, packed)
        self.norms = [(norm.weight.detach().to(dtype), norm.bias.detach().to(dtype), norm.eps)
                      for norm in (attention.norm, mlp.norm)]  # fmt: skip

    def __call__(self, hidden: Tensor, modulation: Tensor, past: Past | None, last_only: bool) -> tuple[Tensor, Past]:
        """Output of all new tokens or of the last one, and what later tokens of this window need.

        Args:
            hidden: the new tokens.
            modulation: theirs, from `modulate`.
            past: of the window's tokens before them.
        """
        rows = self._modulated(hidden, modulation[0], modulation[1], self.norms[0])
        if past is None:
            past, later = Past(rows[0], self.first(rows[0]), []), rows[1:]
            branches = [past.output[None]] * (len(later) == 0 or not last_only)
        else:
            later, branches = rows, []
        if len(later):
            keys, values = self.key_value(later - past.first).unflatten(-1, (2, self.heads, -1)).unbind(-3)
            past = past._replace(tokens=past.tokens + list(zip(keys, values, strict=True)))
            queries = self.query(later[-1:] if last_only else later).unflatten(-1, (self.heads, -1))
            for seen, query in enumerate(queries, len(past.tokens) - len(queries) + 1):
                attend(query, past.tokens[:seen])
            branches.append(self.out(queries.flatten(-2)).add_(past.output))
        branch = branches[0] if len(branches) == 1 else torch.cat(branches)
        return self._after_attention(hidden, modulation, branch, last_only), past

    def window(self, hidden: Tensor, modulation: Tensor, last_only: bool) -> Tensor:
        """Output of all tokens of a whole window, or of the last one, `(T or 1, problems, candidates, width)`.

        Half the operations of a call, and some more arithmetic: faster where rows are few.

        Args:
            hidden: `(T, problems, candidates, width)`, `modulation` theirs.
        """
        tokens, problems, samples = hidden.shape[:3]
        rows = self._modulated(hidden, modulation[0], modulation[1], self.norms[0])
        query, key, value = self.qkv(rows).view(tokens, -1, 3, self.heads, self.size).permute(2, 1, 3, 0, 4)
        query = query[:, :, -1:] if last_only else query
        branch = F.scaled_dot_product_attention(query, key, value, is_causal=not last_only)
        branch = self.out_of_window(branch.permute(2, 0, 1, 3).reshape(query.shape[2], problems, samples, -1))
        return self._after_attention(hidden, modulation, branch, last_only)

    def _after_attention(self, hidden: Tensor, modulation: Tensor, branch: Tensor, last_only: bool) -> Tensor:
        _, _, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation[:, -1:] if last_only else modulation
        hidden = _gated(hidden[-1:] if last_only else hidden, gate_attn, branch)
        rows = self._modulated(hidden, shift_mlp, scale_mlp, self.norms[1])
        return _gated(hidden, gate_mlp, self.fc2(self.fc1(rows)))

    def modulate(self, condition: Tensor) -> Tensor:
        """Conditions `(T, problems, candidates or 1, width)` -> `(6, T, problems, candidates or 1, width)`.

        Parts lie one after the other: they are read for several windows, and rows far apart miss the cache.
        """
        return self.modulation(condition).unflatten(-1, (6, -1)).movedim(-2, 0).contiguous()

    def _modulated(self, hidden: Tensor, shift: Tensor, scale: Tensor, norm: tuple) -> Tensor:
        width, (weight, bias, eps) = hidden.shape[-1:], norm
        rows = F.layer_norm(hidden, width, eps=self.eps).to(self.dtype)
        return F.layer_norm(torch.addcmul(shift, rows, scale), width, weight, bias, eps)


def _gated(hidden: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    return torch.addcmul(hidden, gate.to(hidden.dtype), branch.to(hidden.dtype))


def _one_plus_scales(modulation: nn.Linear, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a modulation whose two scales are one plus what the action says."""
    bias = modulation.bias.detach().to(wide).clone()
    bias.unflatten(0, (6, -1))[[1, 4]] += 1
    return modulation.weight.detach(), bias


def attend(query: Tensor, tokens: list[Token]) -> None:
    """Overwrites a query `(problems, candidates, heads, head_dim)`, scaled already, by what it makes of its tokens.

    Its window's first token, with a score of zero and a value of zero, is not among them.
    """
    scores = [(query * key).sum(-1, keepdim=True) for key, _ in tokens]
    if len(scores) == 1:  # the softmax of two is a sigmoid
        weights = [scores[0].sigmoid_()]
    else:
        weights = torch.stack([torch.zeros_like(scores[0]), *scores]).softmax(0)[1:]
    torch.mul(weights[0], tokens[0][1], out=query)
    for weight, (_, value) in zip(weights[1:], tokens[1:], strict=True):
        query.addcmul_(weight, value)


class FixedWeights:
    """What a `FixedRollout` reads of a model, laid out.

    Args:
        model: whose action encoder, predictor and `pred_proj` are plain and in evaluation mode.
        dtype: of matrix products and activations. The tokens themselves stay in float32.

    `tensors` are all of it in one order, and `layout` tells whether others compute the same with their own.
    """

    def __init__(self, model: LeWMModel, dtype: torch.dtype):
        self.dtype, self.wide = dtype, torch.promote_types(dtype, torch.float32)
        encoder, predictor = model.action_encoder, model.predictor
        self.packed = packed = packs(dtype, model.device, predictor.position_embedding.shape[-1])
        bottleneck, fc1 = encoder.bottleneck, encoder.fc1
        first, second = bottleneck.weight.detach().to(self.wide), fc1.weight.detach().to(self.wide)
        bias = second @ bottleneck.bias.detach().to(self.wide) + fc1.bias.detach().to(self.wide)
        self.action_fc1 = FixedLinear(second @ first, bias, dtype, packed)
        self.action_fc2 = FixedLinear(encoder.fc2.weight, encoder.fc2.bias, dtype, packed)
        self.positions = predictor.position_embedding.detach()[0].to(self.wide)
        self.layers = [FixedLayer(layer, dtype, packed) for layer in predictor.layers]
        self.norm = predictor.norm.weight.detach().to(self.wide), predictor.norm.bias.detach().to(self.wide)
        self.eps = predictor.norm.eps
        self.projections = [
            FixedLinear(part.weight, part.bias, dtype, packed) if isinstance(part, nn.Linear) else None
            for part in (predictor.input_projection, predictor.output_projection)
        ]
        self.pred_proj = FixedProjector(model.pred_proj, dtype, packed)
        self.history = model.config.history_size
        self.tensors, self.layout = _contents(self)

    def modulations(self, blocks: Tensor) -> list[Tensor]:
        """Blocks `(T, problems, candidates or 1, A)` -> every layer's `(6, T, problems, candidates or 1, width)`."""
        condition = F.silu(self.action_fc2(F.silu(self.action_fc1(blocks.to(self.dtype).contiguous()))))
        return [layer.modulate(condition) for layer in self.layers]

    def predict(
        self, rows: Tensor, modulations: list[Tensor], first: int, past: Sequence[Past | None]
    ) -> tuple[Tensor, list[Past]]:
        """Predictor over new tokens from position `first` on: the last one's output, and what later ones need."""
        hidden, present = self._as_tokens(rows, first), []
        for index, layer in enumerate(self.layers):
            last_only = index == len(self.layers) - 1
            hidden, tokens = layer(hidden, modulations[index], past[index], last_only)
            present.append(tokens)
        return self._as_embeddings(hidden), present

    def predict_window(self, rows: Tensor, modulations: list[Tensor]) -> Tensor:
        """Predictor over the tokens of a whole window `(T, problems, candidates, D)`: the last one's output."""
        hidden = self._as_tokens(rows, 0)
        for index, layer in enumerate(self.layers):
            hidden = layer.window(hidden, modulations[index], index == len(self.layers) - 1)
        return self._as_embeddings(hidden)

    def _as_tokens(self, rows: Tensor, first: int) -> Tensor:
        """Tokens as the first layer reads them, at positions from `first` on."""
        into = self.projections[0]
        hidden = rows if into is None else into(rows.to(self.dtype)).to(self.wide)
        return hidden + self.positions[first : first + len(rows), None, None]

    def _as_embeddings(self, hidden: Tensor) -> Tensor:
        """What `pred_proj` is given of the last layer's output."""
        hidden = F.layer_norm(hidden, hidden.shape[-1:], *self.norm, eps=self.eps).to(self.dtype)
        out_of = self.projections[1]
        return hidden if out_of is None else out_of(hidden)


def _contents(part: Any) -> tuple[list[Tensor], tuple]:
    """The tensors that something consists of, at any depth, and their shapes among whatever else it consists of."""
    if isinstance(part, Tensor):
        return [part], (part.shape, part.dtype)
    if isinstance(part, list | tuple):
        found = [_contents(each) for each in part]
    elif hasattr(part, "__dict__"):
        found = [_contents(each) for each in vars(part).values()]
    else:
        return [], (part,)
    return [tensor for tensors, _ in found for tensor in tensors], tuple(rest for _, rest in found)
