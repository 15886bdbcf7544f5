"""Goal-conditioned imitation: the floors that any planning has to beat. No world model, no search.

`ImitationModel` regresses the action block that the data's behavior took on its way to a later frame (goal-conditioned
supervised learning, Ghosh et al. 2021, arXiv 1912.06088). Trained from pixels with an encoder of its own it is
goal-conditioned behavior cloning (GCBC); on a frozen backbone, a world model of this package among them, it is a
goal-conditioned inverse dynamics model (GC-IDM, arXiv 2605.08732), here with the goal's distance as a one-hot vector.
"""

from collections.abc import Mapping

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from ..configuration_lewm import LeWMConfig
from ..encoders import build_encoder
from ..heads_lewm import LeWMActor
from ..plain_numbers import plain_fields
from ..predictor_lewm import LeWMProjector
from ..sigreg import all_reduce_sum, world_size
from .frozen import FrozenBackboneModel


@plain_fields
@strict
class ImitationConfig(LeWMConfig):
    """The encoder, projector and actor of `LeWMConfig`; what it says of predictor and SIGReg is not used.

    Args:
        backbone: `None` trains encoder and projector from pixels; otherwise what stays frozen: a registered name such
            as `"efficientnet-lite0"`, or folder or Hub id of a world model or transformers model.
        backbone_revision, backbone_size, backbone_config, backbone_fingerprint, pretrained: see `DinoWMConfig`.
        actor, actor_weight, actor_hidden_size: see `LeWMConfig`; there is always an actor.
    """

    model_type = "goal_imitation"

    backbone: str | None = None
    backbone_revision: str | None = None
    backbone_size: int | None = None
    backbone_config: dict | None = None
    backbone_fingerprint: str | None = None
    pretrained: bool = True

    actor: bool = True
    actor_weight: float | int = 1.0
    actor_hidden_size: int = 512

    def validate_actor(self) -> None:
        """Refuses a model that has nothing to train.

        Raises:
            ValueError: one line that names the value.
        """
        if not self.actor:
            raise ValueError("actor=False leaves nothing to train: leave it at True")


class ImitationModel(FrozenBackboneModel):
    """Frames and a goal -> the next action block. Follows the contract of an actor; it has no `rollout`.

    Args:
        config: sizes, and what sees the frames; see `ImitationConfig`.
    """

    config: ImitationConfig
    config_class = ImitationConfig
    learned = "learned by imitation of the data's behavior"

    @property
    def method(self) -> tuple[str, str]:
        """Name and link: behavior cloning from pixels, or an inverse dynamics model on frozen features."""
        if self.config.backbone is None:
            return "goal-conditioned behavior cloning policy", "https://arxiv.org/abs/1912.06088"
        return "goal-conditioned inverse dynamics policy", "https://arxiv.org/abs/2605.08732"

    def __init__(self, config: ImitationConfig):
        super().__init__(config)
        self.projector = None
        if config.backbone is None:
            self.encoder = build_encoder(config)
            self.projector = LeWMProjector(self.encoder.output_size, config)
            size = config.embed_dim
        else:
            self.encoder = self.build_frozen_encoder()
            size = self.encoder.patches * self.encoder.width
        # Features of a foreign backbone may have any scale.
        self.actor = LeWMActor(size, config, standardize=config.backbone is not None)
        self.post_init()
        if config.backbone is not None:
            self.freeze_backbone()

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` -> what the actor sees of each, `(B, T, D)`.

        Raises:
            ValueError: on another rank, channel count or size than the config's.
        """
        return self.observe(pixel_values)[0]

    def observe(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """`encode`, and the encoder's output before the projector; the same where the encoder is frozen."""
        if self.projector is None:
            tokens = self.patch_tokens(pixel_values).flatten(2)
            return tokens, tokens
        self.check_frames(pixel_values)
        features = self.encoder(pixel_values.flatten(0, 1)).unflatten(0, pixel_values.shape[:2])
        return self.projector(features), features

    def act(
        self,
        embeddings: Tensor,
        goal_embeddings: Tensor,
        blocks_left: Tensor | int,
        features: Tensor | None = None,
        goal_features: Tensor | None = None,
    ) -> Tensor:
        """The next z-scored action block `(B, A)`.

        Args:
            embeddings, goal_embeddings: `(B, D)` of the frame and of the goal.
            blocks_left: `(B,)` whole numbers, or one for all: blocks until the goal is due; beyond 1 to
                `actor_max_blocks` the nearest of these counts.
            features, goal_features: not looked at.

        Raises:
            ValueError: where `blocks_left` are not whole numbers, one or B.
        """
        return self.actor(self.actor.standardize(embeddings), self.actor.standardize(goal_embeddings), blocks_left)

    def losses(self, batch: Mapping[str, Tensor], step_inputs: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Mean squared error of the z-scored blocks over all pairs of a frame and a later one of its window.

        Args:
            batch: `pixel_values` `(B, T, 3, H, W)`, or of a frozen backbone `patch_tokens` `(B, T, P, width)` that were
                computed before; `actions` `(B, T, A)`; optionally `goal_pixel_values` `(B, 3, H, W)` (or
                `goal_patch_tokens` `(B, P, width)`) with `goal_blocks` `(B,)`, one more goal for each window and how
                many blocks after its first frame it is seen.
            step_inputs: none; this loss draws nothing.

        Returns:
            `"loss"`, the same as `"actor_loss"`, and `"embeddings"` `(B, T, D)`.
        """
        embeddings = self._seen(batch, "")
        frames = embeddings.shape[1]
        times = torch.arange(frames, device=embeddings.device).expand(len(embeddings), -1)
        goals = embeddings
        if "goal_blocks" in batch:
            goals = torch.cat([embeddings, self._seen(batch, "goal_")], 1)
            times = torch.cat([times, batch["goal_blocks"][:, None].to(times)], 1)
        actions = batch["actions"][:, : frames - 1]
        now, later = torch.triu_indices(frames - 1, goals.shape[1], 1, device=embeddings.device)
        left = times[:, later] - times[:, now]
        valid = (left >= 1) & (left <= self.config.actor_max_blocks)
        rows = self.actor.standardize(goals.flatten(0, 1)).unflatten(0, goals.shape[:2])
        predicted = self.actor(rows[:, now][valid], rows[:, later][valid], left[valid])
        with torch.autocast(embeddings.device.type, enabled=False):
            squares = (predicted.float() - actions[:, now][valid].float()).square().mean(-1)
            # Ranks may have unequally many pairs; the mean over ranks must be the mean over all of them.
            loss = squares.sum() * (world_size() / all_reduce_sum(valid.sum().float()))
        return {"loss": loss, "actor_loss": loss, "embeddings": embeddings}

    def _seen(self, batch: Mapping[str, Tensor], prefix: str) -> Tensor:
        """What the actor sees of a window's frames, or of its one goal: `(B, T or 1, D)`."""
        tokens = batch.get(f"{prefix}patch_tokens")
        if tokens is not None:
            return tokens.to(self.actor.net[0].bias.dtype).reshape(
                len(tokens), -1, self.encoder.patches * self.encoder.width
            )
        pixels = batch[f"{prefix}pixel_values"]
        return self.encode(pixels[:, None] if prefix else pixels)
