"""DINO-WM: dynamics of frozen patch tokens (arXiv 2411.04983).

A frozen backbone turns each frame into patch tokens; embeddings of the action block, and of proprioception where there
is any, are appended to every one of them; a transformer that is causal over frames, not over patches, predicts the
tokens of the next frame. Shapes: B batch, T time, P patches, W width of a latent token, A action block, S plans.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init

from ..configuration_checks import check_sizes
from ..plain_numbers import plain_fields
from ..predictor_lewm import LeWMPredictorAttention, LeWMPredictorMLP
from ..proprioception_lewm import check_fields, check_given
from .configuration import WorldModelPreTrainedConfig
from .frozen import FrozenBackboneModel

KeyValues = list[tuple[Tensor, Tensor]]


@plain_fields
@strict
class DinoWMConfig(WorldModelPreTrainedConfig):
    """DINO-WM on DINOv2 ViT-S/14. Defaults: the published sizes, 14 x 14 tokens of 384.

    Args:
        backbone: a registered name such as `"efficientnet-lite0"`, or folder or Hub id of a transformers model.
        backbone_revision: branch, tag or commit of a Hub backbone.
        backbone_size: side that frames are resized to before the backbone sees them; default: `image_size`.
        backbone_config: the backbone's architecture; filled when a model is made, so that a checkpoint can be built
            before its backbone is fetched.
        backbone_fingerprint: of the weights that the model was trained on; filled likewise.
        pretrained: `False` builds the backbone with random weights, which are then saved like all others.
        num_patches, feature_size: tokens of a frame and their width, which must be the backbone's.
        action_embed_size, proprioception_embed_size: what is appended to each token.
        proprioception_key: columns of the data set that a frame comes with as a second input, joined in this order;
            `None`: pictures alone.
        proprioception_size, proprioception_mean, proprioception_std: how many numbers they have, and the float64
            statistics of each; measured on the data set. 0: none.
        predictor_layers, predictor_heads, predictor_head_dim, predictor_mlp_size, predictor_dropout: the transformer.
    """

    model_type = "dino_wm"

    image_size: int = 196
    backbone: str = "facebook/dinov2-small"
    backbone_revision: str | None = None
    backbone_size: int | None = None
    backbone_config: dict | None = None
    backbone_fingerprint: str | None = None
    pretrained: bool = True
    num_patches: int = 196
    feature_size: int = 384

    action_embed_size: int = 10
    proprioception_key: list[str] | None = None
    proprioception_size: int = 0
    proprioception_mean: list[float | int] | None = None
    proprioception_std: list[float | int] | None = None
    proprioception_embed_size: int = 10

    predictor_layers: int = 6
    predictor_heads: int = 16
    predictor_head_dim: int = 64
    predictor_mlp_size: int = 2048
    predictor_dropout: float | int = 0.1

    @property
    def latent_size(self) -> int:
        """W: features of a patch, and what of proprioception is appended to it."""
        return self.feature_size + (self.proprioception_embed_size if self.proprioception_size else 0)

    @property
    def predictor_hidden_size(self) -> int:
        """Width of a predictor token: that of a latent token and the action's embedding."""
        return self.latent_size + self.action_embed_size

    def validate_sizes(self) -> None:
        """Refuses sizes below 1.

        Raises:
            ValueError: one line that names the value.
        """
        check_sizes(
            self,
            (
                "num_patches", "feature_size", "action_embed_size", "proprioception_embed_size", "predictor_layers",
                "predictor_heads", "predictor_head_dim", "predictor_mlp_size",
            ),
        )  # fmt: skip

    def validate_proprioception(self) -> None:
        """Refuses fields about proprioception that contradict each other.

        Raises:
            ValueError: one line that names the value.
        """
        check_fields(self)


