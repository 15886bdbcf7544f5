"""A foreign world model whose latents are patches goes through everything, in bounded memory."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from torch.utils._python_dispatch import TorchDispatchMode
from world_models.patch_world import PatchWorldConfig, PatchWorldModel

from lewm_hf import ImitationConfig, ImitationModel, LeWMImageProcessor
from lewm_hf.evaluation.common.embeddings import encode_rows, sample_stretches
from lewm_hf.evaluation.health.dynamics import rollout_errors
from lewm_hf.evaluation.health.run import health
from lewm_hf.evaluation.probe import regression as probes
from lewm_hf.evaluation.probe.run import probe
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.evaluation.surprise.run import surprise
from lewm_hf.measures import normality, spectrum
from lewm_hf.measures.normality import epps_pulley
from lewm_hf.measures.spectrum import effective_rank, isometric
from lewm_hf.planning import plan


@pytest.fixture(scope="module")
def patches():
    torch.manual_seed(0)
    config = PatchWorldConfig(image_size=32, patch_size=16, action_mean=[0.0, 0.0], action_std=[0.7, 0.7])
    return PatchWorldModel(config).eval()


@pytest.fixture(scope="module")
def processor():
    return LeWMImageProcessor(image_size=32)


class Largest(TorchDispatchMode):
    """The most entries that any tensor made inside had."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.numel())
        return out


def test_planning_and_evaluation(patches, processor, episodes):
    context = patches.encode(torch.randn(2, 2, 3, 32, 32)).detach()
    goal = patches.encode(torch.randn(2, 1, 3, 32, 32)).detach()[:, 0]
    planned = plan(patches, context, goal, executed=torch.zeros(2, 1, 10))
    assert planned.predicted_embeddings.shape == (2, 5, 4, 6)
    imagined = patches.rollout(context, planned.blocks[:, None], torch.zeros(2, 1, 10))[:, 0, -1]
    torch.testing.assert_close(planned.costs, (imagined - goal).square().sum((1, 2)), rtol=1e-4, atol=1e-4)
    start = patches.rollout(context, torch.zeros(2, 1, 5, 10), torch.zeros(2, 1, 10))[:, 0, -1]
    assert (planned.costs < (start - goal).square().sum((1, 2))).all()
    result = evaluate(patches, episodes=episodes, processor=processor, n=2, seeds=[0]).result
    assert result["model"]["class"] == "PatchWorldModel" and 0 <= result["success"]["rate"] <= 1


def test_probe_and_surprise(patches, processor, episodes):
    rows = probe(
        patches, episodes, processor=processor, targets=["agent position"], frames=200, seeds=(0,), mlp_steps=5
    ).rows  # fmt: skip
    assert {row.representation for row in rows} == {"projected", "untrained encoder", "pixel PCA"}
    found = surprise(patches, env="two_room", processor=processor, trajectories=2, steps=40).result
    assert found["settings"]["context"] == 2 and np.isfinite(found["curves"]["teleport"]["mean"]).all()


def test_health_measures_tokens(patches, processor, episodes, tmp_path):
    result = health(patches, episodes, processor=processor, frames=120, stretches=70, horizon=2, out=tmp_path).result
    assert result["spectrum"]["dimensions"] == 6 and 1 <= result["spectrum"]["effective_rank"] <= 6
    assert len(result["normality"]["raw"]["values"]) == 4 * 6
    assert result["dynamics"]["stretches"] == 70 and result["straightness"]["terms"] > 0
    assert (tmp_path / "health.png").exists()


def test_a_patch_that_never_changes_fills_no_dimension():
    generator = torch.Generator().manual_seed(0)
    still = torch.randn(1, 9, 5, generator=generator).expand(50, 9, 5)  # patches differ, frames do not
    assert effective_rank(still) == 0.0
    moving = still + torch.randn(50, 9, 1, generator=generator) * torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0])
    assert effective_rank(moving) == pytest.approx(1, rel=1e-3)
    assert effective_rank(still + torch.randn(50, 9, 5, generator=generator)) == pytest.approx(5, rel=0.01)


