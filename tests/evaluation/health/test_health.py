import json
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from lewm_hf import LeWMImageProcessor, SIGReg
from lewm_hf.action_blocks import to_blocks
from lewm_hf.evaluation.common.embeddings import (
    encode_rows,
    other_episode,
    same_episode,
    sample_frames,
    sample_stretches,
)
from lewm_hf.evaluation.health.dynamics import WAYS, rollout_errors
from lewm_hf.evaluation.health.report import format_health
from lewm_hf.evaluation.health.result import HealthResult
from lewm_hf.evaluation.health.retrieval import nearest_neighbors
from lewm_hf.evaluation.health.run import health
from lewm_hf.evaluation.health.straightness import plot_straightness, straightness_over_training
from lewm_hf.measures.normality import epps_pulley, normal_quantile
from lewm_hf.measures.straightness import (
    cosines,
    pixel_straightness,
    straightness,
)
from lewm_hf.tasks.registry import make_env
from lewm_hf.tasks.two_room.env import render_positions
from lewm_hf.training.monitors import embedding_monitors

from ..conftest import make_episodes
from ..surprise.test_surprise import Walker

SMALL = {"frames": 200, "stretches": 60, "horizon": 1}


@pytest.fixture
def processor():
    return LeWMImageProcessor(image_size=28)


def test_straightness_is_the_mean_of_cosines_written_out():
    z = np.random.default_rng(0).normal(size=(5, 6, 3))
    found = []
    for sequence in z:
        for t in range(4):
            first, second = sequence[t + 1] - sequence[t], sequence[t + 2] - sequence[t + 1]
            found.append(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
    assert cosines(torch.tensor(z)).shape == (5, 4)
    assert straightness(torch.tensor(z)) == pytest.approx(np.mean(found), rel=1e-5)


def test_straightness_of_known_paths():
    line = torch.arange(5.0)[None, :, None] * torch.tensor([1.0, -2.0])
    assert straightness(line) == pytest.approx(1)
    back_and_forth = torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None]
    assert straightness(back_and_forth) == pytest.approx(-1)
    corner = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
    assert straightness(corner) == pytest.approx(0, abs=1e-7)
    # Standing still has no direction: it neither straightens nor bends a path.
    waiting = torch.tensor([0.0, 1.0, 1.0, 2.0, 3.0, 4.0])[None, :, None]
    assert cosines(waiting).isnan().sum() == 2 and straightness(waiting) == pytest.approx(1)
    assert straightness(torch.zeros(2, 5, 3)) == 0.0 == straightness(torch.randn(2, 2, 3))
    independent = torch.randn(2000, 4, 32, generator=torch.Generator().manual_seed(0))
    assert straightness(independent) == pytest.approx(-0.5, abs=0.01)
    assert embedding_monitors(line, 0.0)["straightness"] == pytest.approx(1)
    pictures = torch.zeros(1, 4, 2, 2, 3, dtype=torch.uint8)
    pictures[0, :, 0, 0, 0] = torch.tensor([0, 100, 250, 255])
    assert pixel_straightness(pictures) == pytest.approx(1)  # differences of uint8 must not wrap around


