"""Backbones of the real timm as encoders; `make test-timm` runs them in an environment of their own."""

import json

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from lewm_hf import LeWMConfig, LeWMModel
from lewm_hf.sigreg import GlobalBatchNorm, global_batch_norms

# torchvision of another build than torch is no ImportError, and may not pass as timm that is not installed.
timm = pytest.importorskip("timm", exc_type=ModuleNotFoundError)

pytestmark = pytest.mark.long

SIZES = {
    "image_size": 56, "embed_dim": 8, "projector_hidden_size": 16, "predictor_hidden_size": 16, "predictor_layers": 1,
    "predictor_heads": 2, "predictor_head_dim": 8, "predictor_mlp_size": 16, "action_mlp_size": 16,
    "sigreg_projections": 16, "action_mean": [0.0, 0.0], "action_std": [1.0, 1.0],
}  # fmt: skip
# A convolutional network of today, two vision transformers of one picture size, one of them DINOv2's, and two with
# BatchNorms.
NAMES = (
    "convnext_atto", "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "resnet10t", "efficientnet_lite0",
)  # fmt: skip


def config(name: str, **changes) -> LeWMConfig:
    size = {"image_size": 64} if "patch16" in name else {}
    return LeWMConfig(encoder=f"timm/{name}", **SIZES | size | changes)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_is_timms_own_trains_and_is_saved_whole(name, tmp_path):
    torch.manual_seed(0)
    made = config(name, encoder_kwargs={"drop_path_rate": 0.0})
    model, size = LeWMModel(made), made.image_size
    fixed = {"img_size": size} if name.startswith("vit") else {}
    reference = timm.create_model(name, num_classes=0, **fixed)
    reference.load_state_dict(model.encoder.backbone.state_dict())
    frames = torch.randn(2, 4, 3, size, size)
    assert model.encoder.output_size == reference.num_features
    with torch.no_grad():
        expected = reference.eval()(frames.flatten(0, 1)).unflatten(0, (2, 4))
        torch.testing.assert_close(model.eval().features(frames), expected)
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model.train()(frames, torch.randn(2, 4, made.action_block_size)).loss.backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters() if parameter.requires_grad)
    optimizer.step()
    assert any(not torch.equal(before[key], value) for key, value in model.encoder.state_dict().items())
    model.eval().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["encoder_kwargs"] == {"drop_path_rate": 0.0}
    again = LeWMModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.encode(frames), model.encode(frames))


def test_arguments_reach_timm_and_what_does_not_fit_is_one_line():
    dropping = LeWMModel(config("convnext_atto", encoder_kwargs={"drop_path_rate": 0.5})).encoder
    assert max(getattr(part, "drop_prob", 0.0) for part in dropping.modules()) == pytest.approx(0.5)
    for name, changes, message in (
        ("convnext_atto", {"encoder_kwargs": {"drop_paths": 1}}, "drop_paths"),
        ("convnext_atto", {"encoder_kwargs": {"pretrained": True}}, "set pretrained, which this package sets itself"),
        ("convnext_ato", {}, "timm has no model 'convnext_ato'"),
        ("vit_small_patch14_dinov2", {"image_size": 60}, "image_size=60"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            LeWMModel(config(name, **changes))
        assert "\n" not in str(error.value)


def converted(name: str) -> nn.Module:
    torch.manual_seed(3)
    return global_batch_norms(timm.create_model(name, num_classes=0, drop_rate=0.0, drop_path_rate=0.0)).train()


def loss(features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """What the norms do not take out: their outputs have about the same mean square whatever the weights are, and the
    gradient of that is hardly more than rounding."""
    return (features * directions).mean()


def _rank(rank: int, folder: str, name: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    frames = torch.load(f"{folder}/frames.pt", weights_only=True).chunk(2)[rank]
    model = converted(name)
    features = model(frames)
    loss(features, torch.load(f"{folder}/directions.pt", weights_only=True).chunk(2)[rank]).div(2).backward()
    gradients = {key: value.grad for key, value in model.named_parameters()}
    for gradient in gradients.values():
        dist.all_reduce(gradient)
    found = {"features": features.detach(), "gradients": gradients, "buffers": dict(model.named_buffers())}
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0"])
def test_timms_batch_norms_see_the_batch_of_all_ranks(name, tmp_path):
    """Two ranks with half of the pictures each against one that has all, with timm's own layers."""
    norms = [part for part in converted(name).modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(part, GlobalBatchNorm) for part in norms)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(8, 3, 64, 64, generator=generator) + torch.linspace(-2, 2, 8).view(-1, 1, 1, 1)
    torch.save(frames, tmp_path / "frames.pt")
    torch.manual_seed(3)
    whole = timm.create_model(name, num_classes=0, drop_rate=0.0, drop_path_rate=0.0).train()
    features = whole(frames)
    directions = torch.randn(features.shape, generator=generator)
    torch.save(directions, tmp_path / "directions.pt")
    loss(features, directions).backward()
    multiprocessing.spawn(_rank, (str(tmp_path), name), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.cat([rank["features"] for rank in ranks]), features, rtol=1e-3, atol=1e-4)
    typical = torch.stack([value.grad.abs().max() for value in whole.parameters()]).median()
    for rank in ranks:
        for key, value in whole.named_buffers():
            torch.testing.assert_close(rank["buffers"][key], value, rtol=1e-4, atol=1e-5)
        for key, value in whole.named_parameters():
            # A bias before another norm has no gradient: what is computed is rounding, of one process and of two.
            scale = value.grad.abs().max().clamp_min(typical / 10)
            torch.testing.assert_close(rank["gradients"][key] / scale, value.grad / scale, rtol=1e-2, atol=2e-3)
