import copy

import numpy as np
import pytest
import torch
from torch import nn

from lewm_hf import LeWMModel
from lewm_hf.training.batch_norm import recalibrate_batch_norm


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(0)
    model = LeWMModel(tiny_config)
    with torch.no_grad():
        for layer in model.predictor.layers:  # AdaLN-zero would hide dropout
            layer.modulation.bias.fill_(0.5)
    return model


@pytest.fixture
def batches(model):
    generator = torch.Generator().manual_seed(1)
    config = model.config
    return [
        (
            torch.randn(8, 3, 3, config.image_size, config.image_size, generator=generator) * scale + scale,
            torch.randn(8, 3, config.action_block_size, generator=generator),
        )
        for scale in (0.5, 1.0, 2.0)
    ]


def test_statistics_are_those_of_all_rows_at_once(model, batches):
    recalibrate_batch_norm(model, batches)
    with torch.no_grad():
        rows = model.projector.fc1(model.features(torch.cat([pixels for pixels, _ in batches]))).flatten(0, 1).double()
    norm = model.projector.batch_norm
    np.testing.assert_allclose(norm.running_mean, rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, rows.var(0, correction=1), rtol=1e-4, atol=1e-6)


def test_second_batch_norm_sees_batches_normalized_as_in_training_but_no_dropout(model, batches):
    rows = []
    naive = copy.deepcopy(model)
    for part in naive.modules():
        if hasattr(part, "dropout"):
            part.dropout = 0.0
    naive.train().pred_proj.batch_norm.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].double()))
    with torch.no_grad():
        for pixels, actions in batches:
            naive(pixels, actions)
    rows = torch.cat(rows).numpy()
    count = recalibrate_batch_norm(model, batches)
    assert count == 3 * 8 * 3
    norm = model.pred_proj.batch_norm
    np.testing.assert_allclose(norm.running_mean, rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, rows.var(0, ddof=1), rtol=1e-4, atol=1e-6)


def test_nothing_else_changes(model, batches):
    model.train()
    model.predictor.eval()
    model.projector.batch_norm.num_batches_tracked.fill_(17)
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    recalibrate_batch_norm(model, batches)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {
        f"{part}.batch_norm.running_{statistic}" for part in ("projector", "pred_proj") for statistic in ("mean", "var")
    }


def test_convolutional_norms_are_recalibrated_too():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    images = torch.randn(12, 3, 8, 8)
    recalibrate_batch_norm(net, [(part,) for part in images.split(4)], forward=lambda net, x: net(x))
    with torch.no_grad():
        expected = net[0](images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(net[1].running_mean, expected.mean(1))
    torch.testing.assert_close(net[1].running_var, expected.var(1))


def test_no_batches_are_refused_and_no_norms_need_none(model):
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate_batch_norm(model, [])
    assert recalibrate_batch_norm(nn.Linear(2, 2), []) == 0
