"""Any backbone of timm, from scratch, pooled to one feature vector."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from .configuration_lewm import LeWMConfig


class LeWMTimmEncoder(nn.Module):
    """`encoder="timm/<name>"`: `(N, 3, H, W) -> (N, num_features)`.

    `encoder_kwargs` go to `timm.create_model`, such as `{"drop_path_rate": 0.1}` or `{"global_pool": "avg"}`. A
    backbone of one picture size, as vision transformers are, is built for the config's `image_size`.
    """

    def __init__(self, config: "LeWMConfig"):
        super().__init__()
        try:
            import timm
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another build than torch
            raise ImportError(
                f"encoder={config.encoder!r} needs timm, which cannot be imported here ({error}): install the extra "
                "`lewm-hf[timm]` with torch and torchvision from one index, or use encoder='vit' or 'resnet18'"
            ) from error
        name, chosen = config.encoder.removeprefix("timm/"), dict(config.encoder_kwargs or {})
        if taken := sorted({"pretrained", "num_classes", "in_chans"} & set(chosen)):
            raise ValueError(
                f"encoder_kwargs={chosen} set {', '.join(taken)}, which this package sets itself: leave it out; for "
                "pretrained features use a frozen backbone (DinoWMConfig)"
            )
        if not timm.is_model(name):
            close = ", ".join(timm.list_models(f"*{name}*")[:5]) or "timm.list_models() lists them"
            raise ValueError(f"encoder={config.encoder!r}: timm has no model {name!r}; close to it: {close}")
        one_size = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
        if one_size:
            chosen.setdefault("img_size", config.image_size)
        settings = {"num_classes": 0, "in_chans": config.num_channels} | chosen
        try:
            self.backbone = timm.create_model(name, pretrained=False, **settings)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"encoder={config.encoder!r} with image_size={config.image_size} and encoder_kwargs="
                f"{config.encoder_kwargs} cannot be built: {error}; change one of them"
            ) from error
        patch = getattr(getattr(self.backbone, "patch_embed", None), "patch_size", None)
        if one_size and isinstance(patch, tuple) and config.image_size % patch[0]:  # timm would leave out the rest
            raise ValueError(
                f"image_size={config.image_size} is not a multiple of {patch[0]}, the patches of encoder="
                f"{config.encoder!r}: change image_size"
            )
        self.output_size = self.backbone.num_features

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.backbone(pixel_values)
