import numpy as np
import pytest
import scipy.stats
import torch

from lewm_hf import LeWMConfig, SIGReg
from lewm_hf.measures.collapse import collapse, collapse_warning
from lewm_hf.measures.spectrum import effective_rank
from lewm_hf.sigreg import sigreg_bounds
from lewm_hf.training.monitors import embedding_monitors


def test_effective_rank_equals_numpy_and_scipy():
    x = np.random.default_rng(0).normal(size=(200, 12)) @ np.diag(np.geomspace(1, 1e-3, 12)) + 5.0
    singular_values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    assert effective_rank(torch.tensor(x)) == pytest.approx(np.exp(scipy.stats.entropy(singular_values)), rel=1e-4)


def test_effective_rank_of_known_spectra():
    axes = torch.cat([torch.eye(6), -torch.eye(6)])
    assert effective_rank(axes) == pytest.approx(6, rel=1e-5)
    assert effective_rank(axes[:, :1] * torch.ones(1, 6)) == pytest.approx(1, rel=1e-3)
    assert effective_rank(torch.ones(10, 6)) == 0.0


def test_embedding_monitors_equal_numpy():
    z = np.random.default_rng(1).normal(size=(16, 4, 8)) * np.linspace(0.1, 2, 8)
    monitors = embedding_monitors(torch.tensor(z), prediction_loss=0.3)
    std = z.reshape(-1, 8).std(0)
    assert monitors["embedding_std_min"] == pytest.approx(std.min(), rel=1e-5)
    assert monitors["embedding_std_mean"] == pytest.approx(std.mean(), rel=1e-5)
    assert monitors["embedding_std_max"] == pytest.approx(std.max(), rel=1e-5)
    copy_last = np.mean((z[:, 1:] - z[:, :-1]) ** 2)
    assert monitors["prediction_over_copy_last"] == pytest.approx(0.3 / copy_last, rel=1e-5)
    assert embedding_monitors(torch.ones(4, 3, 2), 0.0)["prediction_over_copy_last"] == float("inf")


def test_sigreg_bounds_are_what_sigreg_gives():
    config = LeWMConfig(embed_dim=16, sigreg_projections=64)
    sigreg = SIGReg(16, config.sigreg_knots, config.sigreg_t_max, 64)
    gaussian, collapsed = sigreg_bounds(config, 128)
    assert (gaussian, collapsed) == (pytest.approx(1.0525, abs=1e-4), pytest.approx(51.46, abs=0.01))
    assert float(sigreg(torch.zeros(2, 128, 16), sigreg.directions(0, 0))) == pytest.approx(collapsed, rel=1e-4)
    generator = torch.Generator().manual_seed(0)
    values = [
        float(sigreg(torch.randn(4, 128, 16, generator=generator), sigreg.directions(0, step))) for step in range(20)
    ]
    assert np.mean(values) == pytest.approx(gaussian, rel=0.05)


def test_collapse_is_sigreg_between_its_reference_values():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(128, 3, 16, generator=generator)
    assert collapse(noise) == pytest.approx(0, abs=0.01)
    assert collapse(torch.zeros(128, 3, 16)) == pytest.approx(1, abs=1e-4)
    assert collapse(5 * noise) == 0.0
    assert collapse(noise[:4]) is None  # one point of four frames is no different from four Gaussian ones
    found = [collapse(scale * noise) for scale in (0.9, 0.5, 0.2, 0.01)]
    assert found == sorted(found) and found[0] < 0.1 and found[-1] > 0.99
    sigreg = SIGReg(16, projections=4096)
    gaussian, one_point = sigreg_bounds(LeWMConfig(), 128)
    value = float(sigreg((0.5 * noise).transpose(0, 1), sigreg.directions(0, 0)))
    assert found[1] == pytest.approx((value - gaussian) / (one_point - gaussian), rel=0.05)
    assert collapse(noise.unflatten(-1, (4, 4))) == pytest.approx(collapse(noise))  # latents of any shape


def test_a_warning_names_what_to_raise():
    record = {"step": 7, "eval/collapse": 0.97}
    assert collapse_warning(record | {"eval/collapse": 0.2}, {}) is None and collapse_warning({"step": 7}, {}) is None
    warning = collapse_warning(record, {"sigreg_weight": 0.01, "batch_size": 64, "seed": 1})
    assert "step 7" in warning and warning.endswith("raise sigreg_weight=0.01 or batch_size=64")
