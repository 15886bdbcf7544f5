"""LeWorldModel (LeWM, arXiv 2603.19312): a world model trained end to end from pixels with two loss terms.

An encoder maps each frame to one embedding; a causal transformer, modulated by the action block that leaves each
frame, predicts the next embedding; SIGReg keeps the embeddings Gaussian. The parts compute exactly what the released
weights were trained with, quirks included.

    frames (B, T, 3, H, W)                          action blocks (B, T, A)
            |                                                |
       encoder            encoder_*.py                 action_encoder           predictor_lewm.py
            | features (B, T, width), plus               | (B, T, predictor_hidden_size)
            | proprioception, embedded, if any               |
       projector          predictor_lewm.py                  |
            |                                                | scales, shifts and gates every layer
            +-- embeddings (B, T, D) ----------------> predictor                predictor_lewm.py
            |              |                                 |
            |              +--> SIGReg: sigreg_loss      pred_proj
            |                   sigreg.py                    |
            +------------- targets, one later ------->  predicted (B, T, D): prediction_loss

    encode   = encoder, projector: frames -> embeddings, the latents that a planner compares
    predict  = action_encoder, predictor, pred_proj: embeddings and blocks -> the next embeddings
    rollout  = predict again and again on its own embeddings, over a window of history_size frames
    losses   = prediction_loss + sigreg_weight * sigreg_loss; gradients flow through the targets too

Optional heads, an inverse dynamics model and an actor, read embeddings (heads_lewm.py). Shapes: B batch, T time, D
embedding, A action block, S candidate plans.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .attention_lewm import attend as attend  # known from here, too
from .attention_lewm import eager_attention_forward as eager_attention_forward
from .configuration_lewm import LeWMConfig
from .encoder_resnet import LeWMResNet as LeWMResNet
from .encoder_timm import LeWMTimmEncoder as LeWMTimmEncoder
from .encoder_vit import LeWMEncoderAttention, LeWMEncoderLayer
from .encoder_vit import LeWMPatchEmbedding as LeWMPatchEmbedding
from .encoder_vit import LeWMVisionTransformer as LeWMVisionTransformer
from .encoders import build_encoder
from .heads_lewm import LeWMActors, LeWMInverseDynamics
from .predictor_lewm import (
    LeWMActionEncoder,
    LeWMModulation,
    LeWMPredictor,
    LeWMPredictorAttention,
    LeWMPredictorLayer,
    LeWMPredictorMLP,
    LeWMProjector,
)
from .pretrained_lewm import LeWMPreTrainedModel
from .proprioception_lewm import check_given
from .rollout_lewm import prepare
from .sigreg import GlobalBatchNorm, SIGReg, global_batch_norms


@dataclass
class LeWMOutput(ModelOutput):
    """What one training window gives; frames alone give `embeddings` and `features` only.

    Args:
        loss: scalar, `prediction_loss + config.sigreg_weight * sigreg_loss`, and the other terms with their weights.
        prediction_loss: scalar, mean squared error over batch, time and dimensions; every prediction from real frames.
        sigreg_loss: scalar, about 1.05 on Gaussian embeddings, 0.402 x batch on collapsed ones.
        embeddings: `(B, T, D)` projected embeddings, the latents that the planner works with.
        predicted_embeddings: `(B, T - 1, D)`; entry t predicts `embeddings[:, t + 1]`.
        features: `(B, T, encoder width)` the encoder's output before the projector (the CLS token of the ViT).
        hidden_states: with `output_hidden_states=True`, what enters the ViT's first layer and leaves each of them, a
            tuple of `(B * T, patches + 1, width)`; empty for other encoders.
        attentions: with `output_attentions=True`, the ViT's attention probabilities, one
            `(B * T, heads, patches + 1, patches + 1)` per layer; empty for other encoders.
        rollout_loss: scalar, error of frames imagined from imagined ones; where `config.rollout_blocks > 1`.
        inverse_loss: scalar, error of the z-scored blocks read off consecutive embeddings; with that head.
        actor_loss: scalar, error of the actor's blocks; with that head.
    """

    loss: Tensor | None = None
    prediction_loss: Tensor | None = None
    sigreg_loss: Tensor | None = None
    embeddings: Tensor | None = None
    predicted_embeddings: Tensor | None = None
    features: Tensor | None = None
    rollout_loss: Tensor | None = None
    inverse_loss: Tensor | None = None
    actor_loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


# What a roll-out runs through.
ROLLOUT_TYPES = (
    LeWMActionEncoder, LeWMPredictor, LeWMPredictorLayer, LeWMPredictorAttention, LeWMPredictorMLP, LeWMModulation,
    LeWMProjector, GlobalBatchNorm, nn.Linear, nn.LayerNorm, nn.Identity, nn.ModuleList,
)  # fmt: skip


class LeWMModel(LeWMPreTrainedModel):
    """Encoder, action encoder, predictor and both loss terms.

    Args:
        config: sizes, weights of the losses and action statistics; see `LeWMConfig`.
    """

    method = ("LeWorldModel", "https://arxiv.org/abs/2603.19312")
    learned = "learned end to end from pixels and actions alone"
    output_class = LeWMOutput
    optional_heads = ("inverse_dynamics", "actor")
    _can_record_outputs = {"hidden_states": LeWMEncoderLayer, "attentions": LeWMEncoderAttention}

    def __init__(self, config: LeWMConfig):
        super().__init__(config)
        self.encoder = global_batch_norms(build_encoder(config))
        self.projector = LeWMProjector(self.encoder.output_size, config)
        # Adding a linear map of it to the features is the same as showing it to the projector beside them.
        size = config.proprioception_size
        self.proprioception_encoder = nn.Linear(size, self.encoder.output_size) if size else None
        self.action_encoder = LeWMActionEncoder(config)
        self.predictor = LeWMPredictor(config)
        self.pred_proj = LeWMProjector(config.embed_dim, config)
        self.sigreg = SIGReg(config.embed_dim, config.sigreg_knots, config.sigreg_t_max, config.sigreg_projections)
        self.inverse_dynamics = LeWMInverseDynamics(config) if config.has_inverse_dynamics else None
        self.actor = LeWMActors(self.encoder.output_size, config) if config.has_actor else None
        self._no_split_modules = [
            *self._no_split_modules,
            *getattr(self.encoder, "no_split_modules", [type(self.encoder).__name__]),
        ]
        self.post_init()

    def features(self, pixel_values: Tensor) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` -> the encoder's output before the projector, `(B, T, width)`.

        Raises:
            ValueError: on another rank, channel count or size than the config's.
        """
        self.check_frames(pixel_values)
        return self.encoder(pixel_values.flatten(0, 1)).unflatten(0, pixel_values.shape[:2])

    def encode(self, pixel_values: Tensor, proprioception: Tensor | None = None) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` -> embeddings `(B, T, D)`; see `observe`."""
        return self.observe(pixel_values, proprioception)[0]

    def observe(self, pixel_values: Tensor, proprioception: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalized frames `(B, T, 3, H, W)` -> embeddings `(B, T, D)` and features `(B, T, width)`, in one pass.

        Args:
            pixel_values: of the config's channels and size.
            proprioception: z-scored, `(B, T, N)`, of models with it; features are those of the picture alone.

        Raises:
            ValueError: on frames of another shape than the config's, or proprioception that is missing, superfluous or
                of another size.
        """
        check_given(self.config, proprioception, pixel_values.shape[:2])
        features = self.features(pixel_values)
        encoder = self.proprioception_encoder
        if proprioception is None or encoder is None:  # either both are there or neither, or it was refused above
            return self.projector(features), features
        body = encoder(proprioception.to(encoder.bias.dtype))
        return self.projector(features + body.to(features.dtype)), features

    def act(
        self,
        embeddings: Tensor,
        goal_embeddings: Tensor,
        blocks_left: Tensor | int,
        features: Tensor | None = None,
        goal_features: Tensor | None = None,
    ) -> Tensor:
        """The actor's next z-scored action block `(B, A)`.

        Args:
            embeddings, goal_embeddings: `(B, D)` of the frame and of the goal.
            blocks_left: `(B,)` whole numbers, or one for all: blocks until the goal is due; beyond 1 to
                `actor_max_blocks` the nearest of these counts.
            features, goal_features: `(B, width)` of the same frames where they are real; an imagined future has none.

        Raises:
            ValueError: where the checkpoint has no actor, or `blocks_left` are not whole numbers, one or B.
        """
        if self.actor is None:
            raise ValueError(
                "this checkpoint has no actor: fit one with `lewm train-actor`, train with actor_weight above 0, or "
                "plan without proposal"
            )
        return self.actor(embeddings, goal_embeddings, blocks_left, features, goal_features)

    def predict(self, embeddings: Tensor, actions: Tensor) -> Tensor:
        """Next embeddings `(B, T, D)`: entry t is the successor of `embeddings[:, t]` under `actions[:, t]`.

        Args:
            embeddings: `(B, T, D)`, T <= history_size, consecutive frames.
            actions: `(B, T, A)` z-scored action blocks; block t leaves frame t.

        Raises:
            ValueError: for more frames than `history_size`, or another number or width of blocks.
        """
        self.check_blocks(actions)
        if embeddings.shape[1] > self.config.history_size or actions.shape[1] != embeddings.shape[1]:
            raise ValueError(
                f"got {embeddings.shape[1]} embeddings and {actions.shape[1]} action blocks: "
                f"expected equally many, at most history_size={self.config.history_size}"
            )
        predicted, _ = self.predictor(embeddings, self.action_encoder(actions))
        return self.pred_proj(predicted)

    def rollout(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        """Imagines `S` candidate plans from one context: `(B, S, T, D)`, entry t after block t.

        Equal to sliding a window of `history_size` frames and calling `predict` each time, with less work: keys and
        values are kept while the window grows from its first position, those of the context before its last frame are
        computed once for all candidates, the action modulation is made once per block, and of the window's top layer
        and `pred_proj` only the last token is evaluated. Every candidate still has its own copy of the last context
        frame, and once the window slides its positions are re-indexed, so that its earlier tokens are computed again.
        `prepare_rollout` is faster still.

        Args:
            context: `(B, C, D)` embeddings of the last C frames; more than `history_size` are cut off.
            candidates: `(B, S, T, A)` z-scored action blocks; the first one leaves the last context frame.
            executed: `(B, C - 1, A)` z-scored blocks between the context frames; needed if C > 1.
        """
        context, executed = self.check_rollout(context, candidates, executed)
        history, (samples, horizon) = self.config.history_size, candidates.shape[1:3]
        # Tokens whose block was executed are the same for all candidates; from `shared` on they are not.
        shared = context.shape[1] - 1
        condition = self.action_encoder(candidates.flatten(0, 1))
        modulations = [layer.modulate(condition) for layer in self.predictor.layers]
        known = None if executed is None else self.action_encoder(executed)
        imagined = [context[:, -1:].repeat_interleave(samples, 0)]
        past, begin = None, 0  # keys and values of the window's tokens before `begin`
        for end in range(shared + 1, shared + 1 + horizon):
            start = max(0, end - history)
            if past is None or start > 0:
                past, begin = None, max(start, shared)
                if known is not None and start < shared:
                    _, past = self.predictor(context[:, start:shared], known[:, start:shared], last_only=True)
                    past = [tuple(x.repeat_interleave(samples, 0) for x in layer) for layer in past]
            new = slice(begin - shared, end - shared)
            hidden, past = self.predictor(
                torch.cat(imagined[new], 1), condition[:, new], [m[:, new] for m in modulations], begin - start, past,
                last_only=True,
            )  # fmt: skip
            begin = end
            imagined.append(self.pred_proj(hidden))
        return torch.cat(imagined[1:], 1).unflatten(0, (-1, samples))

    def prepare_rollout(self, dtype: torch.dtype | None = None) -> Callable[..., Tensor] | None:
        """`rollout` for a search, a multiple as fast: right until the weights change, and from several threads at once.

        Args:
            dtype: of its matrix products and activations; default: the model's.

        Returns:
            A function with the arguments of `rollout`, equal to it up to rounding, or `None` where adapters,
            quantizers, offloading or hooks have to be asked: call `rollout` then.
        """
        overridden = "rollout" in vars(self) or type(self).rollout is not LeWMModel.rollout
        return None if overridden else prepare(self, ROLLOUT_TYPES, dtype)

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor,
        actions: Tensor | None = None,
        sigreg_directions: Tensor | None = None,
        goal_pixel_values: Tensor | None = None,
        goal_blocks: Tensor | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        proprioception: Tensor | None = None,
        goal_proprioception: Tensor | None = None,
    ) -> LeWMOutput:
        """One training window, or frames to embed.

        Args:
            pixel_values: `(B, T, 3, H, W)` normalized frames, 2 <= T <= window_frames. Without `actions` any T, or
                single frames `(B, 3, H, W)`, whose embeddings are `(B, D)`.
            actions: `(B, T, A)` or `(B, T - 1, A)` z-scored action blocks; block t leaves frame t, a last one is
                unused.
            sigreg_directions: `(D, M)`, by default `model.sigreg.directions(0, number)`, the same on every rank: in
                training `number` counts the batches that BatchNorm has seen, in evaluation it is 0.
            goal_pixel_values: `(B, 3, H, W)` one later frame of each window's episode, a goal for the actor beside the
                window's own frames.
            goal_blocks: `(B,)` whole numbers: it is seen so many blocks after the window's first frame.
            return_loss: also compute the loss, where `actions` are given.
            output_hidden_states, output_attentions: also return the ViT's; attentions need
                `attn_implementation="eager"`.
            proprioception: `(B, T, N)` z-scored, beside the frames, of models with it; `(B, N)` beside single frames.
            goal_proprioception: `(B, N)` beside the goal's frame.

        Raises:
            ValueError: on shapes that do not fit the config, and for attentions that no implementation gives.
        """
        if (output_attentions or self.config.output_attentions) and self.config._attn_implementation != "eager":
            raise ValueError(
                f"attn_implementation={self.config._attn_implementation!r} gives no attention probabilities for "
                "output_attentions: call model.set_attn_implementation('eager') first"
            )
        if actions is None:
            return self._embed(pixel_values, proprioception)
        frames = pixel_values.shape[1]
        if not 2 <= frames <= self.config.window_frames or actions.shape[1] not in (frames, frames - 1):
            raise ValueError(
                f"a window of {frames} frames and {actions.shape[1]} action blocks does not fit: expected 2 to "
                f"history_size + rollout_blocks = {self.config.window_frames} frames and as many blocks, or one fewer"
            )
        if return_loss and sigreg_directions is None:
            sigreg_directions = self._default_directions()
        if goal_pixel_values is not None:
            pixel_values = torch.cat([pixel_values, goal_pixel_values[:, None]], 1)
            if goal_proprioception is not None:
                proprioception = torch.cat([proprioception, goal_proprioception[:, None]], 1)
        seen_embeddings, seen_features = self.observe(pixel_values, proprioception)
        embeddings, features, blocks = seen_embeddings[:, :frames], seen_features[:, :frames], actions[:, : frames - 1]
        predicted = self._predict_all(embeddings[:, :-1], blocks)
        if not return_loss:
            return LeWMOutput(embeddings=embeddings, predicted_embeddings=predicted, features=features)
        rollout_loss = inverse_loss = actor_loss = None
        if frames > self.config.history_size + 1:
            imagined = self._imagine(embeddings, predicted, blocks)
        if self.inverse_dynamics is not None:
            read = self.inverse_dynamics(embeddings[:, :-1], embeddings[:, 1:])
        if self.actor is not None:
            times = torch.arange(frames, device=actions.device).expand(len(actions), -1)
            times = times if goal_blocks is None else torch.cat([times, goal_blocks[:, None].to(times)], 1)
            actor_loss = self.actor.loss(seen_features, seen_embeddings, blocks, times)
        with torch.autocast(embeddings.device.type, enabled=False):
            # Gradients flow through the targets: SIGReg, not a stop-gradient, prevents collapse.
            prediction_loss = F.mse_loss(predicted.float(), embeddings[:, 1:].float())
            regularization, loss = self.regularization(embeddings, sigreg_directions), prediction_loss
            for weight, value in regularization.values():
                loss = loss + weight * value
            if frames > self.config.history_size + 1:
                rollout_loss = F.mse_loss(imagined.float(), embeddings[:, -imagined.shape[1] :].float())
                loss = loss + self.config.rollout_weight * rollout_loss
            if self.inverse_dynamics is not None:
                inverse_loss = F.mse_loss(read.float(), blocks.float())
                loss = loss + self.config.inverse_weight * inverse_loss
            if actor_loss is not None:
                loss = loss + self.config.actor_weight * actor_loss
        return self.output_class(
            loss=loss, prediction_loss=prediction_loss, embeddings=embeddings, predicted_embeddings=predicted,
            features=features, rollout_loss=rollout_loss, inverse_loss=inverse_loss, actor_loss=actor_loss,
            **{name: value for name, (_, value) in regularization.items()},
        )  # fmt: skip

    def _embed(self, pixel_values: Tensor, proprioception: Tensor | None) -> LeWMOutput:
        """`forward` without actions: frames `(B, T, 3, H, W)`, or single ones `(B, 3, H, W)`."""
        if pixel_values.dim() != 4:
            embeddings, features = self.observe(pixel_values, proprioception)
            return LeWMOutput(embeddings=embeddings, features=features)
        beside = None if proprioception is None else proprioception[:, None]
        embeddings, features = self.observe(pixel_values[:, None], beside)
        return LeWMOutput(embeddings=embeddings[:, 0], features=features[:, 0])

    def regularization(self, embeddings: Tensor, sigreg_directions: Tensor) -> dict[str, tuple[float, Tensor]]:
        """What keeps embeddings `(B, T, D)` from collapsing: weight and value of each term by its name."""
        return {"sigreg_loss": (self.config.sigreg_weight, self.sigreg(embeddings.transpose(0, 1), sigreg_directions))}

    def losses(self, batch: dict[str, Tensor], step_inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss and its terms by name, scalars, and the `"embeddings"` `(B, T, D)` that they are of.

        Args:
            batch: `pixel_values`, `actions` and, for the actor, `goal_pixel_values` and `goal_blocks`; of models with
                it `proprioception` and `goal_proprioception`; see `forward`.
            step_inputs: see there.
        """
        output = self(**batch, **step_inputs)
        return {name: value for name, value in output.items() if name.endswith("loss") or name == "embeddings"}

    def step_inputs(self, seed: int, number: int) -> dict[str, Tensor]:
        """What step `number` of a training needs beside its batch, the same on every rank: SIGReg's directions."""
        return {"sigreg_directions": self.sigreg.directions(seed, number)}

    def _predict_all(self, embeddings: Tensor, blocks: Tensor) -> Tensor:
        """Every frame's successor, `(B, T, D)`, from at most `history_size` real frames each."""
        history = self.config.history_size
        predicted = [self.predict(embeddings[:, :history], blocks[:, :history])]
        for end in range(history + 1, embeddings.shape[1] + 1):
            predicted.append(self.predict(embeddings[:, end - history : end], blocks[:, end - history : end])[:, -1:])
        return torch.cat(predicted, 1)

    def _imagine(self, embeddings: Tensor, predicted: Tensor, blocks: Tensor) -> Tensor:
        """The frames after the first imagined one, `(B, T - history_size - 1, D)`, each from the imagined before it."""
        history = self.config.history_size
        known = [*embeddings[:, :history].unbind(1), predicted[:, history - 1]]
        for end in range(history + 1, embeddings.shape[1]):
            window = torch.stack(known[end - history : end], 1)
            known.append(self.predict(window, blocks[:, end - history : end])[:, -1])
        return torch.stack(known[history + 1 :], 1)

    def get_input_embeddings(self) -> nn.Module:
        """What makes tokens of pixels in the ViT; other encoders as a whole."""
        return getattr(self.encoder, "patch_embedding", self.encoder)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces what `get_input_embeddings` returns."""
        if hasattr(self.encoder, "patch_embedding"):
            self.encoder.patch_embedding = value
        else:
            self.encoder = value

    @torch.compiler.disable
    def _default_directions(self) -> Tensor:
        """BatchNorm's count is equal on every rank and saved with the weights: a resumed run goes on where it was."""
        seen = int(self.projector.batch_norm.num_batches_tracked) if self.training else 0
        return self.sigreg.directions(0, seen)
