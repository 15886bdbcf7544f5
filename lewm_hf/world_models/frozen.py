"""Models whose encoder is a frozen backbone: its weights stay at their source and are fetched strictly from there."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pretrained_lewm import LeWMPreTrainedModel
from .backbones import build_backbone, weights_fingerprint


class FrozenBackboneModel(LeWMPreTrainedModel):
    """A model whose `encoder` comes from `build_frozen_encoder`; `freeze_backbone` ends such a constructor. Subclasses
    have `losses`.

    Where its config names no backbone, the encoder is trained like everything else.

    Its config has the fields `backbone`, `backbone_revision`, `backbone_size`, `backbone_config`,
    `backbone_fingerprint` and `pretrained`; see `DinoWMConfig`.
    """

    def build_frozen_encoder(self) -> nn.Module:
        """The backbone that the config names, its architecture noted there, its weights still random."""
        config = self.config
        encoder = build_backbone(
            config.backbone, config.backbone_revision, config.backbone_config, config.backbone_size or config.image_size
        )
        config.backbone_config = encoder.architecture
        return encoder

    def freeze_backbone(self) -> None:
        """The last thing that a constructor does: keeps the backbone out of checkpoints and fetches its weights."""
        if self.config.pretrained:
            # The backbone has its own source; a second copy in every checkpoint would only go stale.
            self._keys_to_ignore_on_save |= {f"encoder.{name}" for name in self.encoder.state_dict()}
            self._keys_to_ignore_on_load_missing |= {r"^encoder\."}
        self._fetch()

    def _fetch(self) -> None:
        config = self.config
        outline = any(parameter.is_meta for parameter in self.encoder.parameters())
        if config.pretrained and not outline:
            self.encoder.load_weights()
            found = weights_fingerprint(self.encoder)
            if config.backbone_fingerprint not in (None, found):
                raise ValueError(
                    f"backbone {config.backbone} holds other weights than this model was trained on (SHA-256 "
                    f"{found[:12]}, not {config.backbone_fingerprint[:12]}): pass backbone=... and "
                    "backbone_revision=... of the one that was"
                )
            config.backbone_fingerprint = found
        self.encoder.requires_grad_(False).eval()

    @property
    def has_frozen_encoder(self) -> bool:
        return self.config.backbone is not None

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Strict like every model here; the backbone's weights come from its source and are compared with the config.

        Raises:
            OSError: where checkpoint or backbone cannot be found.
            ValueError: where either is damaged, or the backbone is not the one that the model was trained on.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if model.has_frozen_encoder:
            model._fetch()
        return (model, info) if output_loading_info else model

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.has_frozen_encoder:
            self.encoder.eval()  # its BatchNorm and dropout stay as they were trained
        return self

    @torch.no_grad()
    def patch_tokens(self, pixel_values: Tensor) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` -> the backbone's tokens `(B, T, P, width)`.

        Raises:
            ValueError: on another rank, channel count or size than the config's.
        """
        self.check_frames(pixel_values)
        frames = pixel_values.flatten(0, 1)
        if self.config.backbone_size not in (None, self.config.image_size):
            frames = F.interpolate(frames, size=self.config.backbone_size, mode="bilinear", antialias=True)
        return self.encoder(frames).unflatten(0, pixel_values.shape[:2])

    def forward(self, pixel_values: Tensor | None = None, actions: Tensor | None = None, **batch: Any) -> Any:
        """`losses`, under the name that data-parallel wrappers call."""
        if pixel_values is not None:
            batch["pixel_values"] = pixel_values
        return self.losses(batch | {"actions": actions})

    def step_inputs(self, seed: int, number: int) -> dict[str, Tensor]:
        """Nothing: a step needs its batch alone."""
        return {}
