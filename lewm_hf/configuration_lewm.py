"""Configuration of LeWorldModel (LeWM, arXiv 2603.19312). Defaults equal the released weights."""

import dataclasses
import difflib
import math

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

ENCODERS = ("vit", "resnet18")
# What transformers of several versions and the Hub keep in a config.json beside the fields.
NOT_OURS = frozenset(
    {
        "model_type", "auto_map", "custom_pipelines", "torch_dtype", "attn_implementation", "output_attentions",
        "use_cache", "quantization_config", "tie_word_embeddings", "torchscript", "is_decoder", "add_cross_attention",
        "loss_type", "trust_remote_code",
    }
)  # fmt: skip


def strict_reason(error: StrictDataclassError) -> str:
    """What is wrong, out of a report of several lines: its last one."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ").removeprefix("TypeError: ")


@strict
class LeWMConfig(PreTrainedConfig):
    """Everything that the model, its training and its planner must agree on.

    The planner, the evaluator and the data path read these fields and take no duplicate argument.

    Args:
        image_size: side of the square input in pixels.
        encoder: `"vit"` (ViT of this package, released weights), `"resnet18"` (transformers' `ResNetModel`) or
            `"timm/<name>"` (any timm backbone, extra `timm`).
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
        sigreg_weight: lambda, the weight of SIGReg in the loss. SIGReg itself grows with the batch size.
        sigreg_knots, sigreg_t_max, sigreg_projections: quadrature nodes on `[0, t_max]`, random directions.
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
    action_mean: list[float] | None = None
    action_std: list[float] | None = None
    action_statistics_source: str | None = None

    sigreg_weight: float | int = 0.09
    sigreg_knots: int = 17
    sigreg_t_max: float | int = 3.0
    sigreg_projections: int = 1024

    initializer_range: float = 0.02

    @property
    def action_block_size(self) -> int:
        """Width of one action block: `frameskip * action_dim`."""
        return self.frameskip * self.action_dim

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        config, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if "_target_" in config:  # the layout of the released checkpoints
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a published LeWM checkpoint in its original format: convert it "
                f"once with `lewm convert {pretrained_model_name_or_path} --out DIR` and load DIR"
            )
        return config, kwargs

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        name = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "this checkpoint"
        known = {entry.name for entry in dataclasses.fields(cls)} | NOT_OURS
        for field in config_dict:
            # Transformers keeps whatever it does not know, and the field that was meant would keep its default.
            if field not in known and not field.startswith("_"):
                closest = difflib.get_close_matches(field, known, n=1, cutoff=0.0)[0]
                raise ValueError(
                    f"config.json of {name} is invalid: unknown field {field!r}, the closest known one is {closest!r}"
                )
        try:
            return super().from_dict(config_dict, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(f"config.json of {name} is invalid: {strict_reason(error)}") from None

    def validate_encoder(self):
        if self.encoder not in ENCODERS and not self.encoder.startswith("timm/"):
            raise ValueError(f"encoder={self.encoder!r} is unknown: use one of {ENCODERS} or 'timm/<name>'")
        if self.encoder == "vit":
            if self.image_size % self.patch_size:
                raise ValueError(
                    f"image_size={self.image_size} is no multiple of patch_size={self.patch_size}: change one of them"
                )
            if self.encoder_hidden_size % self.encoder_heads:
                raise ValueError(
                    f"encoder_hidden_size={self.encoder_hidden_size} is no multiple of "
                    f"encoder_heads={self.encoder_heads}: change one of them"
                )

    def validate_sizes(self):
        for name in (
            "image_size", "num_channels", "embed_dim", "projector_hidden_size", "predictor_hidden_size",
            "predictor_layers", "predictor_heads", "predictor_head_dim", "predictor_mlp_size", "history_size",
            "frameskip", "action_dim", "action_bottleneck_size", "action_mlp_size", "sigreg_projections",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.sigreg_knots < 2:
            raise ValueError(f"sigreg_knots={self.sigreg_knots} must be at least 2: the quadrature needs both ends")

    def validate_action_statistics(self):
        if (self.action_mean is None) != (self.action_std is None):
            raise ValueError("action_mean and action_std go together: give both or neither")
        if self.action_mean is None:
            return
        for name in ("action_mean", "action_std"):
            values = getattr(self, name)
            if len(values) != self.action_dim:
                raise ValueError(f"{name} has {len(values)} entries, but action_dim={self.action_dim}: they must agree")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name}={values} must be finite: recompute the statistics of the data set")
        if min(self.action_std) < 0:
            raise ValueError(f"action_std={self.action_std} must not be negative")
