"""Imitation from pixels and on frozen features, against a plain rebuild."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from transformers import AutoModel

from lewm_hf import DinoWMConfig, DinoWMModel, ImitationConfig, ImitationModel, LeWMConfig, LeWMModel

SIZES = {
    "image_size": 28, "encoder_hidden_size": 24, "encoder_layers": 1, "encoder_mlp_size": 48, "embed_dim": 12,
    "projector_hidden_size": 32, "actor_hidden_size": 16, "actor_layers": 2, "actor_max_blocks": 3,
    "action_mean": [0.1, -0.2], "action_std": [0.5, 0.6],
}  # fmt: skip


def batch(frames=4):
    generator = torch.Generator().manual_seed(1)
    return {
        "pixel_values": torch.randn(5, frames, 3, 28, 28, generator=generator),
        "actions": torch.randn(5, frames, 10, generator=generator),
        "goal_pixel_values": torch.randn(5, 3, 28, 28, generator=generator),
        "goal_blocks": torch.tensor([4, 5, 6, 4, 9]),
    }


def naive_loss(model, z, goals, given):
    """All pairs of a frame and a later one at most `actor_max_blocks` ahead, one by one."""
    errors = []
    for b in range(len(z)):
        for now in range(z.shape[1] - 1):
            later = [(z[b, t], t - now) for t in range(now + 1, z.shape[1])]
            later.append((goals[b], int(given["goal_blocks"][b]) - now))
            for goal, left in later:
                if left <= model.config.actor_max_blocks:
                    onehot = torch.eye(model.config.actor_max_blocks)[left - 1]
                    guess = model.actor.net(torch.cat([z[b, now], goal, goal - z[b, now], onehot]))
                    errors.append((guess - given["actions"][b, now]).square().mean())
    return torch.stack(errors).mean()


def test_cloning_from_pixels_equals_a_plain_rebuild():
    torch.manual_seed(0)
    model, given = ImitationModel(ImitationConfig(**SIZES)).eval(), batch()
    found = model.losses(given, {})
    z = model.projector(model.encoder(given["pixel_values"].flatten(0, 1))).unflatten(0, (5, 4))
    expected = naive_loss(model, z, model.encode(given["goal_pixel_values"][:, None])[:, 0], given)
    torch.testing.assert_close(found["loss"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["embeddings"], z)
    parameters = list(model.parameters())
    ours, theirs = torch.autograd.grad(found["loss"], parameters), torch.autograd.grad(expected, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert model.encoder.cls_token.requires_grad
    torch.testing.assert_close(model(**given)["loss"], found["loss"])


@pytest.fixture
def sources(tmp_path, tiny_model, dinov2_folder):
    """Checkpoints to freeze: LeWM, DINO-WM on DINOv2, and DINOv2 itself."""
    tiny_model.save_pretrained(tmp_path / "lewm")
    dino = DinoWMConfig(
        backbone=str(dinov2_folder), image_size=28, num_patches=4, feature_size=24, predictor_layers=1,
        predictor_heads=1, predictor_head_dim=8, predictor_mlp_size=8,
    )  # fmt: skip
    DinoWMModel(dino).save_pretrained(tmp_path / "dino")
    return {"lewm": tmp_path / "lewm", "dino": tmp_path / "dino", "dinov2": dinov2_folder}


@pytest.mark.parametrize(("name", "width"), [("lewm", 16), ("dino", 96), ("dinov2", 96)])
def test_frozen_features_are_those_of_their_source(sources, tmp_path, name, width):
    torch.manual_seed(0)
    model, given = ImitationModel(ImitationConfig(backbone=str(sources[name]), **SIZES)), batch()
    source = AutoModel.from_pretrained(sources[name]).eval()
    frames = given["pixel_values"]
    with torch.no_grad():
        if name == "dinov2":
            expected = source(frames.flatten(0, 1)).last_hidden_state[:, 1:].reshape(5, 4, -1)
        else:
            expected = source.encode(frames).flatten(2)
    assert expected.shape[-1] == width
    torch.testing.assert_close(model.encode(frames), expected)
    model.losses(given, {})["loss"].backward()
    assert all(p.grad is None for p in model.encoder.parameters()) and model.actor.net[0].weight.grad.any()
    model.eval().save_pretrained(tmp_path / "saved")
    assert not any(key.startswith("encoder.") for key in load_file(tmp_path / "saved" / "model.safetensors"))
    loaded = AutoModel.from_pretrained(tmp_path / "saved")
    seen, goal, left = expected[:, 0], expected[:, 3], torch.tensor([1, 2, 3, 1, 2])
    assert torch.equal(loaded.act(seen, goal, left), model.act(seen, goal, left))
    assert torch.equal(loaded.encode(frames), model.encode(frames))


@pytest.mark.parametrize("encoder", ["vit", "conv", "spatial_softmax"])
def test_an_outline_knows_the_width_of_frozen_features(tmp_path, tiny_config, encoder):
    """The outline lies on the device that computes shapes and nothing else."""
    fields = tiny_config.to_diff_dict() | {"encoder": encoder, "image_size": 28}
    LeWMModel(LeWMConfig(**fields)).save_pretrained(tmp_path)
    imitation = ImitationConfig(backbone=str(tmp_path), **SIZES)
    with torch.device("meta"):
        outline = ImitationModel(imitation)
    assert outline.encoder.width == fields["embed_dim"]


def test_another_world_model_under_the_same_name_is_refused(sources, tmp_path, tiny_config):
    ImitationModel(ImitationConfig(backbone=str(sources["lewm"]), **SIZES)).save_pretrained(tmp_path / "saved")
    LeWMModel(tiny_config).save_pretrained(sources["lewm"])
    with pytest.raises(ValueError, match="holds other weights than this model was trained on"):
        ImitationModel.from_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="takes pictures of 28 pixels, not 42: set image_size"):
        ImitationModel(ImitationConfig(backbone=str(sources["lewm"]), **SIZES | {"image_size": 42}))
    with pytest.raises(StrictDataclassError, match="actor=False leaves nothing to train"):
        ImitationConfig(actor=False)
