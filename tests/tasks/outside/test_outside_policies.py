"""Episodes by a class of the user's own, and by checkpoints of Stable-Baselines3."""

import json

import gymnasium
import numpy as np
import pytest

from lewm_hf.cli import main
from lewm_hf.data.episodes import load_episodes

from .commands import command

pytestmark = pytest.mark.usefixtures("own_module")


def collect(out, env, policy, *more):
    command("collect", env, "--policy", policy, "--episodes", 2, "--test-fraction", 0, "--image-size", 24,
            "--workers", 1, "--max-steps", 30, "--out", out, *more)  # fmt: skip
    return load_episodes(out, "train")


def test_a_class_of_ones_own_acts(tmp_path):
    episodes = collect(tmp_path, "slider_task:Slider-v0", "slider_task:Swing")
    pushes = episodes.actions[np.isfinite(episodes.actions)]
    assert set(pushes) == {-1.0, 1.0} and (pushes[1:] == pushes[:-1]).mean() > 0.5
    assert episodes.description["collector"]["expert"] == "slider_task:Swing"


@pytest.mark.parametrize(
    "algorithm, env, more", [("PPO", "CartPole-v1", {}), ("SAC", "Pendulum-v1", {"buffer_size": 10})]
)
def test_a_checkpoint_of_stable_baselines_acts(algorithm, env, more, tmp_path):
    """Every recorded action is what the library itself answers to the recorded observation."""
    baselines = pytest.importorskip("stable_baselines3")
    agent = getattr(baselines, algorithm)("MlpPolicy", gymnasium.make(env), seed=3, device="cpu", **more)
    agent.save(tmp_path / "agent.zip")
    episodes = collect(tmp_path / "episodes", env, tmp_path / "agent.zip")
    known = np.isfinite(episodes.actions).all(1)
    answers, _ = agent.predict(episodes.observations[known].astype(np.float32), deterministic=True)
    if episodes.action_choices:
        answers = np.eye(2)[answers]
    np.testing.assert_allclose(episodes.actions[known], answers, atol=1e-5)
    (arguments,) = [episodes.description["collector"]["expert_kwargs"]]
    assert arguments["deterministic"] and len(arguments["sha256"]) == 64


def test_what_is_no_policy_is_refused_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    import zipfile

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data", json.dumps({"observation_space": {}}))
    for policy, message in (
        ("nowhere:Policy", "nowhere cannot be imported"),
        ("slider_task:Nobody", "None is not a policy; give a class with reset(env, rng) and act(env)"),
        (tmp_path / "missing.zip", "there is no policy"),
        (tmp_path / "broken.zip", "is not a checkpoint of Stable-Baselines3"),
        (tmp_path / "other.zip", "none of the algorithms PPO"),
        ("somebody", "unknown expert 'somebody' for slider_v0: use one of default, random, module:Class"),
    ):
        words = ["collect", "slider_task:Slider-v0", "--policy", policy, "--episodes", 2, "--out", tmp_path / "out"]
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert main(["collect", "Slider-v0", "--policy", "a:B", "--expert", "random", "--episodes", "2", "--out", "x"]) == 2
    assert "contradict each other" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
