import sys

import numpy as np
import pytest

from lewm_hf.extras import requires_extra
from lewm_hf.tasks.registry import find_task, make_env, task_names
from lewm_hf.tasks.two_room.env import TwoRoomEnv, render_positions, step_positions
from lewm_hf.tasks.vector import GoalVectorEnv

STARTS = np.array([[40.0, 50.0], [60.0, 150.0], [150.0, 49.0], [190.0, 190.0]])
GOALS = np.array([[170.0, 50.0], [64.0, 170.0], [60.0, 49.0], [190.0, 170.0]])


@pytest.fixture
def envs():
    vector = GoalVectorEnv("two_room", 4, image_size=32)
    vector.reset_to(range(4), STARTS, GOALS)
    return vector


def test_it_starts_where_it_is_told(envs):
    assert np.array_equal(envs.states(), STARTS) and np.array_equal(envs.goals(), GOALS)
    assert np.array_equal(envs.render([2, 0]), render_positions(STARTS[[2, 0]], 32))
    assert np.array_equal(envs.goal_images([1]), render_positions(GOALS[[1]], 32))
    assert not envs.successes().any()


def test_only_active_environments_move(envs):
    actions = np.ones((4, 2))
    actions[[0, 3]] = np.nan
    success = envs.step(actions, np.array([False, True, True, False]))
    assert np.array_equal(envs.states([0, 3]), STARTS[[0, 3]])
    assert np.array_equal(envs.states([1, 2]), step_positions(STARTS[[1, 2]], actions[[1, 2]]))
    assert success.tolist() == [False, True, False, False]  # (65, 155) is within 16 px of (64, 170)


def test_inactive_environments_never_report_success(envs):
    envs.reset_to([1], GOALS[[1]], GOALS[[1]])
    assert envs.successes([1]).tolist() == [True]
    assert not envs.step(np.zeros((4, 2)), np.zeros(4, dtype=bool)).any()


def test_stepping_does_not_render(envs, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("rendered")

    monkeypatch.setattr("lewm_hf.tasks.two_room.env.Scene.draw", refuse)
    envs.step(np.zeros((4, 2)))
    with pytest.raises(AssertionError, match="rendered"):
        envs.render()


def test_outcomes_do_not_depend_on_neighbours():
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 4, 2))
    together = GoalVectorEnv(TwoRoomEnv, 4)
    together.reset_to(range(4), STARTS, GOALS)
    alone = [GoalVectorEnv(TwoRoomEnv, 1) for _ in range(4)]
    for index, single in enumerate(alone):
        single.reset_to([0], STARTS[[index]], GOALS[[index]])
    for row in actions:
        together.step(row)
        for index, single in enumerate(alone):
            single.step(row[[index]])
    assert np.array_equal(together.states(), np.concatenate([single.states() for single in alone]))


def test_a_refused_reset_changes_nothing(envs):
    with pytest.raises(ValueError, match="must be finite"):
        envs.reset_to([0, 1], STARTS[[1, 2]], [[1.0, 2.0], [np.nan, 0.0]])
    assert np.array_equal(envs.states(), STARTS) and np.array_equal(envs.goals(), GOALS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda envs: envs.step(np.zeros((3, 2))), r"actions have shape \(3, 2\), expected \(4, 2\)"),
        (lambda envs: envs.step(np.full((4, 2), np.nan)), "must be finite"),
        (lambda envs: envs.step(np.zeros((4, 2)), [True]), r"active has shape \(1,\), expected \(4,\)"),
        (lambda envs: envs.reset_to([0, 1], STARTS[:1], GOALS[:2]), "2 environments need as many states"),
        (lambda envs: envs.render([4]), "environment 4 does not exist: there are 4"),
        (lambda envs: GoalVectorEnv("two_room", 0), "num_envs=0 must be at least 1"),
        (lambda envs: GoalVectorEnv("tworoom", 1), "unknown environment 'tworoom': use one of two_room"),
        (lambda envs: GoalVectorEnv(TwoRoomEnv, 1, image_size=64), "go with a name"),
    ],
)
def test_bad_input_is_refused_in_one_line(envs, call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(envs)
    assert "\n" not in str(error.value)


def test_short_names_and_ids_lead_to_the_same_environment():
    assert task_names()[:4] == ("two_room", "push_t", "reacher", "cube")
    assert find_task("two_room") is find_task("lewm/TwoRoom-v0")
    assert isinstance(make_env("lewm/TwoRoom-v0", image_size=64), TwoRoomEnv)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymunk", None)
    with (
        pytest.raises(ImportError, match=r"'pymunk' is missing: install it with `pip install 'lewm-hf\[pusht\]'`"),
        requires_extra("pusht"),
    ):
        import pymunk  # noqa: F401
