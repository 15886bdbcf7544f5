"""The config of the original code, in both spellings, -> `LeWMConfig`.

The published files name classes of `stable_worldmodel`; the paper's repository names the same ones `jepa.JEPA` and
`module.ARPredictor`, and the size of the encoder has been called both `size` and `scale`. No class is imported.
"""

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from ...configuration_checks import strict_reason
from ...configuration_lewm import LeWMConfig

# stable_pretraining's `vit_hf`: hidden size, layers, heads; the MLP is four times as wide.
VIT_SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}

_REQUIRED = object()


class _Section:
    """One object of the config; knows which of its fields have been read."""

    def __init__(self, content: Any, name: str, classes: tuple[str, ...]):
        if not isinstance(content, Mapping):
            raise ValueError(f"{name} of the original config is {content!r}: expected an object with _target_")
        self.name, self.left = name, dict(content)
        target = self.left.pop("_target_", None)
        if not isinstance(target, str) or target.rpartition(".")[2] not in classes:
            raise ValueError(
                f"{name} of the original config is a {target!r}, expected {' or '.join(classes)}: this is another "
                "architecture than LeWM"
            )

    def take(self, field: str, kind: type = int, default: Any = _REQUIRED) -> Any:
        value = self.left.pop(field, default)
        if value is _REQUIRED:
            raise ValueError(f"{self.name}.{field} is missing in the original config")
        # bool is an int to Python, and a whole number a float to everyone else.
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits:
            raise ValueError(f"{self.name}.{field}={value!r} of the original config must be of type {kind.__name__}")
        return value

    def expect(self, field: str, value: Any, default: Any = _REQUIRED) -> None:
        found = self.take(field, type(value), default)
        if found != value:
            raise ValueError(
                f"{self.name}.{field}={found!r} of the original config is not supported: only {value!r} is"
            )

    def close(self) -> None:
        if self.left:
            names = ", ".join(map(repr, sorted(self.left)))
            raise ValueError(f"{self.name} of the original config has unknown fields {names}: is this another model?")


def read_original_config(config: Any, frameskip: int) -> LeWMConfig:
    """Translates a published or Hydra-resolved config.

    Args:
        config: the parsed `config.json`.
        frameskip: environment steps of one action block; the original config gives the width of a block alone.

    Raises:
        ValueError: one line, for a class, field or value that LeWM does not have, or values that contradict each other.
    """
    root = _Section(config, "the root", ("LeWM", "JEPA"))
    encoder = _Section(root.left.pop("encoder", None), "encoder", ("vit_hf",))
    size, fields = _read_encoder(encoder)
    predictor = _Section(root.left.pop("predictor", None), "predictor", ("Predictor", "ARPredictor"))
    fields |= _read_predictor(predictor)
    actions = _Section(root.left.pop("action_encoder", None), "action_encoder", ("Embedder",))
    block = actions.take("input_dim")
    bottleneck, mlp_scale = actions.take("smoothed_dim", default=10), actions.take("mlp_scale", default=4)
    projector, pred_proj = (_read_projector(root, name) for name in ("projector", "pred_proj"))
    embed_dim = _read_width(root, predictor, actions, projector, pred_proj)
    _agree(
        {
            f"the encoder of size {size}": fields["encoder_hidden_size"],
            "projector.input_dim": projector.take("input_dim"),
        }
    )
    hidden = _agree({f"{part.name}.hidden_dim": part.take("hidden_dim") for part in (projector, pred_proj)})
    history = fields["history_size"]
    _agree({"predictor.num_frames": history, "history_size": root.take("history_size", default=history)})
    for section in (root, encoder, predictor, actions, projector, pred_proj):
        section.close()
    if frameskip < 1 or block % frameskip:
        raise ValueError(
            f"action_encoder.input_dim={block} of the original config is not a multiple of frameskip={frameskip}: give "
            "the frameskip that the checkpoint was trained with"
        )
    try:
        return LeWMConfig(
            **fields,
            embed_dim=embed_dim,
            projector_hidden_size=hidden,
            predictor_hidden_size=embed_dim,
            frameskip=frameskip,
            action_dim=block // frameskip,
            action_bottleneck_size=bottleneck,
            action_mlp_size=mlp_scale * embed_dim,
        )
    except StrictDataclassError as error:
        raise ValueError(f"the original config describes no LeWM: {strict_reason(error)}") from error


def _read_encoder(section: _Section) -> tuple[str, dict[str, Any]]:
    """The name of the encoder's size, and fields of `LeWMConfig` that follow from its section."""
    size_name = "scale" if "scale" in section.left else "size"
    size = section.take(size_name, str)
    if size not in VIT_SIZES:
        raise ValueError(f"encoder.{size_name}={size!r} of the original config is unknown: use {', '.join(VIT_SIZES)}")
    width, layers, heads = VIT_SIZES[size]
    fields = {
        "patch_size": section.take("patch_size"),
        "image_size": section.take("image_size"),
        "encoder_hidden_size": width,
        "encoder_layers": layers,
        "encoder_heads": heads,
        "encoder_mlp_size": 4 * width,
    }
    section.expect("pretrained", False)
    section.expect("use_mask_token", False)
    return size, fields


def _read_predictor(section: _Section) -> dict[str, Any]:
    """Fields of `LeWMConfig` that follow from the section of the predictor, its widths excepted."""
    fields = {
        "history_size": section.take("num_frames"),
        "predictor_dropout": section.take("dropout", float),
        "predictor_layers": section.take("depth"),
        "predictor_heads": section.take("heads"),
        "predictor_mlp_size": section.take("mlp_dim"),
        "predictor_head_dim": section.take("dim_head"),
    }
    section.expect("emb_dropout", 0.0, default=0.0)
    return fields


def _read_projector(root: _Section, name: str) -> _Section:
    """A projector's section, whose norm is BatchNorm."""
    section = _Section(root.left.pop(name, None), name, ("MLP",))
    norm = _Section(section.left.pop("norm_fn", None), f"{name}.norm_fn", ("BatchNorm1d",))
    norm.expect("_partial_", True)
    norm.close()
    return section


def _read_width(
    root: _Section, predictor: _Section, actions: _Section, projector: _Section, pred_proj: _Section
) -> int:
    """The width of an embedding, on which every part has to agree."""
    dims = {
        f"{section.name}.{field}": section.take(field)
        for section, fields in (
            (predictor, ("input_dim", "hidden_dim", "output_dim")),
            (actions, ("emb_dim",)),
            (projector, ("output_dim",)),
            (pred_proj, ("input_dim", "output_dim")),
        )
        for field in fields
    }
    # Hydra configs repeat two values at the root.
    if "embed_dim" in root.left:
        dims["embed_dim"] = root.take("embed_dim")
    return _agree(dims)


def _agree(values: Mapping[str, int]) -> int:
    """The one value that all of them have."""
    (first, value), *others = values.items()
    for name, other in others:
        if other != value:
            raise ValueError(f"the original config contradicts itself: {first} is {value}, but {name} is {other}")
    return value
