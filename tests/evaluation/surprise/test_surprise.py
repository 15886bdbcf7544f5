import json
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ttest_rel
from sklearn.metrics import roc_auc_score

from lewm_hf import LeWMImageProcessor
from lewm_hf.action_blocks import from_blocks
from lewm_hf.evaluation.common.inputs import Agent
from lewm_hf.evaluation.surprise.events import record_takes
from lewm_hf.evaluation.surprise.report import format_surprise
from lewm_hf.evaluation.surprise.result import SurpriseResult
from lewm_hf.evaluation.surprise.run import surprise
from lewm_hf.evaluation.surprise.scores import surprise_curve
from lewm_hf.tasks.registry import make_env

SMALL = {"env": "two_room", "trajectories": 8, "steps": 60}


class Walker(torch.nn.Module):
    """Knows TwoRoom without walls: sees the agent's place, whatever its color, and adds up its actions."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.dummy = torch.nn.Parameter(torch.zeros(1))

    def encode(self, pixel_values):
        # The agent is the only colored thing: channels differ there and nowhere else.
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        pictures = pixel_values * std + mean
        mass = (pictures.amax(2) - pictures.amin(2)).clamp_min(0) ** 2
        mass = mass / mass.sum((-1, -2), keepdim=True)
        axis = (torch.arange(mass.shape[-1]) + 0.5) * 224 / mass.shape[-1] - 0.5
        return torch.stack([(mass.sum(-2) * axis).sum(-1), (mass.sum(-1) * axis).sum(-1)], -1)

    def rollout(self, context, candidates, executed=None):
        batch, samples, horizon, _ = candidates.shape
        moves = from_blocks(candidates, self.config).clamp(-1, 1).unflatten(2, (horizon, -1)).sum(3) * 5
        return context[:, None, -1:] + moves.cumsum(2)


@pytest.fixture
def processor():
    return LeWMImageProcessor(image_size=28)


@pytest.fixture
def walker(tiny_config):
    return Walker(tiny_config).eval()


def test_the_curve_is_one_prediction_after_the_other(tiny_model):
    latents, blocks = torch.randn(9, 16), torch.randn(8, 10)
    expected = []
    for target in range(3, 9):
        window = slice(target - 3, target)
        with torch.no_grad():
            predicted = tiny_model.predict(latents[None, window], blocks[None, window])[0, -1]
        expected.append(float((predicted - latents[target]).square().mean()))
    np.testing.assert_allclose(surprise_curve(tiny_model, latents, blocks), expected, rtol=1e-4)
    half = surprise_curve(deepcopy(tiny_model).to(torch.bfloat16), latents, blocks)  # a model that was loaded in it
    np.testing.assert_allclose(half, expected, rtol=0.1)


def test_a_model_that_knows_motion_notices_teleports_and_not_colors(walker, processor):
    found = surprise(walker, processor=processor, env_kwargs={"image_size": 64}, **SMALL).result["events"]
    teleport, color = found["teleport"], found["color"]
    assert teleport["at_event"]["roc_auc"] == 1.0 and teleport["at_event"]["paired_test"]["p_value"] < 0.01
    # A jump of d pixels is a surprise of d^2 / 2 in two coordinates.
    assert teleport["at_event"]["perturbed_mean"] > 50**2 / 2 * 0.8
    assert color["at_event"]["perturbed_mean"] < 0.1 * teleport["at_event"]["perturbed_mean"]
    assert color["at_event"]["ratio"] == pytest.approx(1, abs=0.5)


def test_every_statistic_follows_from_the_rows(tiny_model, processor):
    run = surprise(tiny_model, processor=processor, **SMALL)
    settings, history = run.result["settings"], tiny_model.config.history_size
    at = settings["event_step"] // 5 - history
    assert settings["event_step"] == 30 and settings["steps"] == 60
    values = {v: np.array([r.curve for r in run.rows if r.variant == v]) for v in ("unperturbed", "color", "teleport")}
    assert values["color"].shape == (8, 13 - history)
    for row in run.rows:
        assert row.at_event == row.curve[at]
        assert row.around_event == pytest.approx(np.mean(row.curve[at : at + history]))
        assert row.before == pytest.approx(np.mean(row.curve[:at]))
    for variant in ("color", "teleport"):
        found = run.result["events"][variant]["at_event"]
        odd, usual = values[variant][:, at], values["unperturbed"][:, at]
        assert found["paired_test"]["t"] == pytest.approx(ttest_rel(odd, usual).statistic)
        assert found["paired_test"]["p_value"] == pytest.approx(ttest_rel(odd, usual).pvalue)
        assert found["roc_auc"] == pytest.approx(roc_auc_score([0] * 8 + [1] * 8, np.r_[usual, odd]))
        if found["roc_auc_interval"] is None:  # groups that do not overlap: no resample differs
            assert found["roc_auc"] in (0, 1)
        else:
            low, high = found["roc_auc_interval"]
            assert 0 <= low <= found["roc_auc"] <= high <= 1 and low < high
        # Nothing has happened yet, so nothing may differ.
        np.testing.assert_array_equal(values[variant][:, :at], values["unperturbed"][:, :at])
        np.testing.assert_allclose(run.result["curves"][variant]["mean"], values[variant].mean(0))


def test_running_twice_gives_the_same_rows_and_files(tiny_model, processor, tmp_path):
    first = surprise(tiny_model, processor=processor, out=tmp_path / "a", **SMALL)
    second = surprise(tiny_model, processor=processor, out=tmp_path / "b", **SMALL)
    assert first.rows == second.rows
    fewer = surprise(tiny_model, processor=processor, **SMALL | {"trajectories": 2})
    for some, same in zip(fewer.rows, first.rows, strict=False):
        np.testing.assert_allclose(some.curve, same.curve, rtol=1e-5)
    for name in ("surprise.png", "surprise.gif"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    saved = json.loads((tmp_path / "a/surprise.json").read_text())
    assert saved["rows_hash"] == second.result["rows_hash"] and len(saved["rows"]) == 24
    with Image.open(tmp_path / "a/surprise.gif") as film:
        assert film.n_frames == 13
    text = format_surprise(SurpriseResult.from_json(saved))
    assert "teleport: the agent, by at least 50 px" in text and max(map(len, text.splitlines())) < 140
    other = surprise(tiny_model, processor=processor, **SMALL | {"seed": 1})
    assert other.result["rows_hash"] != first.result["rows_hash"]


def takes_of(name: str, frames: int, frameskip: int, event: int, episode: int = 0, **kwargs):
    env = make_env(name, **kwargs)
    try:
        settings = {"frames": frames, "frameskip": frameskip, "event": event}
        return record_takes(env, env_name=name, seed=5, episode=episode, **settings)
    finally:
        env.close()


def check_takes(takes, event: int):
    usual, color, teleport = (takes[name] for name in ("unperturbed", "color", "teleport"))
    for take in (color, teleport):
        np.testing.assert_array_equal(take.states[:event], usual.states[:event])
        np.testing.assert_array_equal(take.frames[:event], usual.frames[:event])
        assert (take.frames[event] != usual.frames[event]).any()
    # A color changes nothing but the pictures.
    np.testing.assert_array_equal(color.states, usual.states)
    np.testing.assert_array_equal(color.actions, usual.actions)
    assert (teleport.states[event] != usual.states[event]).any()
    assert not np.array_equal(color.frames[event], teleport.frames[event])


def test_two_room_events():
    distances, colors = [], []
    for episode in range(6):
        takes = takes_of("two_room", frames=7, frameskip=3, event=4, episode=episode, image_size=64)
        check_takes(takes, 4)
        usual, color, teleport = (takes[name] for name in ("unperturbed", "color", "teleport"))
        distances.append(math.dist(teleport.states[4], usual.states[4]))
        assert np.abs(np.diff(usual.states, axis=0)).max() <= 15 + 1e-9  # no step of its own is a jump
        changed = (color.frames[4] != usual.frames[4]).any(-1)
        colors.append(color.frames[4][changed].mean(0))
        # Only the agent looks different.
        center = usual.states[4] * 64 / 224
        y, x = np.nonzero(changed)
        assert np.hypot(x - center[0], y - center[1]).max() < 16
    assert min(distances) >= 50 and np.ptp(distances) > 10
    assert len({tuple(np.round(color)) for color in colors}) == 6


def test_push_t_events():
    pytest.importorskip("pymunk")
    takes = takes_of("push_t", frames=5, frameskip=3, event=2, image_size=64)
    check_takes(takes, 2)
    before, after = takes["unperturbed"].states[2], takes["teleport"].states[2]
    assert math.dist(before[:2], after[:2]) >= 100 and math.dist(before[2:4], after[2:4]) >= 100
    np.testing.assert_array_equal(before[4:], after[4:])


def test_reacher_events():
    pytest.importorskip("dm_control")
    takes = takes_of("reacher", frames=4, frameskip=2, event=2, image_size=32, render_quality="fast")
    check_takes(takes, 2)
    before, after = takes["unperturbed"].states[2], takes["teleport"].states[2]
    turned = np.abs((after[:2] - before[:2] + np.pi) % (2 * np.pi) - np.pi)
    assert turned.max() >= 1.0


@pytest.mark.long
def test_cube_events():
    pytest.importorskip("ogbench")
    takes = takes_of("cube", frames=4, frameskip=2, event=2, image_size=32, render_quality="fast")
    check_takes(takes, 2)
    before, after = takes["unperturbed"].states[2], takes["teleport"].states[2]
    assert math.dist(before[14:16], after[14:16]) >= 0.1
    np.testing.assert_array_equal(before[:14], after[:14])
    assert after[16] == 0.02 and not after[-6:].any()


def test_what_does_not_fit_is_refused_before_the_first_episode(tiny_model, processor, monkeypatch):
    monkeypatch.setattr(
        "lewm_hf.evaluation.surprise.run.record_takes", lambda *_, **__: pytest.fail("work has started")
    )

    def refused(model=tiny_model, **kwargs):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            surprise(model, processor=processor, out="never", **SMALL | kwargs)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "steps=20" in refused(steps=20) and "at least 40" in refused(steps=20)
    assert "trajectories=1" in refused(trajectories=1)
    assert "someone/Else" in refused(env="someone/Else")
    assert "does not say what it was trained on" in refused(env=None)
    trained = Agent(tiny_model, processor, "DIR", trained_on="lewm/PushT-v0")
    assert "was trained on lewm/PushT-v0" in refused(trained)
    tiny_model.config.action_dim = 5
    assert "action_dim=5" in refused()
    tiny_model.train()
    assert "model.eval()" in refused()


def test_the_least_number_of_steps_is_enough(tiny_model, processor):
    run = surprise(tiny_model, processor=processor, **SMALL | {"steps": 40, "trajectories": 2})
    assert run.result["settings"]["event_step"] == 20 and len(run.rows[0].curve) == 6
