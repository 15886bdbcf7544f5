"""Encoders for small pictures, inverse dynamics, the actor and the roll-out loss, each against a naive version."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lewm_hf import LeWMConfig, LeWMModel
from lewm_hf.encoder_spatial_softmax import SpatialSoftmaxEncoder
from lewm_hf.encoders import build_encoder, encoder_names, register_encoder


@pytest.fixture
def with_heads(tiny_config):
    """A tiny model with every optional head."""
    fields = {
        "rollout_blocks": 3, "rollout_weight": 0.2, "inverse_weight": 0.3, "actor_weight": 0.5,
        "actor_inputs": "features", "actor_hidden_size": 16, "inverse_hidden_size": 16,
    }  # fmt: skip
    torch.manual_seed(1)
    return LeWMModel(LeWMConfig(**(tiny_config.to_dict() | fields)))


def window(config, frames, batch=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(batch, frames, 3, config.image_size, config.image_size, generator=generator)
    return pixels, torch.randn(batch, frames, config.action_block_size, generator=generator)


def test_spatial_softmax_is_the_expected_place_under_each_map():
    torch.manual_seed(0)
    encoder = SpatialSoftmaxEncoder(16, convolutions=[[8, 3, 2]], maps=4, rows=12)
    encoder.log_temperature.data.uniform_(-1, 1)
    frames = torch.randn(3, 3, 16, 16)
    logits = encoder.to_maps(encoder.layers(frames[:, :, :12])).detach().double().numpy()
    logits = logits * np.exp(encoder.log_temperature.detach().double().numpy())[:, None, None]
    expected = np.zeros((3, 3, 4))
    for n in range(3):
        for m in range(4):
            weights = np.exp(logits[n, m])
            rows, columns = np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 8), indexing="ij")
            total = weights.sum()
            expected[n, :, m] = (weights * columns).sum() / total, (weights * rows).sum() / total, math.log(total / 48)
    with torch.no_grad():
        points = encoder(frames)
    np.testing.assert_allclose(points.numpy(), expected.reshape(3, 12), atol=1e-5)
    encoder.initialize_from_data(frames)
    scaled = encoder.to_maps(encoder.layers(frames[:, :, :12])) * encoder.log_temperature.exp()[:, None, None]
    spread = (scaled.flatten(2).amax(-1) - scaled.flatten(2).mean(-1)).mean(0)
    torch.testing.assert_close(spread, torch.full((4,), 6.0))


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"encoder": "spatial_softmax", "encoder_kwargs": {"maps": 5}}, 15),
        ({"encoder": "conv", "encoder_kwargs": {"convolutions": [[6, 3, 2], [4, 3, 2]]}}, 4 * 7 * 7),
        ({"encoder": "vit_conv_stem", "patch_size": 4, "image_size": 28}, 24),
    ],
)
def test_encoders_learn_and_survive_a_round_trip(tiny_config, tmp_path, fields, size):
    torch.manual_seed(0)
    model = LeWMModel(LeWMConfig(**(tiny_config.to_dict() | fields)))
    pixels, actions = window(model.config, 4)
    output = model(pixel_values=pixels, actions=actions, sigreg_directions=model.sigreg.directions(0, 0))
    assert output.features.shape == (5, 4, size)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval().save_pretrained(tmp_path)
    loaded = LeWMModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(pixels), model.encode(pixels), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": "vgg"}, "timm/<name>"),
        ({"encoder": "spatial_softmax", "encoder_kwargs": {"map": 5}}, "encoder_kwargs"),
        ({"encoder": "spatial_softmax", "encoder_kwargs": {"rows": 27}}, "rows=27"),
        ({"encoder": "conv", "image_size": 30}, "image_size=30 is not a multiple of 4"),
        ({"encoder": "conv", "encoder_kwargs": {"convolutions": [[4, 3]]}}, "channels, kernel, stride"),
        ({"encoder": "vit_conv_stem", "image_size": 56}, "patch_size=14"),
    ],
)
def test_encoders_that_cannot_be_built_are_refused(tiny_config, fields, message):
    with pytest.raises(ValueError, match=message):
        LeWMModel(LeWMConfig(**(tiny_config.to_dict() | fields)))


def test_an_encoder_comes_from_outside(tiny_config):
    class Mean(torch.nn.Module):
        output_size = 3

        def forward(self, pixel_values):
            return pixel_values.mean((2, 3))

    register_encoder("mean-color", lambda config: Mean())
    assert "mean-color" in encoder_names()
    model = LeWMModel(LeWMConfig(**(tiny_config.to_dict() | {"encoder": "mean-color"})))
    pixels, _ = window(model.config, 2)
    torch.testing.assert_close(model.features(pixels), pixels.mean((3, 4)))
    with pytest.raises(ValueError, match="exists already"):
        register_encoder("vit", lambda config: Mean())
    assert type(build_encoder(tiny_config)).__name__ == "LeWMVisionTransformer"


def test_all_terms_equal_a_naive_computation(with_heads):
    model, config = with_heads.eval(), with_heads.config
    pixels, actions = window(config, 6)
    goals, ahead = window(config, 1, seed=3)[0][:, 0], torch.tensor([5, 6, 9, 7, 5])
    batch = {"pixel_values": pixels, "actions": actions, "goal_pixel_values": goals, "goal_blocks": ahead}
    losses = model.losses(batch, model.step_inputs(0, 7))
    with torch.no_grad():
        z, f = model.observe(torch.cat([pixels, goals[:, None]], 1))
    # every frame from the (at most three) real ones before it
    errors = []
    for t in range(5):
        first = max(0, t - 2)
        with torch.no_grad():
            guess = model.predict(z[:, first : t + 1], actions[:, first : t + 1])[:, -1]
        errors.append((guess - z[:, t + 1]).square().mean())
    expected = {"prediction_loss": torch.stack(errors).mean()}
    with torch.no_grad():
        imagined = model.rollout(z[:, :3], actions[:, None, 2:5], actions[:, :2])[:, 0]
    expected["rollout_loss"] = (imagined[:, 1:] - z[:, 4:6]).square().mean()
    read = model.inverse_dynamics.net(torch.cat([z[:, :5], z[:, 1:6]], -1))
    expected["inverse_loss"] = (read - actions[:, :5]).square().mean()
    pairs = {"embeddings": [], "features": []}
    for b in range(5):
        for t in range(5):
            for later in range(t + 1, 7):
                left = int(ahead[b]) - t if later == 6 else later - t
                if not 1 <= left <= config.actor_max_blocks:
                    continue
                n, w = slice(b, b + 1), torch.tensor([left])
                wanted = actions[b, t]
                pairs["embeddings"].append((model.act(z[n, t], z[n, later], w)[0] - wanted).square().mean())
                guess = model.act(z[n, t], z[n, later], w, f[n, t], f[n, later])[0]
                pairs["features"].append((guess - wanted).square().mean())
    expected["actor_loss"] = sum(torch.stack(values).mean() for values in pairs.values())
    expected["sigreg_loss"] = model.sigreg(z[:, :6].transpose(0, 1), model.sigreg.directions(0, 7))
    weights = {"prediction_loss": 1, "rollout_loss": 0.2, "inverse_loss": 0.3, "actor_loss": 0.5,
               "sigreg_loss": config.sigreg_weight}  # fmt: skip
    expected["loss"] = sum(weights[name] * value for name, value in expected.items())
    torch.testing.assert_close(losses.pop("embeddings"), z[:, :6])
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_heads_are_optional_and_their_gradient_reaches_the_encoder(with_heads, tiny_model, tmp_path):
    pixels, actions = window(with_heads.config, 4)
    output = with_heads(pixel_values=pixels, actions=actions, sigreg_directions=with_heads.sigreg.directions(0, 0))
    for term in (output.inverse_loss, output.actor_loss):
        (gradient,) = torch.autograd.grad(term, with_heads.encoder.cls_token, retain_graph=True)
        assert gradient.abs().sum() > 0
    assert tiny_model.inverse_dynamics is None and tiny_model.actor is None
    assert not any("actor" in name or "inverse" in name for name in tiny_model.state_dict())
    with pytest.raises(ValueError, match="no actor"):
        tiny_model.act(torch.zeros(1, 16), torch.zeros(1, 16), torch.ones(1, dtype=torch.long))
    with_heads.save_pretrained(tmp_path)
    loaded = LeWMModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), with_heads.state_dict())


def test_blocks_left_are_taken_at_the_nearest_that_was_trained(with_heads):
    actor = with_heads.eval().actor
    z = torch.randn(2, with_heads.config.embed_dim)
    at = [actor(z, z + 1, torch.tensor([left, left])) for left in (-3, 1, 5, 40)]
    assert torch.equal(at[0], at[1]) and torch.equal(at[2], at[3]) and not torch.equal(at[1], at[2])
    by_hand = actor.on_embeddings.net(torch.cat([z, z + 1, torch.ones_like(z), F.one_hot(torch.tensor([0, 0]), 5)], -1))
    torch.testing.assert_close(at[1], by_hand)


class StoredInInt8(nn.Module):
    """A linear layer as quantizing libraries leave it: its weight in whole numbers, its bias in what it computes in."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("scale", linear.weight.detach().abs().amax(1, keepdim=True) / 127)
        self.weight = nn.Parameter((linear.weight.detach() / self.scale).round().to(torch.int8), requires_grad=False)
        self.bias = linear.bias

    def forward(self, rows):
        return F.linear(rows, self.weight * self.scale, self.bias)


