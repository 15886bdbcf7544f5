"""A training step put together as the reference implementation's is, as a baseline: transformers' ViT with separate
query, key and value layers and PyTorch's fused attention, `torch.optim.AdamW` as it comes, autocast, no Accelerate.

Predictor, projectors and losses are the model's own: they are one part in a hundred of a step at the released size.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel


class Encoder(nn.Module):
    """`(N, 3, H, W) -> (N, width)`, the CLS token."""

    def __init__(self, config: LeWMConfig):
        super().__init__()
        self.output_size = config.encoder_hidden_size
        self.vit = ViTModel(
            ViTConfig(
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_size=config.encoder_hidden_size,
                num_hidden_layers=config.encoder_layers,
                num_attention_heads=config.encoder_heads,
                intermediate_size=config.encoder_mlp_size,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.vit(pixel_values, interpolate_pos_encoding=True).last_hidden_state[:, 0]


def build(
    config: LeWMConfig, device: torch.device, dtype: torch.dtype | None, seed: int
) -> Callable[[dict[str, Tensor], int], None]:
    """A function that does step `number` with a batch as it was loaded.

    Args:
        config: with the encoder "vit".
        device: of the model.
        dtype: of autocast, or `None`.
        seed: of SIGReg's directions.

    Raises:
        ValueError: for another encoder.
    """
    if config.encoder != "vit":
        raise ValueError(f"the reference has no encoder {config.encoder!r}: choose a size with a ViT")
    model = LeWMModel(config)
    model.encoder = Encoder(config)
    model = model.to(device).train()
    normalize = LeWMImageProcessor(image_size=config.image_size).normalize
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e-3)

    def step(batch: dict[str, Tensor], number: int) -> None:
        pixels, actions = normalize(batch["pixel_values"].to(device)), batch["actions"].to(device)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            loss = model(pixels, actions, model.sigreg.directions(seed, number).to(device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step
