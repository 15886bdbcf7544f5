"""Configuration of LeWorldModel (LeWM, arXiv 2603.19312). Defaults equal the released weights."""

import dataclasses
import logging
import math
import os
from typing import Any

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from .configuration_checks import (
    NOT_OURS,
    check_action_bounds,
    check_action_choices,
    check_action_rate,
    check_extent,
    check_names,
    check_sizes,
    strict_reason,
)
from .plain_numbers import plain_fields
from .proprioception_lewm import check_fields

logger = logging.getLogger(__name__)

# The task of transformers under which the planner is registered.
PIPELINE_TASK = "world-model-planning"
VISION_TRANSFORMERS = ("vit", "vit_conv_stem")


@plain_fields
@strict
class LeWMConfig(PreTrainedConfig):
    """Everything that the model, its training and its planner must agree on.

    The planner, the evaluator and the data path read these fields and take no duplicate argument.

    Args:
        image_size: side of the square input in pixels; `num_channels`: its channels, RGB.
        encoder: `"vit"` (ViT of this package, released weights), `"vit_conv_stem"` (the same behind a stem of strided
            convolutions, Xiao et al. 2021), `"spatial_softmax"` and `"conv"` (for small pictures), `"resnet18"`
            (transformers' `ResNetModel`), `"timm/<name>"` (any timm backbone, extra `timm`), or a name given to
            `lewm_hf.encoders.register_encoder`.
        encoder_kwargs: arguments of an encoder that has no fields here, such as
            `{"convolutions": [[16, 5, 2], [32, 3, 2], [32, 3, 1]], "maps": 32}` of `"spatial_softmax"`.
        patch_size, encoder_hidden_size, encoder_layers, encoder_heads, encoder_mlp_size: the ViT.
        embed_dim: size of one latent, the output of the projector.
        projector_hidden_size: hidden width of both projectors.
        predictor_hidden_size, predictor_layers, predictor_heads, predictor_head_dim, predictor_mlp_size: the causal
            transformer; linear maps in and out exist only where `embed_dim` differs from `predictor_hidden_size`.
        predictor_dropout: dropout on attention probabilities and on both branches of every block.
        history_size: frames that the predictor sees at most, and supervised positions of a training window.
        frameskip: environment steps between two frames; one action block holds `frameskip` actions.
        action_dim: size of one raw action. An action block is `frameskip * action_dim` wide.
        action_bottleneck_size, action_mlp_size: hidden widths of the action encoder.
        action_mean, action_std: float64 statistics of each raw action dimension (population std). `None` until a data
            set or a converter has filled them; planning refuses to run without them.
        action_statistics_source: the data set and the number of rows that they were measured on, where recorded.
        action_low, action_high: bounds of each raw action dimension, where the data set states them: plans stay within.
        action_choices: where an action is no vector but one or several choices, how many values each has; a raw action
            is then their one-hot vectors side by side. `None` for continuous actions.
        actions_per_second: how many raw actions a second of the training episodes has, where they tell: the rate that a
            robot's loop has to run at.
        proprioception_key: columns of the data set that a frame comes with as a second input, joined in this order;
            `None`: pictures alone.
        proprioception_size, proprioception_mean, proprioception_std: how many numbers they have, and the float64
            statistics of each; measured on the data set. 0: none.
        sigreg_weight: lambda, the weight of SIGReg in the loss. SIGReg itself grows with the batch size.
        rollout_blocks, rollout_weight: frames that training imagines beyond the first `history_size`, from its own
            predictions; a training window has `history_size + rollout_blocks` frames. Weight of their error.
        inverse_weight, inverse_hidden_size: weight and width of the inverse-dynamics head, which exists where the
            weight is positive.
        actor, actor_weight: whether there is a goal-conditioned actor, and the weight of its loss in joint training; an
            actor may also be fitted afterwards on frozen embeddings.
        actor_inputs: `"embeddings"`, or `"features"` for an actor that sees the encoder's output too.
        actor_hidden_size, actor_layers: width and hidden layers of the actor.
        actor_max_blocks: the farthest goal it is trained for, in action blocks.
        sigreg_knots, sigreg_t_max, sigreg_projections: quadrature nodes on `[0, t_max]`, random directions.
        initializer_range: standard deviation of fresh weights.
    """

    model_type = "lewm"
    attribute_map = {
        "hidden_size": "embed_dim",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_heads",
        "intermediate_size": "encoder_mlp_size",
    }

    image_size: int = 224
    num_channels: int = 3
    encoder: str = "vit"
    patch_size: int = 14
    encoder_hidden_size: int = 192
    encoder_layers: int = 12
    encoder_heads: int = 3
    encoder_mlp_size: int = 768
    encoder_kwargs: dict | None = None

    embed_dim: int = 192
    projector_hidden_size: int = 2048

    predictor_hidden_size: int = 192
    predictor_layers: int = 6
    predictor_heads: int = 16
    predictor_head_dim: int = 64
    predictor_mlp_size: int = 2048
    predictor_dropout: float | int = 0.1

    history_size: int = 3
    frameskip: int = 5
    action_dim: int = 2
    action_bottleneck_size: int = 10
    action_mlp_size: int = 768
    action_mean: list[float | int] | None = None
    action_std: list[float | int] | None = None
    action_statistics_source: str | None = None
    action_low: list[float | int] | None = None
    action_high: list[float | int] | None = None
    action_choices: list[int] | None = None
    actions_per_second: float | int | None = None

    proprioception_key: list[str] | None = None
    proprioception_size: int = 0
    proprioception_mean: list[float | int] | None = None
    proprioception_std: list[float | int] | None = None

    sigreg_weight: float | int = 0.09
    sigreg_knots: int = 17
    sigreg_t_max: float | int = 3.0
    sigreg_projections: int = 1024

    rollout_blocks: int = 1
    rollout_weight: float | int = 0.0
    inverse_weight: float | int = 0.0
    inverse_hidden_size: int = 256
    actor: bool = False
    actor_weight: float | int = 0.0
    actor_inputs: str = "embeddings"
    actor_hidden_size: int = 256
    actor_layers: int = 3
    actor_max_blocks: int = 5

    initializer_range: float = 0.02

    @property
    def action_block_size(self) -> int:
        """Width of one action block: `frameskip * action_dim`."""
        return self.frameskip * self.action_dim

    @property
    def window_frames(self) -> int:
        """Frames of a training window: the predictor's history, and what is predicted after it."""
        return self.history_size + self.rollout_blocks

    @property
    def has_inverse_dynamics(self) -> bool:
        """Whether there is a head that reads the action block between two embeddings."""
        return self.inverse_weight > 0

    @property
    def has_actor(self) -> bool:
        """Whether there is a goal-conditioned actor."""
        return self.actor or self.actor_weight > 0

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Transformers' method, which also tells the original format of published checkpoints from this one.

        Raises:
            ValueError: one line that says how to convert such a checkpoint.
        """
        config, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if "_target_" in config:  # the layout of the released checkpoints
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a published LeWM checkpoint in its original format: convert it "
                f"once with `lewm convert {pretrained_model_name_or_path} --out DIR` and load DIR"
            )
        return config, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Transformers' method; fields that nobody knows are kept and named in a warning.

        Raises:
            ValueError: one line for a value that is impossible, or a name that is nearly one of a field.
        """
        name = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "this checkpoint"
        try:
            loaded = super().from_dict(config_dict, **kwargs)
            unknown = check_names(cls.known_names(), list(config_dict))
        except StrictDataclassError as error:
            raise ValueError(f"config.json of {name} is invalid: {strict_reason(error)}") from error
        except ValueError as error:
            raise ValueError(f"config.json of {name} is invalid: {error}") from error
        if unknown:
            logger.warning(
                "config.json of %s has fields that this package does not know, they are kept and change nothing: %s",
                name, ", ".join(unknown),
            )  # fmt: skip
        return loaded

    @classmethod
    def known_names(cls) -> set[str]:
        """Names that a config.json may hold without a word."""
        return {field.name for field in dataclasses.fields(cls)} | NOT_OURS | set(cls.attribute_map)

    def validate_names(self) -> None:
        """Refuses near-misses of the names of fields.

        Raises:
            ValueError: one line that names the value.
        """
        check_names(self.known_names(), list(vars(self)))

    def validate_encoder(self) -> None:
        """Refuses sizes of a ViT that do not divide each other.

        Raises:
            ValueError: one line that names the value.
        """
        if self.encoder in VISION_TRANSFORMERS:
            check_sizes(
                self, ("patch_size", "encoder_hidden_size", "encoder_layers", "encoder_heads", "encoder_mlp_size")
            )
            if self.image_size % self.patch_size:
                raise ValueError(
                    f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}: change one of "
                    "them"
                )
            if self.encoder_hidden_size % self.encoder_heads:
                raise ValueError(
                    f"encoder_hidden_size={self.encoder_hidden_size} is not a multiple of "
                    f"encoder_heads={self.encoder_heads}: change one of them"
                )

    def validate_sizes(self) -> None:
        """Refuses sizes below 1, fewer than two quadrature nodes, and models that no machine could hold.

        Raises:
            ValueError: one line that names the value.
        """
        check_sizes(
            self,
            (
                "image_size", "num_channels", "embed_dim", "projector_hidden_size", "predictor_hidden_size",
                "predictor_layers", "predictor_heads", "predictor_head_dim", "predictor_mlp_size", "history_size",
                "frameskip", "action_dim", "action_bottleneck_size", "action_mlp_size", "sigreg_projections",
                "sigreg_knots", "rollout_blocks", "inverse_hidden_size", "actor_hidden_size", "actor_layers",
                "actor_max_blocks",
            ),
        )  # fmt: skip
        if self.sigreg_knots < 2:
            raise ValueError(f"sigreg_knots={self.sigreg_knots} must be at least 2: the quadrature needs both ends")
        check_extent(
            max(self.predictor_layers, self.encoder_layers if self.encoder in VISION_TRANSFORMERS else 0),
            self._main_parameters(),
            self.image_size,
        )

    def _main_parameters(self) -> int:
        """About how many parameters the large matrices have, and how many numbers SIGReg's directions."""
        width, inner = self.predictor_hidden_size, self.predictor_heads * self.predictor_head_dim
        count = self.predictor_layers * width * (4 * inner + 6 * width + 2 * self.predictor_mlp_size)
        count += self.history_size * width + 2 * self.embed_dim * width
        count += 2 * self.projector_hidden_size * self.embed_dim + self.embed_dim * self.sigreg_projections
        count += self.action_bottleneck_size * (self.action_block_size + self.action_mlp_size)
        count += self.action_mlp_size * width + self.sigreg_projections * self.sigreg_knots
        if self.encoder in VISION_TRANSFORMERS:
            width = self.encoder_hidden_size
            tokens = (self.image_size // max(self.patch_size, 1)) ** 2
            count += self.encoder_layers * width * (4 * width + 2 * self.encoder_mlp_size)
            count += width * (tokens + self.num_channels * self.patch_size**2 + self.projector_hidden_size)
        return count

    def validate_heads(self) -> None:
        """Refuses weights below 0, unknown inputs of the actor, and a weight of imagined frames without any.

        Raises:
            ValueError: one line that names the value.
        """
        for name in ("sigreg_weight", "rollout_weight", "inverse_weight", "actor_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value} must be a finite number of at least 0")
        if self.actor_inputs not in ("embeddings", "features"):
            raise ValueError(f"actor_inputs={self.actor_inputs!r} is unknown: use 'embeddings' or 'features'")
        if self.rollout_weight > 0 and self.rollout_blocks < 2:
            raise ValueError(
                f"rollout_weight={self.rollout_weight} has nothing to weigh with rollout_blocks={self.rollout_blocks}: "
                "set rollout_blocks to 2 or more"
            )

    def validate_action_bounds(self) -> None:
        """Refuses action bounds and choices that contradict each other or the action's size, and a rate of none.

        Raises:
            ValueError: one line that names the value.
        """
        check_action_bounds(self.action_low, self.action_high, self.action_dim)
        check_action_choices(self.action_choices, self.action_dim)
        check_action_rate(self.actions_per_second)

    def validate_proprioception(self) -> None:
        """Refuses fields about proprioception that contradict each other.

        Raises:
            ValueError: one line that names the value.
        """
        check_fields(self)

    def validate_action_statistics(self) -> None:
        """Refuses action statistics of another size than an action, not finite, or half given.

        Raises:
            ValueError: one line that names the value.
        """
        if (self.action_mean is None) != (self.action_std is None):
            raise ValueError("action_mean and action_std go together: give both or neither")
        if self.action_mean is None or self.action_std is None:
            return
        for name in ("action_mean", "action_std"):
            values = getattr(self, name)
            if len(values) != self.action_dim:
                raise ValueError(f"{name} has {len(values)} entries, but action_dim={self.action_dim}: they must agree")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name}={values} must be finite: recompute the statistics of the data set")
        if min(self.action_std) < 0:
            raise ValueError(f"action_std={self.action_std} must not be negative")
