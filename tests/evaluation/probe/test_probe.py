import json

import numpy as np
import pytest
import torch

from lewm_hf import LeWMImageProcessor
from lewm_hf.evaluation.common.embeddings import encode, encode_rows, sample_frames, sample_stretches
from lewm_hf.evaluation.probe.report import format_probe
from lewm_hf.evaluation.probe.result import ProbeResult
from lewm_hf.evaluation.probe.run import probe
from lewm_hf.tasks.registry import find_task, make_env, task_names

from ..conftest import make_episodes

FAST = {"frames": 240, "seeds": (0, 1), "mlp_steps": 15}


class PositionModel(torch.nn.Module):
    """A world model whose embedding is the red agent's center, seen through a fixed rotation: linear in the target."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = torch.nn.Parameter(torch.tensor([[0.6, -0.8, 0.1], [0.8, 0.6, -0.3]]))

    def encode(self, pixel_values):
        mass = (pixel_values[:, :, 0] - pixel_values[:, :, 1]).clamp_min(0)
        mass = mass / mass.sum((-1, -2), keepdim=True)
        axis = torch.linspace(-1, 1, mass.shape[-1])
        center = torch.stack([(mass.sum(-2) * axis).sum(-1), (mass.sum(-1) * axis).sum(-1)], -1)
        return center @ self.weight


@pytest.fixture
def processor(tiny_config):
    return LeWMImageProcessor(image_size=28)


@pytest.fixture
def position_model(tiny_config):
    return PositionModel(tiny_config).eval()


def test_the_frames_are_spread_evenly_and_drawn_without_replacement(episodes):
    sample = sample_frames(episodes, 240, seed=3, lead=2)
    assert len(sample) == 240 == len(np.unique(sample.rows))
    counts = np.bincount(sample.episodes, minlength=60)
    assert counts.min() == counts.max() == 4
    frame = sample.rows - episodes.offsets[sample.episodes]
    assert frame.min() >= 2 and (frame < episodes.lengths[sample.episodes]).all()
    again = sample_frames(episodes, 240, seed=3, lead=2)
    np.testing.assert_array_equal(sample.rows, again.rows)
    assert (sample_frames(episodes, 240, seed=4, lead=2).rows != sample.rows).any()


def test_short_episodes_give_what_they_have(episodes):
    every = sample_frames(episodes, 10**9, seed=0)
    np.testing.assert_array_equal(every.rows, np.arange(episodes.lengths.sum()))
    for count in (1, 59, 61, 1500, 2000):
        counts = np.bincount(sample_frames(episodes, count, seed=0).episodes, minlength=60)
        assert counts.sum() == count
        full = counts == episodes.lengths
        assert np.ptp(counts[~full]) <= 1 and (counts[full] <= counts[~full].max()).all()


def test_few_frames_of_many_episodes_come_together(episodes):
    counts = np.bincount(sample_frames(episodes, 62, seed=0, together=4).episodes, minlength=60)
    assert counts.sum() == 62 and (counts > 0).sum() == 15 and counts[counts > 0].min() == 4


def test_stretches_carry_the_actions_between_their_frames(episodes):
    stretches = sample_stretches(episodes, 50, frames=4, frameskip=5, seed=0)
    assert stretches.rows.shape == (50, 4) and stretches.actions.shape == (50, 15, 2)
    for rows, episode, actions in zip(stretches.rows, stretches.episodes, stretches.actions, strict=True):
        first, last = episodes.offsets[episode], episodes.offsets[episode] + episodes.lengths[episode]
        assert first <= rows[0] and rows[-1] < last and (np.diff(rows) == 5).all()
        np.testing.assert_array_equal(actions, episodes.actions[rows[0] : rows[-1]])
    assert np.isfinite(stretches.actions).all()
    with pytest.raises(ValueError, match="longest has"):
        sample_stretches(episodes, 5, frames=40, frameskip=5, seed=0)


def test_rows_are_encoded_as_frames_are(episodes, tiny_model, processor):
    rows = np.array([[5, 9, 5], [700, 0, 9]])
    by_rows = encode_rows(tiny_model, processor, episodes, rows, batch_size=2)
    direct = encode(tiny_model, processor, episodes.frames(rows.ravel()))
    assert by_rows["features"].shape == (2, 3, 24) and by_rows["embeddings"].shape == (2, 3, 16)
    for name in ("features", "embeddings"):
        torch.testing.assert_close(by_rows[name].flatten(0, 1), direct[name])
    pixels = processor(episodes.frames(rows[0]))["pixel_values"]
    torch.testing.assert_close(direct["embeddings"][:3], tiny_model.encode(pixels[None])[0].detach())


def test_a_linear_code_is_read_by_the_linear_probe(episodes, position_model, processor):
    found = probe(position_model, episodes, processor=processor, probes=["linear"], controls=False, **FAST).rows
    by_input = {(row.target, row.input): row for row in found}
    assert len(found) == 3 and all(row.representation == "projected" for row in found)
    position = by_input["agent position", "frame"]
    assert position.r2 > 0.97 and position.r > 0.98 and position.mse < 0.03
    # One frame says nothing about a velocity, three say much.
    assert by_input["agent velocity", "frame"].r2 < 0.3
    assert by_input["agent velocity", "window"].r2 > by_input["agent velocity", "frame"].r2 + 0.2


def test_scores_are_those_of_a_naive_probe(episodes, position_model, processor):
    """Everything of one row once more, by hand."""
    row = probe(
        position_model, episodes, targets=["agent position"], processor=processor, probes=["linear"], controls=False,
        frames=300, seeds=(7,),
    ).rows[0]  # fmt: skip
    sample = sample_frames(episodes, 300, seed=0, lead=2)
    pixels = processor(episodes.frames(sample.rows))["pixel_values"]
    x = position_model.encode(pixels[:, None])[:, 0].detach().double().numpy()
    y = episodes.states[sample.rows]
    train = np.isin(sample.episodes, np.random.default_rng(7).permutation(60)[:42])
    x, y = ((v - v[train].mean(0)) / v[train].std(0) for v in (x, y))
    x1 = np.hstack([x, np.ones((300, 1))])
    weights, *_ = np.linalg.lstsq(x1[train], y[train], rcond=None)
    errors = np.square(x1[~train] @ weights - y[~train]).mean(1)
    assert (row.train_frames, row.test_frames) == (train.sum(), (~train).sum())
    assert (row.mse, row.mse_sd) == pytest.approx((errors.mean(), errors.std()), rel=3e-2)  # ridge shrinks a little


def test_an_embedding_without_the_target_reads_as_nothing(episodes, tiny_model, processor):
    class Blind(PositionModel):
        def encode(self, pixel_values):
            return super().encode(pixel_values) * 0 + torch.arange(3.0)

    blind = Blind(tiny_model.config).eval()
    rows = probe(blind, episodes, processor=processor, targets=["agent position"], controls=False, **FAST).rows
    for row in rows:
        assert row.r2 <= 0 and row.r == pytest.approx(0, abs=1e-9) and 0.8 < row.mse < 1.2


def test_controls_both_probes_and_repeatable_files(episodes, tiny_model, processor, tmp_path):
    runs = [
        probe(tiny_model, episodes, targets=["agent position"], processor=processor, out=tmp_path / str(run), **FAST)
        for run in range(2)
    ]
    assert runs[0].rows == runs[1].rows
    assert (tmp_path / "0/probe.png").read_bytes() == (tmp_path / "1/probe.png").read_bytes()
    saved = json.loads((tmp_path / "0/probe.json").read_text())
    assert saved["rows_hash"] == runs[1].result["rows_hash"]
    names = {(row.representation, row.probe) for row in runs[0].rows}
    controls = ("encoder", "projected", "untrained encoder", "pixel PCA")
    assert names == {(name, which) for name in controls for which in ("linear", "mlp")}
    by_name = {(row.representation, row.probe): row for row in runs[0].rows}
    assert by_name["untrained encoder", "linear"].mse != by_name["encoder", "linear"].mse
    for row in runs[0].rows:
        assert row.mse_interval[0] <= row.mse <= row.mse_interval[1]
        assert row.mse == pytest.approx(np.mean(row.per_seed["mse"]))
    table = format_probe(ProbeResult.from_json(saved))
    published = next(line for line in table.splitlines() if "paper: LeWM" in line)
    assert published.split() == ["paper:", "LeWM", "0.008", "±", "0.018", "0.996", "0.000", "1.000"]
    # A task of somebody's script, read by a process that knows nothing of it.
    assert "paper:" not in format_probe(ProbeResult.from_json(saved | {"env": "their_maze"}))
    assert "pixel PCA" in table and max(map(len, table.splitlines())) <= 120


def test_what_does_not_fit_is_refused_before_any_frame_is_decoded(episodes, tiny_model, processor, monkeypatch):
    few = make_episodes(4)
    foreign = make_episodes(8)
    foreign.env_id = "someone/Else-v0"
    monkeypatch.setattr(type(episodes), "frames", lambda *_: pytest.fail("work has started"))

    def refused(subject=episodes, model=tiny_model, **kwargs):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            probe(model, subject, processor=processor, out="never", **kwargs)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "use any of agent position, agent velocity" in refused(targets=["block angle"])
    assert "at least 5" in refused(few)
    assert "someone/Else-v0" in refused(foreign)
    assert "seeds=[1, 1]" in refused(seeds=[1, 1])
    assert "unknown probe 'deep'" in refused(probes=["deep"])
    assert "frames=3" in refused(frames=3)
    tiny_model.train()
    assert "model.eval()" in refused()
    tiny_model.eval().config.action_dim = 5
    assert "action_dim=5" in refused()


@pytest.mark.parametrize("name", task_names())
def test_every_published_target_is_measured(name):
    task = find_task(name)
    pytest.importorskip({"pusht": "pymunk", "cube": "ogbench", "reacher": "dm_control"}.get(task.extra, "gymnasium"))
    env = make_env(name, image_size=16)
    assert set(task.published_probes) <= {target.name for target in env.probe_targets}
    env.close()


def _random_states(env, count: int) -> np.ndarray:
    states = []
    for seed in range(count):
        env.reset(seed=seed, options={"goal_image": False})
        for _ in range(2):
            env.step(env.action_space.sample())
        states.append(env.get_state())
    return np.stack(states)


def test_push_t_targets():
    pytest.importorskip("pymunk")
    states = np.random.default_rng(0).uniform(0, 6, (5, 7))
    values = make_env("push_t", image_size=16).probe_values(states, states - 1)
    np.testing.assert_allclose(np.arctan2(*values["block angle"].T), (states[:, 4] + np.pi) % (2 * np.pi) - np.pi)
    np.testing.assert_array_equal(values["block velocity"], np.ones((5, 2)))
    np.testing.assert_array_equal(values["agent velocity"], states[:, 5:])


def test_reachers_fingertip_is_where_two_links_of_12_cm_put_it():
    pytest.importorskip("dm_control")
    env = make_env("reacher", image_size=16)
    states = _random_states(env, 4)
    values = env.probe_values(states, states)
    shoulder, elbow = states[:, 0], states[:, 0] + states[:, 1]
    tip = 0.12 * np.stack([np.cos(shoulder) + np.cos(elbow), np.sin(shoulder) + np.sin(elbow)], 1)
    np.testing.assert_allclose(values["fingertip position"], tip, atol=1e-9)
    env.close()


def test_cube_targets_are_oracle_readings_of_restored_states():
    pytest.importorskip("ogbench")
    env = make_env("cube", image_size=16)
    states = _random_states(env, 2)
    values = env.probe_values(states, states - 0.5)
    np.testing.assert_allclose(values["joint position"], states[:, :6])
    np.testing.assert_allclose(values["block position"], states[:, 14:17])
    np.testing.assert_allclose(values["block velocity"], np.full((2, 3), 0.5))
    w, z = states[:, 17], states[:, 20]
    yaw = 2 * np.arctan2(z, w)
    np.testing.assert_allclose(values["block yaw"], np.stack([np.sin(yaw), np.cos(yaw)], 1), atol=2e-2)
    np.testing.assert_allclose(values["block yaw mod 90"], np.stack([np.sin(4 * yaw), np.cos(4 * yaw)], 1), atol=8e-2)
    assert (values["block quaternion"][:, 0] >= 0).all()
    assert set(values) == {target.name for target in env.probe_targets}
    env.close()
