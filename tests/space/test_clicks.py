"""A click means what the picture shows: things are placed by clicking and found again in the drawn picture."""

from contextlib import closing

import numpy as np
import pytest
from clicks import REACHER_PARTS, Refused, arm_angles, place
from hypothesis import given
from hypothesis import strategies as st

from lewm_hf.tasks.registry import make_env

SIZE = 160
PLACES = [(0.3, 0.4), (0.7, 0.35), (0.62, 0.68)]


def center(mask: np.ndarray) -> np.ndarray:
    """(x, y) of the pixels of a mask, as shares of the picture."""
    assert mask.any()
    rows, columns = np.nonzero(mask)
    return (np.array([columns.mean(), rows.mean()]) + 0.5) / mask.shape[0]


def unlike(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(picture.astype(int) - other).max(-1) > 40


@pytest.fixture(scope="module")
def two_room():
    with closing(make_env("two_room", image_size=SIZE)) as env:
        env.reset(seed=0)
        yield env


@pytest.fixture(scope="module")
def push_t():
    with closing(make_env("push_t", image_size=SIZE)) as env:
        env.reset(seed=0)
        yield env


@pytest.fixture(scope="module")
def reacher():
    with closing(make_env("reacher", image_size=SIZE, render_quality="fast")) as env:
        green = {"rendering.render_target": 1, "target.color": np.array([0.0, 1.0, 0.0])}
        env.reset(seed=0, options={"variation_values": green})
        yield env


@pytest.mark.parametrize("spot", PLACES)
def test_the_disk_is_drawn_where_it_was_clicked(two_room, spot):
    picture = two_room.goal_image(place("two_room", two_room, np.zeros(2), "agent", *spot))
    red = (picture[..., 0] > 200) & (picture[..., 1] < 120)
    assert center(red) == pytest.approx(spot, abs=1 / SIZE)


@pytest.mark.parametrize(
    ("spot", "reason"),
    [((0.5, 0.6), "wall"), ((0.5, 0.22), "wall"), ((0.02, 0.5), "far out"), ((0.3, 0.99), "far out")],
)
def test_no_disk_in_the_wall_or_at_the_border(two_room, spot, reason):
    with pytest.raises(Refused, match=reason):
        place("two_room", two_room, np.zeros(2), "agent", *spot)


@given(x=st.floats(0, 1), y=st.floats(0, 1))
def test_a_click_into_two_room_gives_what_a_reset_might_draw_or_one_line(two_room, x, y):
    try:
        state = place("two_room", two_room, np.zeros(2), "agent", x, y)
    except Refused as refusal:
        assert "\n" not in str(refusal)
    else:
        two_room.variation_space.resolve({"agent.position": state})  # raises for anything else


@pytest.mark.parametrize("spot", PLACES)
def test_the_pusher_is_drawn_where_it_was_clicked(push_t, spot):
    before = np.array([100.0, 100.0, 256.0, 256.0, 0.0, 30.0, 0.0])
    before[2:4] = 380, 120 if spot[1] > 0.5 else 380
    after = place("push_t", push_t, before, "pusher", *spot)
    blue = (push_t.goal_image(after).astype(int) @ [-1, 0, 1]) > 100
    assert center(blue) == pytest.approx(spot, abs=1 / SIZE)
    np.testing.assert_array_equal(after[2:5], before[2:5])
    np.testing.assert_array_equal(after[5:], 0)


@pytest.mark.parametrize(("angle", "stem"), [(0, (0, 1)), (90, (1, 0)), (180, (0, -1)), (-90, (-1, 0))])
def test_the_block_is_drawn_where_it_was_clicked_and_turned_counterclockwise(push_t, angle, stem):
    spot = np.array([0.55, 0.5])
    state = place("push_t", push_t, np.array([60.0, 60.0, 300.0, 300.0, 0.3, 0.0, 0.0]), "block", *spot, angle)
    away = np.array([*state[:2], 5000.0, 5000.0, 0.0, 0.0, 0.0])
    mask = unlike(push_t.goal_image(state), push_t.goal_image(away))
    assert center(mask) == pytest.approx(spot, abs=0.02)
    # The stem is longer than the bar is thick: seen from the click, the block reaches farther on its side.
    rows, columns = np.nonzero(mask)
    along = ((np.stack([columns, rows], 1) + 0.5) / SIZE - spot) @ stem
    assert along.max() > 1.4 * -along.min()


def test_pusher_and_block_may_not_overlap(push_t):
    state = np.array([60.0, 60.0, 256.0, 256.0, 0.0, 0.0, 0.0])
    with pytest.raises(Refused, match="overlap"):
        place("push_t", push_t, state, "pusher", 0.5, 0.53)
    with pytest.raises(Refused, match="far out"):
        place("push_t", push_t, state, "pusher", 0.01, 0.5)
    np.testing.assert_array_equal(state[:2], 60.0)


@pytest.mark.parametrize("part", REACHER_PARTS)
@pytest.mark.parametrize("spot", [(0.4, 0.42), (0.62, 0.4), (0.55, 0.7)])
def test_the_fingertip_gets_where_it_was_clicked(reacher, spot, part):
    state = place("reacher", reacher, reacher.get_state(), part, *spot)
    reacher.set_goal(state)  # draws the green target at the fingertip
    picture = reacher.goal_image(np.array([state[0] + 2.0, state[1], 0.0, 0.0])).astype(int)
    assert center((picture @ [-1, 2, -1]) > 120) == pytest.approx(spot, abs=1.5 / SIZE)
    assert np.sign(state[1]) == (1 if part == REACHER_PARTS[0] else -1)


def test_out_of_the_arms_reach(reacher):
    with pytest.raises(Refused, match=r"beyond the arm's reach.* 24\.0 cm"):
        place("reacher", reacher, reacher.get_state(), REACHER_PARTS[0], 0.03, 0.03)
    with pytest.raises(Refused, match="too near"):
        place("reacher", reacher, reacher.get_state(), REACHER_PARTS[0], 0.5, 0.5)


@given(st.floats(-np.pi, np.pi), st.floats(0.01, 2.7), st.sampled_from([-1.0, 1.0]))
def test_inverse_kinematics_undo_forward_kinematics(shoulder, wrist, bend):
    upper, lower = 0.12, 0.1
    outer = shoulder + bend * wrist
    tip = np.array([upper * np.cos(shoulder) + lower * np.cos(outer), upper * np.sin(shoulder) + lower * np.sin(outer)])
    found, bent = arm_angles(tip, upper, lower, bend, 2.8)
    assert bent == pytest.approx(bend * wrist, abs=1e-6)
    assert np.cos(found - shoulder) == pytest.approx(1, abs=1e-9)


def test_the_cube_is_drawn_where_it_was_clicked():
    with closing(make_env("cube", image_size=SIZE, render_quality="fast")) as env:
        env.reset(seed=0)
        before = env.get_state()
        for spot in [(0.45, 0.75), (0.6, 0.66)]:
            state = place("cube", env, before, "cube", *spot, 30)
            away = state.copy()
            away[14] = -5.0
            cube = unlike(env.goal_image(state), env.goal_image(away))
            assert center(cube) == pytest.approx(spot, abs=0.03)
            np.testing.assert_array_equal(state[:14], before[:14])
        with pytest.raises(Refused):
            place("cube", env, before, "cube", 0.02, 0.02)