def test_weights_that_are_stored_in_whole_numbers_compute_what_they_say(tiny_config):
    """Compared with a model whose weights are these numbers."""
    body = {"proprioception_size": 2, "proprioception_mean": [0.0, 0.0], "proprioception_std": [1.0, 1.0]}
    model = LeWMModel(LeWMConfig(**tiny_config.to_dict() | body | {"actor": True, "actor_inputs": "features"})).eval()
    quantized = copy.deepcopy(model)
    parts = {id(module) for part in (quantized.actor, quantized.proprioception_encoder) for module in part.modules()}
    for name, module in list(quantized.named_modules()):
        if isinstance(module, nn.Linear) and id(module) in parts:
            stored = StoredInInt8(module)
            quantized.set_submodule(name, stored)
            model.get_submodule(name).weight.data = stored.weight * stored.scale
    frames, felt = torch.randn(2, 2, 3, 28, 28), 3 * torch.randn(2, 2, 2)
    made = []
    for one in (model, quantized):
        with torch.no_grad():
            latents, features = one.observe(frames, felt)
            goals = latents[:, 1], torch.tensor([1, 3]), features[:, 0], features[:, 1]
            made.append((latents, one.act(latents[:, 0], *goals)))
    torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_one_number_of_blocks_left_is_that_of_all(with_heads):
    model = with_heads.eval()
    embeddings, goals = torch.randn(2, 3, 16).unbind()
    for left in (1, 4, 99):
        expected = model.act(embeddings, goals, torch.full((3,), left))
        for one in (left, torch.tensor(left), torch.tensor([left]), np.int64(left)):
            assert torch.equal(model.act(embeddings, goals, one), expected)
    for wrong in (2.5, torch.tensor([1, 2]), torch.ones(3), torch.ones(3, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"does not fit 3 embeddings: give one whole number for all, or \(3,\) of"):
            model.act(embeddings, goals, wrong)