def test_straightness_over_training_is_read_from_a_run(tmp_path):
    records = [
        {"step": 1, "straightness": -0.4},
        {"step": 1, "eval/straightness": 0.0},
        {"step": 20, "straightness": 0.1},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 30, "straigh')
    assert straightness_over_training(tmp_path) == ([1, 20], [-0.4, 0.1])
    plot_straightness(tmp_path / "s.png", {"run": tmp_path})
    assert (tmp_path / "s.png").stat().st_size > 1000
    with pytest.raises(FileNotFoundError, match="training run"):
        straightness_over_training(tmp_path / "none")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(ValueError, match="no straightness"):
        straightness_over_training(tmp_path)


def test_epps_pulley_is_sigreg_along_the_axes():
    values = torch.randn(300, 6, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.5, 2, 6) + 0.3
    sigreg = SIGReg(6)
    each = [float(sigreg(values[None], torch.eye(6)[:, [d]])) for d in range(6)]
    torch.testing.assert_close(epps_pulley(values), torch.tensor(each), rtol=1e-4, atol=1e-4)
    assert float(epps_pulley(values).mean()) == pytest.approx(float(sigreg(values[None], torch.eye(6))), rel=1e-4)


def test_epps_pulley_against_the_integral():
    """n times the integral of |ecf - exp(-t^2/2)|^2 exp(-t^2/2) over [-3, 3], by SciPy."""
    x = np.random.default_rng(0).exponential(size=80)

    def integrand(t: float) -> float:
        return abs(np.exp(1j * t * x).mean() - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)

    expected = 80 * quad(integrand, -3, 3, limit=200)[0]
    assert float(epps_pulley(torch.tensor(x)[:, None])[0]) == pytest.approx(expected, rel=2e-3)


def test_usual_values_are_those_of_gaussian_samples():
    usual = normal_quantile(200)
    # Standardized with their own mean and deviation, Gaussian draws fit a Gaussian better than they should.
    fitted, drawn = (
        normal_quantile(200, fitted=True),
        torch.randn(200, 2000, generator=torch.Generator().manual_seed(5)),
    )
    own = (drawn - drawn.mean(0)) / drawn.std(0, correction=0)
    assert float((epps_pulley(own) <= fitted).float().mean()) == pytest.approx(0.95, abs=0.02) and fitted < usual / 2
    fresh = epps_pulley(torch.randn(200, 3000, generator=torch.Generator().manual_seed(99)))
    assert float((fresh <= usual).float().mean()) == pytest.approx(0.95, abs=0.02)
    assert float(fresh.mean()) == pytest.approx(1.0525, abs=0.06)
    assert float(epps_pulley(torch.rand(200, 1))[0]) > usual


def test_partners():
    episodes = np.repeat(np.arange(7), [1, 2, 5, 5, 3, 3, 2])
    episodes = episodes[np.random.default_rng(0).permutation(len(episodes))]
    for seed in range(20):
        other, same = other_episode(episodes, seed), same_episode(episodes, seed)
        assert sorted(other) == sorted(same) == list(range(21))
        assert (episodes[other] != episodes).all()
        assert (episodes[same] == episodes).all()
        assert ((same == np.arange(21)) == (np.bincount(episodes)[episodes] == 1)).all()
    with pytest.raises(ValueError, match="more episodes"):
        other_episode(np.array([0, 0, 0, 1, 2]), 0)


def test_neighbors_are_scikit_learns_without_the_own_episode():
    rng = np.random.default_rng(0)
    vectors, episodes = rng.normal(size=(50, 4)), np.arange(50) // 5
    found = nearest_neighbors(vectors, episodes, 3)
    for query in range(50):
        rest = np.flatnonzero(episodes != episodes[query])
        distances, indices = NearestNeighbors(n_neighbors=3).fit(vectors[rest]).kneighbors(vectors[[query]])
        np.testing.assert_array_equal(found.indices[query], rest[indices[0]])
        np.testing.assert_allclose(found.distances[query], distances[0])
    with pytest.raises(ValueError, match="fewer than 3"):
        nearest_neighbors(vectors[:7], episodes[:7], 3)


def test_errors_of_a_model_that_was_loaded_in_half_precision(episodes, tiny_model):
    stretches = sample_stretches(episodes, 8, frames=5, frameskip=5, seed=0)
    latents = torch.randn(8, 5, tiny_model.config.embed_dim, generator=torch.Generator().manual_seed(0))
    expected = rollout_errors(tiny_model, latents, stretches, seed=0)
    half = rollout_errors(deepcopy(tiny_model).to(torch.bfloat16), latents, stretches, seed=0)
    for way in WAYS:
        np.testing.assert_allclose(half[way], expected[way], rtol=0.1)


def test_errors_of_a_model_that_knows_motion(episodes, tiny_config, processor):
    """True actions explain everything away from walls, others do not; the rest by hand."""
    walker = Walker(tiny_config).eval()
    stretches = sample_stretches(episodes, 80, frames=5, frameskip=5, seed=0)
    latents = torch.from_numpy(episodes.states[stretches.rows]).float()
    errors = rollout_errors(walker, latents, stretches, seed=0)
    assert set(errors) == set(WAYS) and errors["true"].shape == (80, 2)
    free = (np.abs(latents[..., 0] - 112) > 40).all(1).numpy() & (np.abs(latents - 112) < 80).all((1, 2)).numpy()
    assert free.sum() > 5
    np.testing.assert_allclose(errors["true"][free], 0, atol=1e-6)
    assert errors["swapped"][free].mean() > 10
    standing = (latents[:, 2:3] - latents[:, 3:]).square().mean(2)
    np.testing.assert_allclose(errors["copy"], standing, rtol=1e-5)
    np.testing.assert_allclose(errors["none"], standing, rtol=1e-3, atol=1e-2)  # TwoRoom has no inertia
    other = other_episode(stretches.episodes, 0)
    blocks = to_blocks(torch.from_numpy(stretches.actions), tiny_config)[:, 2:]
    with torch.no_grad():
        by_hand = walker.rollout(latents[:, 2:3], blocks[other][:, None])[:, 0]
    np.testing.assert_allclose(errors["swapped"], (by_hand - latents[:, 3:]).square().mean(2), rtol=1e-4, atol=1e-4)


def test_errors_equal_step_by_step_prediction(episodes, tiny_model, processor):
    stretches = sample_stretches(episodes, 6, frames=4, frameskip=5, seed=1)
    latents = encode_rows(tiny_model, processor, episodes, stretches.rows)["embeddings"]
    blocks = to_blocks(torch.from_numpy(stretches.actions), tiny_model.config)
    with torch.no_grad():
        predicted = tiny_model.predict(latents[:, :3], blocks)[:, -1]
    expected = (predicted - latents[:, 3]).square().mean(1)
    np.testing.assert_allclose(rollout_errors(tiny_model, latents, stretches, 0)["true"][:, 0], expected, rtol=1e-4)


def test_true_distances():
    room = make_env("two_room", image_size=16)
    states = np.array([[50.0, 100.0], [50.0, 100.0], [50.0, 49.0]])
    goals = np.array([[90.0, 130.0], [174.0, 100.0], [174.0, 49.0]])
    around = 2 * math.dist((50, 100), (112, 49))
    np.testing.assert_allclose(room.distance(states, goals), [50, around, 124])
    pytest.importorskip("pymunk")
    push = np.zeros((3, 7))
    other = push.copy()
    other[0, :2] = 12, 16  # one tolerance of position
    other[1, 4] = 2 * np.pi - np.pi / 9  # one tolerance of angle, the short way round
    other[2, 5:] = 100  # velocities are free
    np.testing.assert_allclose(make_env("push_t", image_size=16).distance(push, other), [1, 1, 0])
    pytest.importorskip("ogbench")
    cubes = np.zeros((1, 41))
    moved = cubes.copy()
    moved[0, 14:17] = 0.3, 0.0, 0.4
    np.testing.assert_allclose(make_env("cube", image_size=16).distance(cubes, moved), [0.5])


def test_a_data_set_of_many_episodes_is_compared_within_episodes_too(episodes, tiny_model, processor):
    """60 frames of 60 episodes would be one of each, and nothing to compare inside an episode."""
    result = health(tiny_model, episodes, processor=processor, frames=60, stretches=8).result
    assert result["settings"]["frames"] == 60 and result["distances"]["within_episode"]["pairs"] == 60


def test_every_section_follows_from_the_model(episodes, tiny_model, processor, tmp_path):
    result = health(tiny_model, episodes, processor=processor, out=tmp_path, seed=3, **SMALL).result
    sample = sample_frames(episodes, 200, 3, together=4)
    z = encode_rows(tiny_model, processor, episodes, sample.rows)["embeddings"].double().numpy()
    spectrum = result["spectrum"]
    singular = np.linalg.svd(z - z.mean(0), compute_uv=False)
    np.testing.assert_allclose(spectrum["singular_values"], singular / singular[0], rtol=1e-6)
    assert spectrum["std_max"] == pytest.approx(z.std(0).max())
    across = other_episode(sample.episodes, 3)
    states = episodes.states[sample.rows]
    env = make_env("two_room", image_size=16)
    true = env.distance(states, states[across])
    latent = np.linalg.norm(z - z[across], axis=1)
    found = result["distances"]["across_episodes"]
    assert found["spearman"] == pytest.approx(spearmanr(latent, true).statistic)
    assert found["interval"][0] < found["spearman"] < found["interval"][1]
    assert result["retrieval"]["random"] == pytest.approx(true.mean())
    assert result["normality"]["raw"]["mean"] == pytest.approx(float(epps_pulley(torch.tensor(z)).mean()), rel=1e-4)
    assert len(result["normality"]["standardized"]["values"]) == 16
    assert result["dynamics"]["stretches"] == 60
    assert (tmp_path / "health.png").exists() and (tmp_path / "neighbors.png").exists()
    text = format_health(HealthResult.from_json(json.loads((tmp_path / "health.json").read_text())))
    assert f"{found['spearman']:.3f}" in text and max(map(len, text.splitlines())) <= 120


def test_it_repeats_itself_and_works_without_an_environment(episodes, tiny_model, processor, tmp_path):
    first, second = (health(tiny_model, episodes, processor=processor, **SMALL).result for _ in range(2))
    assert first["sections_hash"] == second["sections_hash"]
    foreign = make_episodes(20)
    foreign.env_id = "someone/Else-v0"
    result = health(tiny_model, foreign, processor=processor, out=tmp_path, **SMALL).result
    assert result["distances"] is None and result["retrieval"]["nearest"] is None
    assert "Spearman" not in format_health(result)
    assert (tmp_path / "neighbors.png").exists()


@pytest.mark.parametrize("env_id", [None, "lewm/TwoRoom-v0"])
def test_recordings_without_states_are_measured_too(env_id, tiny_model, processor, tmp_path):
    """Pictures and actions alone, with and without the name of an environment."""

    class Recordings(type(make_episodes(1))):
        column_names = ["observation.image", "action"]

        @property
        def states(self):
            raise ValueError("there are no states")

        @states.setter
        def states(self, value):
            self.kept = value

        def frames(self, rows):
            return render_positions(self.kept[rows], image_size=32)

    known = make_episodes(20)
    recorded = Recordings(known.episode_ids, known.lengths, known.actions, known.states, env_id=env_id)
    result = health(tiny_model, recorded, processor=processor, out=tmp_path, **SMALL).result
    assert result["distances"] is None and result["retrieval"]["nearest"] is None
    expected = health(tiny_model, known, processor=processor, **SMALL).result
    for name in ("straightness", "spectrum", "normality", "dynamics"):
        assert result[name] == expected[name]
    assert result["dataset"]["fingerprint"] != expected["dataset"]["fingerprint"]
    assert "None" not in format_health(result)


def test_what_does_not_fit_is_refused_before_any_frame_is_decoded(episodes, tiny_model, processor, monkeypatch):
    monkeypatch.setattr(type(episodes), "frames", lambda *_: pytest.fail("work has started"))

    def refused(subject=episodes, **kwargs):
        with pytest.raises(ValueError) as error:
            health(tiny_model, subject, processor=processor, out="never", **SMALL | kwargs)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "longest has" in refused(horizon=50)
    assert "at least 5" in refused(make_episodes(3))
    assert "stretches=1" in refused(stretches=1)
    tiny_model.config.action_mean = tiny_model.config.action_std = None
    assert "no action statistics" in refused()
