import numpy as np
import pytest
from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

from lewm_hf.tasks.cube.env import CubeEnv
from lewm_hf.tasks.cube.expert import CubeExpert
from lewm_hf.tasks.policies import make_expert
from lewm_hf.tasks.rollout import episode_rng, reset_episode

STEPS = 200


@pytest.fixture(scope="module")
def env():
    env = CubeEnv(image_size=32, render_quality="fast")
    yield env
    env.close()


def play(env, expert, episode, steps=STEPS):
    """States, successes and goals of an episode that goes on after success, and the number of the goal of each row."""
    rng = episode_rng(0, episode)
    reset_episode(env, rng)
    expert.reset(env, rng)
    states, success, goals, actions = [env.get_state()], [env.is_success()], [env.goal_state], []
    for _ in range(steps):
        actions.append(expert.act(env))
        info = env.step(actions[-1])[4]
        states.append(info["state"])
        success.append(info["success"])
        goals.append(info["goal_state"])
    changes = np.any(np.diff(goals, axis=0) != 0, axis=1)
    return np.array(states), np.array(success), np.concatenate([[0], np.cumsum(changes)]), np.array(actions)


def test_it_solves_one_goal_after_another(env):
    solved, goals = [], []
    for episode in range(4):
        states, success, number, actions = play(env, CubeExpert(), episode)
        assert actions.dtype == np.float32 and np.abs(actions).max() <= 1
        solved.append(success[number == 0].any())
        goals.append(number[-1] + 1)
        # A goal is only replaced once it has been reached, and every one of them by another place.
        for goal in range(number[-1]):
            assert success[number == goal].any()
        assert states[:, 16].max() > 0.1  # lifted, not pushed
    assert np.mean(solved) >= 3 / 4 and np.mean(goals) >= 2


def test_compat_keeps_the_goal_and_the_cube(env):
    states, success, number, _ = play(env, CubeExpert(noise=0.0, compat=True), 0)
    first = np.flatnonzero(success)[0]
    assert number[-1] == 0 and first < 80
    assert success[first:].all()
    np.testing.assert_allclose(states[-60:, 14:17] - states[-1, 14:17], 0, atol=2e-3)


def test_actions_follow_the_definition(env, monkeypatch):
    """OGBench's own oracle under NumPy's global generator, and the noise as specified, draw for draw."""
    rng, ours = np.random.default_rng(3), np.random.default_rng(3)
    env.reset(seed=1, options={"goal_image": False})
    expert = CubeExpert(noise=0.1)
    expert.reset(env, ours)

    level = rng.uniform(0, 0.1)
    monkeypatch.setattr(np.random, "uniform", rng.uniform)
    env._arm_sampling_bounds = np.asarray([[0.25, -0.35, 0.20], [0.6, 0.35, 0.35]])  # what OGBench's oracle reads
    oracle = CubeMarkovOracle(env=env, min_norm=0.4)
    oracle.reset(None, None)
    for _ in range(60):
        noise = rng.normal(0, [level, level, level, 3 * level, 10 * level])
        expected = np.clip(oracle.select_action(None, env.oracle_info()) + noise, -1, 1)
        action = expert.act(env)
        np.testing.assert_allclose(action, expected, atol=1e-6)
        env.step(action)


def test_episodes_depend_on_their_generator_alone(env):
    np.random.seed(0)
    first = play(env, CubeExpert(), 4, steps=30)
    np.random.seed(1)
    other = CubeEnv(image_size=16)
    play(other, CubeExpert(), 2, steps=5)
    again = play(other, make_expert("cube"), 4, steps=30)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[3], again[3])
    assert not np.array_equal(play(other, CubeExpert(), 5, steps=30)[3], first[3])


def test_the_noise_level_is_drawn_per_episode(env):
    env.reset(seed=0, options={"goal_image": False})
    levels = []
    for episode in range(200):
        expert = CubeExpert(noise=0.1)
        expert.reset(env, np.random.default_rng(episode))
        levels.append(expert._level)
    assert 0 <= min(levels) < 0.005 and 0.095 < max(levels) <= 0.1 and abs(np.mean(levels) - 0.05) < 0.008


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match="noise=-1 must be 0 or more"):
        CubeExpert(noise=-1)
