import numpy as np
import pytest

from lewm_hf.data.collect.recording import record, record_all
from lewm_hf.tasks.policies import make_expert
from lewm_hf.tasks.registry import make_env
from lewm_hf.tasks.rollout import episode_rng


@pytest.fixture
def env():
    env = make_env("two_room", image_size=24)
    yield env
    env.close()


def test_batched_episodes_equal_single_ones(env):
    expert = make_expert("two_room", noise_std=1.0)
    for number, batched in enumerate(record_all(env, expert, 5, range(6), 40, True)):
        single = record(env, expert, episode_rng(5, number), 40, True)
        for name in ("images", "states", "observations", "actions", "goals", "success"):
            np.testing.assert_array_equal(getattr(batched, name), getattr(single, name), err_msg=name)


def test_an_episode_does_not_depend_on_its_neighbours(env):
    expert = make_expert("two_room", "random")
    alone = next(record_all(env, expert, 1, [9], 12, True))
    among = list(record_all(env, expert, 1, [3, 9, 4], 12, True))[1]
    np.testing.assert_array_equal(alone.states, among.states)
    np.testing.assert_array_equal(alone.images, among.images)
    other = next(record_all(env, expert, 2, [9], 12, True))
    assert not np.array_equal(alone.states[0], other.states[0])


def test_rows_are_what_the_environment_does(env):
    """Replayed from its first state by its actions, an episode comes back, pictures included."""
    expert = make_expert("two_room")
    episode = next(record_all(env, expert, 0, [3], 60, True))
    assert len(episode) == len(episode.actions) + 1 == len(episode.images)
    env.set_goal(episode.goals[0])
    env.set_state(episode.states[0])
    np.testing.assert_array_equal(env.render(), episode.images[0])
    for action, state, image, success in zip(
        episode.actions, episode.states[1:], episode.images[1:], episode.success[1:], strict=True
    ):
        _, _, terminated, _, info = env.step(action)
        np.testing.assert_array_equal(info["state"], state)
        np.testing.assert_array_equal(env.render(), image)
        assert terminated == success


def test_success_ends_an_episode_only_if_asked(env):
    expert = make_expert("two_room", noise_std=0.0)  # walks straight to the goal
    ended = record(env, expert, episode_rng(0, 0), 100, True)
    assert ended.success[-1] and not ended.success[:-1].any() and len(ended) < 101
    full = record(env, expert, episode_rng(0, 0), 100, False)
    assert len(full) == 101
    np.testing.assert_array_equal(full.states[: len(ended)], ended.states)


@pytest.mark.parametrize(
    ("name", "expert", "steps"), [("push_t", "expert", 12), ("reacher", "random", 4), ("cube", "expert", 3)]
)
def test_no_environment_remembers_the_episode_before(name, expert, steps):
    """Files are collected in any order by any process: an episode must be the same after any other."""

    def episodes(numbers):
        env = make_env(name, image_size=32)
        recorded = list(record_all(env, make_expert(name, expert), 0, numbers, steps, False))
        env.close()
        return dict(zip(numbers, recorded, strict=True))

    forwards, backwards = episodes([0, 1]), episodes([1, 0])
    for number, episode in backwards.items():
        for field in ("images", "states", "observations", "actions", "goals", "success"):
            np.testing.assert_array_equal(getattr(episode, field), getattr(forwards[number], field), err_msg=field)
    assert not np.array_equal(forwards[0].states, forwards[1].states)
