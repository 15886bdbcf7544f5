"""What follows the encoder: the projector, the action encoder and the predictor, a causal transformer.

Shapes: B batch, T time, D embedding, A action block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_lewm import attend
from .configuration_lewm import LeWMConfig
from .plain_modules import is_plain
from .sigreg import GlobalBatchNorm


class LeWMProjector(nn.Module):
    """Linear, BatchNorm, GELU, Linear: `(..., size_in) -> (..., embed_dim)`.

    BatchNorm undoes what the encoder's final LayerNorm would otherwise impose on SIGReg (paper, section 3).
    """

    def __init__(self, size_in: int, config: LeWMConfig):
        super().__init__()
        self.fc1 = nn.Linear(size_in, config.projector_hidden_size)
        self.batch_norm = GlobalBatchNorm(config.projector_hidden_size)
        self.fc2 = nn.Linear(config.projector_hidden_size, config.embed_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        rows = self.batch_norm(self.fc1(hidden.flatten(0, -2)))
        # A quantized weight is stored in another type than it computes in; its bias is not.
        return self.fc2(F.gelu(rows.to(self.fc2.bias.dtype))).unflatten(0, hidden.shape[:-1])


class LeWMActionEncoder(nn.Module):
    """Action blocks `(B, T, A) -> (B, T, predictor_hidden_size)`, through a bottleneck whatever A is."""

    def __init__(self, config: LeWMConfig):
        super().__init__()
        self.bottleneck = nn.Linear(config.action_block_size, config.action_bottleneck_size)
        self.fc1 = nn.Linear(config.action_bottleneck_size, config.action_mlp_size)
        self.fc2 = nn.Linear(config.action_mlp_size, config.predictor_hidden_size)

    def forward(self, actions: Tensor) -> Tensor:
        hidden = self.bottleneck(actions.to(self.bottleneck.bias.dtype))
        return self.fc2(F.silu(self.fc1(hidden)))


class LeWMPredictorAttention(nn.Module):
    """Causal attention behind a LayerNorm of its own, which the released weights were trained with."""

    is_causal = True

    def __init__(self, config: LeWMConfig):
        super().__init__()
        self.config = config
        self.heads, width = config.predictor_heads, config.predictor_heads * config.predictor_head_dim
        self.norm = nn.LayerNorm(config.predictor_hidden_size, eps=1e-5)
        self.qkv = nn.Linear(config.predictor_hidden_size, 3 * width, bias=False)
        self.out = nn.Linear(width, config.predictor_hidden_size)
        self.dropout = config.predictor_dropout

    def forward(
        self, hidden: Tensor, past: tuple[Tensor, Tensor] | None = None, last_only: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the attended tokens and the keys and values, `(B, T, heads, head_dim)` each, of all tokens so far."""
        hidden = self.norm(hidden)
        if last_only and hidden.shape[1] > 1 and is_plain(self.qkv, (nn.Linear,)):
            query_weight, key_value_weight = self.qkv.weight.tensor_split([self.qkv.out_features // 3])
            query = F.linear(hidden[:, -1:], query_weight).unflatten(-1, (self.heads, -1))
            key, value = F.linear(hidden, key_value_weight).unflatten(-1, (2, self.heads, -1)).unbind(2)
        else:
            query, key, value = self.qkv(hidden).unflatten(-1, (3, self.heads, -1)).unbind(2)
            query = query[:, -1:] if last_only else query
        if past is not None:
            key, value = torch.cat([past[0], key], 1), torch.cat([past[1], value], 1)
        attended = self.out(attend(self, query, key, value, self.dropout)[0])
        return F.dropout(attended, self.dropout, self.training), (key, value)


class LeWMPredictorMLP(nn.Module):
    def __init__(self, config: LeWMConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.predictor_hidden_size, eps=1e-5)
        self.fc1 = nn.Linear(config.predictor_hidden_size, config.predictor_mlp_size)
        self.fc2 = nn.Linear(config.predictor_mlp_size, config.predictor_hidden_size)
        self.dropout = config.predictor_dropout

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = F.dropout(F.gelu(self.fc1(self.norm(hidden))), self.dropout, self.training)
        return F.dropout(self.fc2(hidden), self.dropout, self.training)


class LeWMModulation(nn.Linear):
    """A type of its own for AdaLN-zero: transformers initializes modules that own parameters, not their parents."""


class LeWMPredictorLayer(GradientCheckpointingLayer):
    """A transformer block whose two branches are modulated by the action (AdaLN-zero)."""

    def __init__(self, config: LeWMConfig):
        super().__init__()
        width = config.predictor_hidden_size
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = LeWMPredictorAttention(config)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = LeWMPredictorMLP(config)
        self.modulation = LeWMModulation(width, 6 * width)

    def modulate(self, condition: Tensor) -> Tensor:
        """Action embeddings `(B, T, width)` -> `(B, T, 6 * width)`; depends on the action alone, so reusable."""
        return self.modulation(F.silu(condition))

    def forward(
        self,
        hidden: Tensor,
        condition: Tensor,
        modulation: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
        last_only: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`hidden` and `condition`, or the `modulation` made of it ahead, of the new tokens.

        `last_only` computes the output of the last token alone. Returns it and keys and values of all tokens so far.
        """
        # Made in here unless a roll-out reuses it: what shards a layer gathers its weights for its forward alone.
        modulation = self.modulate(condition) if modulation is None else modulation
        keep = slice(-1, None) if last_only else slice(None)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, -1)
        attended, present = self.attention(self.norm1(hidden) * (1 + scale_attn) + shift_attn, past, last_only)
        hidden = hidden[:, keep] + gate_attn[:, keep] * attended
        mlp = self.mlp(self.norm2(hidden) * (1 + scale_mlp[:, keep]) + shift_mlp[:, keep])
        return hidden + gate_mlp[:, keep] * mlp, present


class LeWMPredictor(nn.Module):
    """Causal transformer over at most `history_size` frames, learned positions, action modulation per token."""

    def __init__(self, config: LeWMConfig):
        super().__init__()
        width = config.predictor_hidden_size
        self.history_size = config.history_size
        self.position_embedding = nn.Parameter(torch.zeros(1, config.history_size, width))
        same = config.embed_dim == width
        self.input_projection = nn.Identity() if same else nn.Linear(config.embed_dim, width)
        self.output_projection = nn.Identity() if same else nn.Linear(width, config.embed_dim)
        self.layers = nn.ModuleList(LeWMPredictorLayer(config) for _ in range(config.predictor_layers))
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(
        self,
        embeddings: Tensor,
        condition: Tensor,
        modulations: list[Tensor] | None = None,
        first: int = 0,
        past: list | None = None,
        last_only: bool = False,
    ) -> tuple[Tensor, list]:
        """One pass over a window, or over the tokens that a window has gained.

        Args:
            embeddings: `(B, T, D)`, the tokens from position `first` on; `first + T <= history_size`.
            condition: `(B, T, width)` their action embeddings.
            modulations: what each layer made of `condition`, where it is known already.
            past: keys and values of every layer for the tokens before `first`.
            last_only: give the output of the last token alone, `(B, 1, D)`.

        Returns:
            `(B, T, D)` before `pred_proj`, and the keys and values of every layer.
        """
        positions = self.position_embedding[:, first : first + embeddings.shape[1]]
        hidden, present = self.input_projection(embeddings) + positions, []
        for index, layer in enumerate(self.layers):
            hidden, key_value = layer(
                hidden,
                condition,
                modulations and modulations[index],
                past and past[index],
                last_only and index == len(self.layers) - 1,
            )
            present.append(key_value)
        return self.output_projection(self.norm(hidden)), present