def test_wide_and_tall_matrices_have_the_singular_values_of_numpy(monkeypatch):
    monkeypatch.setattr(spectrum, "DIRECT", 0)
    for shape in ((7, 40), (40, 7), (9, 9)):
        rows = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
        expected = np.linalg.svd((rows - rows.mean(0)).double().numpy(), compute_uv=False)
        expected[expected < 1e-6] = 0
        np.testing.assert_allclose(spectrum.singular_values(rows).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_fewer_dimensions_keep_all_distances():
    vectors = torch.randn(30, 500, generator=torch.Generator().manual_seed(2)) + 40
    small = isometric(vectors)
    assert small.shape == (30, 30)
    np.testing.assert_allclose(pdist(small.numpy()), pdist(vectors.double().numpy()), rtol=1e-5)


def test_portions_change_no_statistic(monkeypatch, patches, processor, episodes):
    values = torch.randn(50, 23, generator=torch.Generator().manual_seed(3))
    whole = epps_pulley(values)
    monkeypatch.setattr(normality, "ANGLES", 50 * 17 * 4)
    torch.testing.assert_close(epps_pulley(values), whole)
    stretches = sample_stretches(episodes, 20, 4, 5, 0)
    latents = encode_rows(patches, processor, episodes, stretches.rows)["embeddings"]
    errors = rollout_errors(patches, latents, stretches, 0)
    part = rollout_errors(patches, latents[5:9], stretches, 0, slice(5, 9))
    for way, found in part.items():
        np.testing.assert_allclose(found, errors[way][5:9], rtol=1e-5)


def test_latents_of_the_published_width_stay_small():
    """196 patches of 384; all angles of 200 frames at once would take 1 GB, a covariance of the entries 45 GB."""
    latents = torch.randn(200, 196, 384, generator=torch.Generator().manual_seed(4))
    with Largest() as largest:
        epps_pulley(latents.flatten(1)[:, :20000])
        rank = effective_rank(latents)
        isometric(latents.flatten(1))
    assert largest.entries <= max(latents.numel(), normality.ANGLES)
    assert 380 < rank <= 384


def test_wide_latents_are_sketched_for_probes(monkeypatch):
    monkeypatch.setattr(probes, "WIDEST", 100)
    monkeypatch.setattr(probes, "SKETCHED", 600)
    sketch, again = probes.Sketch(), probes.Sketch()
    narrow = torch.randn(4, 10, 10)
    assert torch.equal(sketch(narrow), narrow.flatten(1)) and not sketch.used
    wide = torch.randn(40, 20, 50, generator=torch.Generator().manual_seed(5))
    assert sketch(wide).shape == (40, 600) and sketch.used
    assert torch.equal(again(wide[:7]), sketch(wide)[:7]) or torch.allclose(
        again(wide[:7]), sketch(wide)[:7], atol=1e-4
    )
    true, found = (cdist(x, x)[np.triu_indices(40, 1)] for x in (wide.flatten(1).numpy(), sketch(wide).numpy()))
    assert np.abs(found / true - 1).max() < 0.2


def test_a_model_that_only_imitates_acts_and_is_refused_where_a_future_is_asked_for(episodes, tmp_path):
    torch.manual_seed(0)
    config = ImitationConfig(
        image_size=32, patch_size=16, encoder_hidden_size=24, encoder_layers=1, encoder_mlp_size=24, embed_dim=8,
        projector_hidden_size=16, actor_hidden_size=16, action_mean=[0.0, 0.0], action_std=[0.7, 0.7],
    )  # fmt: skip
    model, processor = ImitationModel(config).eval(), LeWMImageProcessor(image_size=32)
    result = evaluate(model, policy="actor", episodes=episodes, processor=processor, n=2, seeds=[0]).result
    assert result["model"]["class"] == "ImitationModel" and result["planner"]["label"].startswith("actor")
    rows = probe(
        model, episodes, processor=processor, targets=["agent position"], frames=100, seeds=(0,), mlp_steps=2
    ).rows
    assert {row.representation for row in rows} >= {"encoder", "projected"}
    asks = "which ImitationModel does not predict: give a world model, or let this one act with policy=actor"
    with pytest.raises(ValueError, match=f"planner goal-time-v1 asks what follows from actions, {asks}"):
        evaluate(model, episodes=episodes, processor=processor, n=2, seeds=[0])
    with pytest.raises(ValueError, match=f"health asks what follows from actions, {asks}"):
        health(model, episodes, processor=processor, out=tmp_path / "never")
    with pytest.raises(ValueError, match="surprise asks what follows from actions"):
        surprise(model, env="two_room", processor=processor, trajectories=2, out=tmp_path / "never")
    assert not (tmp_path / "never").exists()
