"""What bfloat16 does to embeddings: by hand, where it rounds everything away, and in files that do not know it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lewm_hf import LeWMImageProcessor, LeWMModel
from lewm_hf.evaluation.common.agent import Agent
from lewm_hf.evaluation.common.ranks import ALONE
from lewm_hf.evaluation.health.precision import measure_precision
from lewm_hf.evaluation.health.report import format_health
from lewm_hf.evaluation.health.result import HealthResult, Precision
from lewm_hf.evaluation.health.run import health

SHIPPED = sorted((Path(__file__).parents[3] / "model_cards").glob("*/evaluation/**/health.json"))


def rounded(values):
    """float32 -> the nearest number with the 16 upper bits of a float32, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32)


class Products(torch.nn.Module):
    """Some of the pixels times weights: nothing is summed, so that every rounding is known."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = torch.nn.Parameter(torch.linspace(0.3, 3.1, 3 * 4 * 4))

    def encode(self, pixel_values):
        return pixel_values[..., ::7, ::7].flatten(2) * self.weight


class InDoublePrecisionOnly(Products):
    def encode(self, pixel_values):
        return torch.linalg.qr(pixel_values[..., ::7, ::7].flatten(2))[1] * self.weight


@pytest.fixture
def processor():
    return LeWMImageProcessor(image_size=28)


@pytest.fixture
def rows(episodes):
    return np.arange(0, 120, 2)


def measured(model, processor, episodes, rows):
    with torch.no_grad():
        pixels = processor.normalize(torch.from_numpy(episodes.frames(rows)))
        exact = model.encode(pixels[:, None])[:, 0]
    return measure_precision(Agent(model, processor, "mine"), episodes, rows, exact.float(), ALONE), pixels, exact


def test_the_figure_written_out(tiny_config, processor, episodes, rows):
    world = Products(tiny_config)
    found, pixels, _ = measured(world, processor, episodes, rows)
    pixels, weight = pixels[..., ::7, ::7].flatten(1).numpy(), world.weight.detach().numpy()
    exact = (pixels * weight).astype(np.float64)
    moved = rounded(rounded(pixels) * rounded(weight)).astype(np.float64)
    shift = np.mean([np.sqrt(((a - b) ** 2).sum()) for a, b in zip(moved, exact, strict=True)])
    spread = np.sqrt(exact.var(0).sum())
    assert found.frames == 60 and 0 < found.ratio < 0.1
    assert (found.shift, found.spread) == (pytest.approx(shift, rel=1e-6), pytest.approx(spread, rel=1e-6))
    assert found.ratio == pytest.approx(shift / spread, rel=1e-6)


def test_a_batch_norm_of_features_that_hardly_vary(tiny_model, processor, episodes, rows):
    """What enters it is 14 and, in each channel, less than half of the spacing of bfloat16 around 14, 2 ** -4: rounded,
    every frame is the same. In float32 its statistics make embeddings of it whose spread is of order one.
    """
    projector = tiny_model.projector
    entering = []
    with torch.no_grad():
        projector.fc1.weight.mul_(1e-2)
        projector.fc1.bias.fill_(14.0)
        hook = projector.batch_norm.register_forward_pre_hook(lambda module, inputs: entering.append(inputs[0]))
        measured(tiny_model, processor, episodes, rows)
        hook.remove()
        seen = torch.cat([one.flatten(0, -2) for one in entering if one.dtype == torch.float32])
        assert (seen - 14).abs().max() < 2**-5 and (seen.var(0) > 0).all()
        projector.batch_norm.running_mean.copy_(seen.mean(0))
        projector.batch_norm.running_var.copy_(seen.var(0))
        projector.batch_norm.eps = 0.0
    found, pixels, exact = measured(tiny_model, processor, episodes, rows)
    with torch.no_grad():
        one = tiny_model.to(torch.bfloat16).encode(pixels[:, None])[:, 0].float()
    assert torch.equal(one, one[:1].expand_as(one)) and len(exact.unique(dim=0)) > 40
    # The mean distance of points from any fixed one is no less than their mean distance from their median.
    assert found.ratio > 0.5 and found.shift == pytest.approx(float((one - exact).norm(dim=1).mean()), rel=1e-4)


def test_health_says_what_a_checkpoint_loaded_in_bfloat16_does(tiny_checkpoint, processor, episodes, rows):
    model = LeWMModel.from_pretrained(tiny_checkpoint).eval()
    result = health(model, episodes, processor=processor, frames=60, stretches=10, horizon=1).result
    half = LeWMModel.from_pretrained(tiny_checkpoint, dtype=torch.bfloat16).eval()
    assert half.dtype == torch.bfloat16 and half.projector.batch_norm.weight.dtype == torch.float32
    found, _, exact = measured(model, processor, episodes, rows)
    again, _, moved = measured(half, processor, episodes, rows)
    by_hand = (moved.float() - exact).norm(dim=1).mean() / (exact - exact.mean(0)).square().sum(1).mean().sqrt()
    assert result.precision.frames == 60 and 0.3 * by_hand < result.precision.ratio < 3 * by_hand  # of other frames
    assert found.ratio == pytest.approx(float(by_hand), rel=1e-4)
    # Rounded weights in float32 arithmetic are what the second one is compared with: only activations differ there.
    assert 0 < again.ratio < 1.5 * found.ratio and again.spread == pytest.approx(found.spread, rel=0.05)
    assert model.dtype == torch.float32 and HealthResult.from_json(json.loads(json.dumps(result))) == result


def test_the_report_says_what_it_means_and_what_to_do(processor, episodes, tiny_model):
    result = HealthResult.from_json(json.loads(SHIPPED[0].read_text()))
    assert result.precision is None and "bfloat16" not in format_health(result)
    for ratio, told in ((0.04, False), (1.6, True)):
        content = json.loads(SHIPPED[0].read_text()) | {"precision": Precision(60, ratio, 1.0, ratio)}
        text = format_health(HealthResult.from_json(content))
        assert f"embeddings move by {ratio} of their spread" in text and ("load this model in float32" in text) == told
        assert max(map(len, text.splitlines())) <= 120


def test_a_model_that_does_not_compute_in_bfloat16_has_no_figure(tiny_config, processor, episodes, rows, caplog):
    found, *_ = measured(InDoublePrecisionOnly(tiny_config), processor, episodes, rows)
    assert found is None and "InDoublePrecisionOnly does not compute in bfloat16" in caplog.text
