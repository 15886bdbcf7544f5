"""The pixel loss of the paper's table 7 beside LeWM's own."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from lewm_hf import LeWMModel, LeWMWithDecoderConfig, LeWMWithDecoderModel
from lewm_hf.testing import check_world_model

DECODER = {
    "decoder_patch_size": 14, "decoder_hidden_size": 8, "decoder_layers": 1, "decoder_heads": 2, "decoder_mlp_size": 8,
    "decoder_latent_tokens": 2,
}  # fmt: skip


def test_pixel_loss_is_added_and_reaches_the_encoder(tiny_config):
    torch.manual_seed(0)
    values = {name: value for name, value in tiny_config.to_dict().items() if name != "model_type"}
    model = LeWMWithDecoderModel(LeWMWithDecoderConfig(**values, decoder_weight=0.3, **DECODER)).eval()
    frames, actions = torch.randn(3, 4, 3, 28, 28), torch.randn(3, 4, 10)
    step = model.step_inputs(0, 1)
    found = model.losses({"pixel_values": frames, "actions": actions}, step)
    plain = LeWMModel(tiny_config).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("pixel_decoder.")})
    expected = plain.losses({"pixel_values": frames, "actions": actions}, step)
    pixels = model.pixel_decoder(plain.encode(frames)).pixels
    torch.testing.assert_close(found["pixel_loss"], (pixels - frames).square().mean())
    torch.testing.assert_close(found["loss"], expected["loss"] + 0.3 * found["pixel_loss"])
    with torch.no_grad():  # a fresh decoder shows its background alone
        model.pixel_decoder.pixels.weight.normal_()
    loss = model.losses({"pixel_values": frames, "actions": actions}, step)["pixel_loss"]
    assert torch.autograd.grad(loss, model.encoder.cls_token)[0].abs().max() > 0
    check_world_model(model)
    with pytest.raises(StrictDataclassError, match="decoder_weight=-1 must be a finite number of at least 0"):
        LeWMWithDecoderConfig(decoder_weight=-1)
    with pytest.raises(StrictDataclassError, match="image_size=224 is not a multiple of decoder_patch_size=15"):
        LeWMWithDecoderConfig(decoder_patch_size=15)