class FrameAttention(LeWMPredictorAttention):
    """Attention of one frame's tokens to themselves and to all tokens of earlier frames."""

    is_causal = False

    def remember(self, hidden: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Keys and values alone, for tokens whose own output nobody needs."""
        width = self.qkv.out_features // 3
        key, value = F.linear(self.norm(hidden), self.qkv.weight[width:]).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return (key, value) if past is None else (torch.cat([past[0], key], 1), torch.cat([past[1], value], 1))


class DinoWMPredictorLayer(nn.Module):
    def __init__(self, config: DinoWMConfig):
        super().__init__()
        self.attention = FrameAttention(config)
        self.mlp = LeWMPredictorMLP(config)

    def forward(self, hidden: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.attention(hidden, past)
        hidden = hidden + attended
        return hidden + self.mlp(hidden), present


class DinoWMPredictor(nn.Module):
    """Transformer over the patches of at most `history_size` frames, learned positions, causal over frames.

    Frame after frame with the keys and values of those before: the mask needs no tensor, and a roll-out keeps them.
    """

    def __init__(self, config: DinoWMConfig):
        super().__init__()
        self.position_embedding = nn.Parameter(
            torch.zeros(config.history_size, config.num_patches, config.predictor_hidden_size)
        )
        self.layers = nn.ModuleList(DinoWMPredictorLayer(config) for _ in range(config.predictor_layers))
        self.norm = nn.LayerNorm(config.predictor_hidden_size)

    def forward(self, tokens: Tensor, position: int, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """One frame's tokens `(B, P, width)`, its place in the window, what came before -> output tokens and cache."""
        hidden, present = tokens + self.position_embedding[position], []
        for index, layer in enumerate(self.layers):
            hidden, key_value = layer(hidden, past and past[index])
            present.append(key_value)
        return self.norm(hidden), present

    def remember(self, tokens: Tensor, position: int, past: KeyValues | None) -> KeyValues:
        """The cache alone: spares the top layer everything but keys and values."""
        hidden, present = tokens + self.position_embedding[position], []
        for index, layer in enumerate(self.layers[:-1]):
            hidden, key_value = layer(hidden, past and past[index])
            present.append(key_value)
        return [*present, self.layers[-1].attention.remember(hidden, past and past[-1])]


class DinoWMModel(FrozenBackboneModel):
    """Frozen backbone, embeddings of action and proprioception, predictor. Latents `(P, W)`.

    Args:
        config: sizes, and which backbone; see `DinoWMConfig`.

    Raises:
        ValueError: where the backbone's tokens are others than the config says.
    """

    config: DinoWMConfig
    config_class = DinoWMConfig
    _no_split_modules = ["DinoWMPredictorLayer"]
    learned = "its dynamics learned from actions and frozen features"

    @property
    def method(self) -> tuple[str, str | None]:
        """Name and link; on another backbone than DINOv2 it is not called DINO-WM."""
        architecture = self.config.backbone_config or {}
        if str(architecture.get("model_type", "")).startswith("dinov2"):
            return "DINO-WM", "https://arxiv.org/abs/2411.04983"
        return f"world model on frozen features of {self.config.backbone}", None

    def __init__(self, config: DinoWMConfig):
        super().__init__(config)
        self.encoder = self.build_frozen_encoder()
        made, told = (self.encoder.patches, self.encoder.width), (config.num_patches, config.feature_size)
        if made != told:
            raise ValueError(
                f"backbone {config.backbone} makes {made[0]} tokens of {made[1]}, but the config says {told[0]} of "
                f"{told[1]}: set num_patches={made[0]} and feature_size={made[1]}"
            )
        self.action_encoder = nn.Linear(config.action_block_size, config.action_embed_size)
        self.proprioception_encoder = (
            nn.Linear(config.proprioception_size, config.proprioception_embed_size)
            if config.proprioception_size
            else None
        )
        self.predictor = DinoWMPredictor(config)
        self.post_init()
        self.freeze_backbone()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, DinoWMPredictor):
            init.normal_(module.position_embedding)

    def encode(self, pixel_values: Tensor, proprioception: Tensor | None = None) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` and, of models with it, proprioception `(B, T, N)` -> `(B, T, P, W)`.

        Raises:
            ValueError: where proprioception is missing, or is given to a model without it.
        """
        return self.with_proprioception(self.patch_tokens(pixel_values), proprioception)

    def with_proprioception(self, tokens: Tensor, proprioception: Tensor | None) -> Tensor:
        """Patch tokens `(B, T, P, feature_size)` -> latents `(B, T, P, W)`; see `encode`.

        Raises:
            ValueError: where proprioception is missing, of another size, or given to a model without it.
        """
        check_given(self.config, proprioception, tokens.shape[:2])
        encoder = self.proprioception_encoder
        if proprioception is None or encoder is None:  # either both are there or neither, or it was refused above
            return tokens
        embedded = encoder(proprioception.to(tokens.dtype))
        return torch.cat([tokens, embedded[:, :, None].expand(*tokens.shape[:3], -1)], -1)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Next latents `(B, T, P, W)`: entry t is the successor of `latents[:, t]` under `actions[:, t]`.

        Args:
            latents: `(B, T, P, W)`, T <= history_size, consecutive frames.
            actions: `(B, T, A)` z-scored action blocks; block t leaves frame t.

        Raises:
            ValueError: for more frames than `history_size`, or another number or width of blocks.
        """
        if latents.shape[1] > self.config.history_size or actions.shape[1] != latents.shape[1]:
            raise ValueError(
                f"got {latents.shape[1]} frames and {actions.shape[1]} action blocks: expected equally many, at most "
                f"history_size={self.config.history_size}"
            )
        tokens, predicted, past = self._tokens(latents, actions), [], None
        for position, frame in enumerate(tokens.unbind(1)):
            hidden, past = self.predictor(frame, position, past)
            predicted.append(hidden[..., : self.config.latent_size])
        return torch.stack(predicted, 1)

    def rollout(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        """Imagines S candidate plans from one context: `(B, S, T, P, W)`, entry t after block t.

        Equal to sliding a window of `history_size` frames and calling `predict` each time. Keys and values are kept
        while the window grows; once it slides, positions are re-indexed and its frames are computed again, all but
        the last one without the top layer's output.

        Args:
            context: `(B, C, P, W)` latents of the last C frames; more than `history_size` are cut off.
            candidates: `(B, S, T, A)` z-scored action blocks; the first one leaves the last context frame.
            executed: `(B, C - 1, A)` z-scored blocks between the context frames; needed if C > 1.

        Raises:
            ValueError: for another number of executed blocks, or blocks of another width than the config's.
        """
        samples, horizon = candidates.shape[1:3]
        context, executed = self.check_rollout(context, candidates, executed)
        frames, history = context.shape[1], self.config.history_size
        blocks = candidates.flatten(0, 1)
        if executed is not None:
            blocks = torch.cat([executed.repeat_interleave(samples, 0), blocks], 1)
        actions = self._embedded(blocks)
        latents = list(context.repeat_interleave(samples, 0).unbind(1))
        past, known = None, 0  # keys and values of the first `known` frames of the window
        for end in range(frames, frames + horizon):
            start = max(0, end - history)
            if start:
                past, known = None, 0
            for position in range(known, end - start - 1):
                token = self._joined(latents[start + position], actions[:, start + position])
                past = self.predictor.remember(token, position, past)
            token = self._joined(latents[end - 1], actions[:, end - 1])
            hidden, past = self.predictor(token, end - start - 1, past)
            known = end - start
            latents.append(hidden[..., : self.config.latent_size])
        return torch.stack(latents[frames:], 1).unflatten(0, (-1, samples))

    def losses(self, batch: Mapping[str, Tensor], step_inputs: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Mean squared error of teacher-forced predictions of all latent entries; no gradient through the targets.

        Args:
            batch: `pixel_values` `(B, T, 3, H, W)`, or in their place `patch_tokens` `(B, T, P, feature_size)` that
                were computed before; `actions` `(B, T, A)`, and `proprioception` `(B, T, N)` where the config has it.
            step_inputs: none; this loss draws nothing.

        Returns:
            `"loss"`, the same as `"prediction_loss"`; `"feature_loss"` and, where there is any,
            `"proprioception_loss"` are its two parts; `"embeddings"` `(B, T, P, W)`.
        """
        tokens = batch.get("patch_tokens")
        tokens = self.patch_tokens(batch["pixel_values"]) if tokens is None else tokens.to(self.predictor.norm.weight)
        latents = self.with_proprioception(tokens, batch.get("proprioception"))
        predicted = self.predict(latents[:, :-1], batch["actions"][:, : latents.shape[1] - 1])
        with torch.autocast(latents.device.type, enabled=False):
            error = (predicted.float() - latents[:, 1:].float().detach()).square()
            loss = error.mean()
            found = {"loss": loss, "prediction_loss": loss, "embeddings": latents}
            size = self.config.feature_size
            found["feature_loss"] = error[..., :size].mean()
            if self.config.proprioception_size:
                found["proprioception_loss"] = error[..., size:].mean()
        return found

    def _embedded(self, blocks: Tensor) -> Tensor:
        """Action blocks `(N, T, A)` -> `(N, T, action_embed_size)`."""
        self.check_blocks(blocks)
        return self.action_encoder(blocks.to(self.action_encoder.bias.dtype))

    @staticmethod
    def _joined(latents: Tensor, action: Tensor) -> Tensor:
        """`(N, P, W)` and `(N, action_embed_size)` -> `(N, P, W + action_embed_size)`."""
        return torch.cat([latents, action[:, None].expand(-1, latents.shape[1], -1).to(latents.dtype)], -1)

    def _tokens(self, latents: Tensor, actions: Tensor) -> Tensor:
        embedded = self._embedded(actions)[:, :, None].expand(*latents.shape[:3], -1)
        return torch.cat([latents, embedded.to(latents.dtype)], -1)
