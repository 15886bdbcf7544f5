import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lewm_hf.tasks.policies import expert_names, make_expert
from lewm_hf.tasks.random_policy import RandomPolicy
from lewm_hf.tasks.reacher import expert as module
from lewm_hf.tasks.reacher.env import ReacherEnv
from lewm_hf.tasks.reacher.expert import SACExpert, features, load_actor, save_actor, success_rate, train_sac


@pytest.fixture(scope="module")
def env():
    env = ReacherEnv(image_size=16)
    env.reset(seed=0, options={"goal_image": False})
    return env


@pytest.fixture(scope="module")
def sac():
    """Untrained, but with biases and standard deviations that differ from zero."""
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    model = stable_baselines3.SAC(
        "MlpPolicy", module._TrainingEnv(), policy_kwargs={"net_arch": [24, 24]}, seed=0, device="cpu"
    )
    torch.manual_seed(0)
    for parameter in model.actor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def stored(sac, tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "actor.safetensors"
    save_actor(sac.actor, path, {"steps": 7, "seed": 0})
    return path


def test_the_released_data_s_policy_is_the_default(env):
    assert expert_names("reacher") == ("random", "sac")
    policy = make_expert("reacher")
    assert isinstance(policy, RandomPolicy)
    policy.reset(env, np.random.default_rng(0))
    actions = np.array([policy.act(env) for _ in range(4000)])
    # Measured on the released episodes: flat, std 0.5767 = 1 / sqrt(3), no correlation in time.
    np.testing.assert_allclose(actions.std(0), 0.5767, atol=0.015)
    assert abs(np.corrcoef(actions[1:, 0], actions[:-1, 0])[0, 1]) < 0.05


def test_numpy_actor_equals_stable_baselines3(env, sac, stored):
    expert = SACExpert(stored, stochastic=False)
    expert.reset(env, np.random.default_rng(0))
    for seed in range(20):
        env.reset(seed=seed, options={"goal_image": False})
        expected, _ = sac.predict(features(env), deterministic=True)
        np.testing.assert_allclose(expert.act(env), expected, atol=1e-5)


def test_sampled_actions_follow_stable_baselines3_s_distribution(env, sac, stored):
    env.reset(seed=0, options={"goal_image": False})
    expert = SACExpert(stored)
    expert.reset(env, np.random.default_rng(0))
    ours = np.arctanh(np.array([expert.act(env) for _ in range(4000)], dtype=np.float64).clip(-0.999999, 0.999999))
    mean, log_std, _ = sac.actor.get_action_dist_params(torch.from_numpy(features(env))[None])
    std = log_std.exp()[0].detach().numpy()
    np.testing.assert_allclose(ours.mean(0), mean[0].detach().numpy(), atol=4 * std.max() / np.sqrt(4000))
    np.testing.assert_allclose(ours.std(0), std, rtol=0.06)
    again = SACExpert(stored)
    again.reset(env, np.random.default_rng(0))
    assert np.array_equal(np.arctanh(again.act(env).astype(np.float64)), ours[0])


def test_features_do_not_depend_on_where_the_shoulder_points(env):
    state, goal = np.array([0.3, -0.4, 1.0, -2.0]), np.array([1.0, 0.8, 0.0, 0.0])
    rows = []
    for turn in (0.0, 1.3, 2 * np.pi):
        env.set_goal(goal + [turn, 0, 0, 0])
        env.set_state(state + [turn, 0, 0, 0])
        rows.append(features(env))
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-6)
    expected = [np.sin(0.7), np.cos(0.7), 1.2 / np.pi, np.sin(-0.4), np.cos(-0.4), 0.2, -0.4]
    np.testing.assert_allclose(rows[0], expected, atol=1e-6)


def test_training_writes_a_policy_and_nothing_else(tmp_path):
    pytest.importorskip("stable_baselines3")
    out = tmp_path / "runs" / "sac.safetensors"
    facts = train_sac(out, steps=130, seed=1, hidden_size=8, evaluation_episodes=2)
    assert set(facts) == {"success_rate", "mean_steps"} and 0 <= facts["success_rate"] <= 1
    assert [path.name for path in out.parent.iterdir()] == ["sac.safetensors"]
    assert [weight.shape for weight, _ in load_actor(out)] == [(8, 7), (8, 8), (2, 8), (2, 8)]
    again = tmp_path / "again.safetensors"
    train_sac(again, steps=130, seed=1, hidden_size=8, evaluation_episodes=1)
    other = tmp_path / "other.safetensors"
    train_sac(other, steps=130, seed=2, hidden_size=8, evaluation_episodes=1)
    assert np.array_equal(load_file(out)["0.weight"], load_file(again)["0.weight"])
    assert not np.array_equal(load_file(out)["0.weight"], load_file(other)["0.weight"])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_trained_policy_solves_the_task(tmp_path):
    pytest.importorskip("stable_baselines3")
    facts = train_sac(tmp_path / "sac.safetensors", steps=14_000, seed=0)
    assert facts["success_rate"] >= 0.9


def test_success_rate_counts_solved_problems(monkeypatch):
    class Still:
        def reset(self, env, rng):
            # Every other problem starts next to its goal.
            self.count = getattr(self, "count", -1) + 1
            if self.count % 2:
                env.set_goal(env.get_state() + [0.01, -0.01, 0, 0])

        def act(self, env):
            return np.zeros(2, dtype=np.float32)

    assert success_rate(Still(), episodes=10, seed=0, max_steps=3) == {"success_rate": 0.5, "mean_steps": 1.0}


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda tmp: SACExpert(), ValueError, "needs policy=FILE"),
        (lambda tmp: SACExpert(tmp / "none.safetensors"), FileNotFoundError, "no policy at"),
        (lambda tmp: SACExpert(write(tmp / "p.zip", pickle.dumps({}))), ValueError, "not a readable safetensors file"),
        (lambda tmp: train_sac(tmp / "policy.zip"), ValueError, "must end in .safetensors"),
        (lambda tmp: train_sac(write(tmp / "a.safetensors", b"")), ValueError, "exists already"),
        (lambda tmp: train_sac(tmp / "a.safetensors", steps=0), ValueError, "steps=0 must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, make, error, message):
    with pytest.raises(error, match=message) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_foreign_or_damaged_files_are_refused(tmp_path, stored):
    tensors = load_file(stored)
    foreign, damaged = tmp_path / "foreign.safetensors", tmp_path / "damaged.safetensors"
    save_file(tensors, foreign)
    with pytest.raises(ValueError, match="has format None, expected 'lewm-reacher-sac-1'"):
        load_actor(foreign)
    tensors["1.weight"] = tensors["1.weight"][:, :5].copy()
    save_file(tensors, damaged, metadata={"format": module.FORMAT})
    with pytest.raises(ValueError, match=r"layers of shape .*\(24, 5\).* expected .*\(24, 24\)"):
        load_actor(damaged)
    del tensors["1.weight"]
    save_file(tensors, damaged, metadata={"format": module.FORMAT})
    with pytest.raises(ValueError, match="not those of an actor"):
        load_actor(damaged)
