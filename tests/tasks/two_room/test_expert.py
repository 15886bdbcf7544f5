import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf.tasks.policies import expert_names, make_expert
from lewm_hf.tasks.random_policy import RandomPolicy
from lewm_hf.tasks.rollout import episode_rng, roll_out
from lewm_hf.tasks.two_room.env import TwoRoomEnv
from lewm_hf.tasks.two_room.expert import TwoRoomExpert, directions, roll_out_many
from lewm_hf.tasks.two_room.world import Layout

FIELDS = ("states", "actions", "goal", "success")


@pytest.fixture(scope="module")
def env():
    return TwoRoomEnv(image_size=8)


def equal(left, right):
    return all(np.array_equal(getattr(left, field), getattr(right, field)) for field in FIELDS)


def test_batched_episodes_equal_single_ones_in_any_company(env):
    batched = roll_out_many(env, [episode_rng(5, episode) for episode in range(40)], max_steps=60)
    other = roll_out_many(env, [episode_rng(5, episode) for episode in (31, 7)], max_steps=60)
    assert equal(batched[31], other[0]) and equal(batched[7], other[1])
    for episode in range(0, 40, 3):
        single = roll_out(TwoRoomEnv(image_size=8), TwoRoomExpert(), episode_rng(5, episode), max_steps=60)
        assert equal(batched[episode], single)


def test_an_episode_is_consistent_with_the_environment(env):
    episode = roll_out_many(env, [episode_rng(0, 3)])[0]
    env.set_state(episode.states[0])
    env.set_goal(episode.goal)
    for action, state, success in zip(episode.actions, episode.states[1:], episode.success[1:], strict=True):
        info = env.step(action)[4]
        assert np.array_equal(info["state"], state) and info["success"] == success
    assert len(episode.states) == len(episode.actions) + 1 and not episode.success[:-1].any()


def test_episodes_are_distributed_like_the_released_ones(env):
    # Released: 10,000 episodes, 920,809 rows; 6,056 time out, 91 of those on a solved last state.
    episodes = roll_out_many(env, [episode_rng(1, episode) for episode in range(1200)])
    rows = np.mean([len(episode.states) for episode in episodes])
    unsolved = np.mean([not episode.success[-1] for episode in episodes])
    assert rows == pytest.approx(92.08, abs=1.5)
    assert unsolved == pytest.approx((6056 - 91) / 10_000, abs=0.035)
    assert max(len(episode.states) for episode in episodes) == 101


def test_without_noise_every_problem_is_solved_on_almost_the_shortest_way(env):
    for episode in roll_out_many(env, [episode_rng(2, episode) for episode in range(200)], noise_std=0.0):
        way = math.dist(episode.states[0], (112, 49)) + math.dist((112, 49), episode.goal)
        assert episode.success[-1] and len(episode.actions) <= way / 5 + 12


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 1), st.integers(7, 21))
def test_the_direction_follows_the_rule(seed, across, extent):
    rng = np.random.default_rng(seed)
    layout = Layout(across=across, doors=((rng.uniform(0, 223), float(extent)), (rng.uniform(0, 223), 21.0)))
    positions, goals = rng.uniform(14, 209, (30, 2)), rng.uniform(14, 209, (30, 2))
    for position, goal, unit in zip(positions, goals, directions(positions, goals, layout), strict=True):
        waypoint = goal
        if (position[across] > 112) != (goal[across] > 112):
            doors = [layout.point(112, center) for center, half in layout.doors if half >= 7.7]
            nearest = min(doors, key=lambda door: math.dist(door, position))
            if math.dist(nearest, position) > 10.5:
                waypoint = nearest
        expected = (waypoint - position) / math.dist(waypoint, position)
        np.testing.assert_allclose(unit, expected, atol=1e-12)


def test_without_a_fitting_door_it_walks_to_the_wall_and_at_the_goal_it_stands():
    closed = Layout(doors=((49.0, 5.0),))
    np.testing.assert_allclose(directions(np.array([[50.0, 80.0]]), np.array([[170.0, 80.0]]), closed), [[1.0, 0.0]])
    assert directions(np.array([[50.0, 80.0]]), np.array([[50.0, 80.0]]), closed).tolist() == [[0.0, 0.0]]


def test_noise_has_the_stated_strength_and_stays_in_the_action_space(env):
    env.reset(seed=0, options={"state": (50, 100), "goal": (50, 200)})
    actions = {}
    for noise_std in (0.0, 0.1, 2.0):
        expert = TwoRoomExpert(noise_std)
        expert.reset(env, np.random.default_rng(0))
        actions[noise_std] = np.array([expert.act(env) for _ in range(2000)])
    assert actions[2.0].dtype == np.float32 and np.abs(actions[2.0]).max() == 1.0
    assert np.all(actions[0.0] == [0, 1])
    assert actions[0.1][:, 0].std() == pytest.approx(0.1, rel=0.1)
    # P(|N(0, 2)| > 1) = 0.617: most actions across the way are clipped.
    assert (np.abs(actions[2.0][:, 0]) == 1).mean() == pytest.approx(0.617, abs=0.04)


def test_the_random_policy_fills_the_action_space(env):
    policy = RandomPolicy()
    policy.reset(env, np.random.default_rng(0))
    actions = np.array([policy.act(env) for _ in range(4000)])
    assert actions.dtype == np.float32 and all(env.action_space.contains(action) for action in actions[:50])
    np.testing.assert_allclose(actions.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(actions.std(0), 1 / math.sqrt(3), atol=0.02)
    episode = roll_out(env, RandomPolicy(), episode_rng(0, 0), max_steps=5)
    assert episode.actions.shape == (5, 2)


def test_experts_are_found_by_name():
    assert expert_names("two_room") == ("expert", "random")
    assert isinstance(make_expert("two_room", noise_std=0.5), TwoRoomExpert)
    assert isinstance(make_expert("two_room", "random"), RandomPolicy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_expert("two_room", "oracle"), "unknown expert 'oracle' for two_room: use one of expert, random"),
        (lambda: make_expert("maze"), "unknown environment 'maze': use one of two_room, push_t, reacher, cube"),
        (lambda: TwoRoomExpert(-1.0), "noise_std=-1.0 must be 0 or more"),
        (lambda: roll_out_many(TwoRoomEnv(physics="swept"), []), "physics='swept' is not batched"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
