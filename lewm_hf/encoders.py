"""Encoders: each turns frames into one feature vector, one file each (`encoder_*.py`, flat like all modeling files).

An encoder is any `nn.Module` that maps `(N, 3, H, W)` normalized frames to `(N, output_size)` and tells `output_size`.
`register_encoder` makes one of your own available as `LeWMConfig(encoder="my-name", encoder_kwargs={...})`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from .encoder_conv import ConvEncoder
from .encoder_resnet import LeWMResNet
from .encoder_spatial_softmax import SpatialSoftmaxEncoder
from .encoder_timm import LeWMTimmEncoder
from .encoder_vit import LeWMVisionTransformer, vit_with_convolutional_stem

if TYPE_CHECKING:
    from .configuration_lewm import LeWMConfig

EncoderBuilder = Callable[["LeWMConfig"], nn.Module]

_BUILDERS: dict[str, EncoderBuilder] = {}


def register_encoder(name: str, builder: EncoderBuilder) -> None:
    """Makes `LeWMConfig(encoder=name)` build `builder(config)`, a module with `output_size`.

    Raises:
        ValueError: where the name belongs to another encoder.
    """
    if _BUILDERS.get(name, builder) is not builder:
        raise ValueError(f"the encoder {name!r} exists already: register yours under another name")
    _BUILDERS[name] = builder


def encoder_names() -> list[str]:
    """Names that `LeWMConfig.encoder` may have, backbones of timm apart."""
    return sorted(_BUILDERS)


def build_encoder(config: "LeWMConfig") -> nn.Module:
    """A module `(N, 3, H, W) -> (N, output_size)`.

    Raises:
        ValueError: for an unknown name, or arguments in `encoder_kwargs` that this encoder does not take.
    """
    name = "timm" if config.encoder.startswith("timm/") else config.encoder
    if name not in _BUILDERS:
        raise ValueError(
            f"encoder={config.encoder!r} is unknown: use one of {', '.join(encoder_names())}, 'timm/<name>', or "
            "register_encoder"
        )
    try:
        return _BUILDERS[name](config)
    except TypeError as error:
        raise ValueError(
            f"encoder_kwargs={config.encoder_kwargs} do not fit encoder={config.encoder!r}: {error}"
        ) from error


def _without_arguments(builder: EncoderBuilder) -> EncoderBuilder:
    """Of an encoder that the fields of the configuration describe whole."""

    def build(config: "LeWMConfig") -> nn.Module:
        if config.encoder_kwargs:
            raise TypeError("it takes none")
        return builder(config)

    return build


register_encoder("vit", _without_arguments(LeWMVisionTransformer))
register_encoder("vit_conv_stem", vit_with_convolutional_stem)
register_encoder("resnet18", _without_arguments(LeWMResNet))
register_encoder("timm", LeWMTimmEncoder)
register_encoder("conv", ConvEncoder.from_config)
register_encoder("spatial_softmax", SpatialSoftmaxEncoder.from_config)
