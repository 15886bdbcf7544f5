import math
import time

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf.tasks.registry import make_env
from lewm_hf.tasks.two_room.drawing import Scene
from lewm_hf.tasks.two_room.env import TwoRoomEnv, render_positions, step_positions
from lewm_hf.tasks.two_room.swept import sweep_all, wall_rectangles
from lewm_hf.tasks.two_room.world import Layout, variation_space


@pytest.fixture(scope="module")
def recorded(fixtures):
    """Recorded from the reference implementation (stable-worldmodel 0.1.1), default variation."""
    with np.load(fixtures / "two_room.npz") as archive:
        return dict(archive)


@pytest.fixture
def env():
    env = TwoRoomEnv()
    env.reset(seed=0)
    return env


floats = st.floats(0, 1, allow_nan=False).map(float)
color = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def variations(draw):
    """Explicit values of everything that moves or colors the scene."""
    return {
        "background.color": draw(color),
        "wall.color": draw(color),
        "wall.thickness": draw(st.integers(7, 41)),
        "wall.axis": draw(st.integers(0, 1)),
        "agent.color": draw(color),
        "agent.radius": float(np.float32(draw(st.floats(7, 14)))),
        "agent.speed": draw(st.floats(1.75, 10.5)),
        "door.color": draw(color),
        "door.number": draw(st.integers(1, 3)),
        "door.size": [21, draw(st.integers(1, 21)), draw(st.integers(1, 21))],
        "door.position": [draw(st.integers(0, 223)) for _ in range(3)],
        "target.color": draw(color),
        "target.radius": float(np.float32(draw(st.floats(7, 14)))),
        "rendering.render_target": draw(st.integers(0, 1)),
    }


# Motion


def test_recorded_moves_are_repeated(recorded, env):
    positions = recorded["starts"].astype(np.float64)
    for step in range(recorded["actions"].shape[1]):
        positions = step_positions(positions, recorded["actions"][:, step])
        np.testing.assert_allclose(positions, recorded["positions"][:, step], atol=2e-4, rtol=0)
    env.set_state(recorded["starts"][0])
    for action, position in zip(recorded["actions"][0], recorded["positions"][0], strict=True):
        env.step(action)
        np.testing.assert_allclose(env.get_state(), position, atol=2e-4, rtol=0)


def naive_move(position, action, values):
    """The documented rule, written once more with all cases spelled out."""
    radius, half = values["agent.radius"], values["wall.thickness"] // 2
    moved = [
        np.clip(position[i] + values["agent.speed"] * np.clip(action[i], -1, 1), 14 + radius, 210 - radius)
        for i in range(2)
    ]
    across = 0 if values["wall.axis"] == 1 else 1
    number = values["door.number"]
    in_door = False
    for center, extent in zip(values["door.position"][:number], values["door.size"][:number], strict=True):
        in_door = in_door or abs(moved[1 - across] - center) <= extent + 1.75
    if not in_door:
        if position[across] < 112 and moved[across] > 112 - half - radius:
            moved[across] = 112 - half - radius - 0.5
        elif position[across] >= 112 and moved[across] < 112 + half + radius:
            moved[across] = 112 + half + radius + 0.5
    return moved


@settings(max_examples=60, deadline=None)
@given(variations(), st.integers(0, 2**31))
def test_batched_moves_equal_single_ones_and_the_rule(values, seed):
    rng = np.random.default_rng(seed)
    positions, actions = rng.uniform(14, 210, (40, 2)), rng.uniform(-1.5, 1.5, (40, 2))
    near_wall = 112 + rng.uniform(-30, 30, 20)
    positions[:20, 0 if values["wall.axis"] else 1] = near_wall
    batched = step_positions(positions, actions, values)
    env = TwoRoomEnv(compat=True)
    env.reset(seed=0, options={"variation": [], "variation_values": values | clear_of_wall(values)})
    for position, action, after in zip(positions, actions, batched, strict=True):
        env.set_state(position)
        env.step(action)
        assert np.array_equal(env.get_state(), after)
        np.testing.assert_allclose(after, naive_move(position, action, values), atol=1e-9)


def clear_of_wall(values):
    return {"agent.position": (30, 30)}


# Pictures


def test_recorded_frames_are_equal_pixel_for_pixel(recorded):
    """Up to the last bit of the processor's float32 exponential, which truncation to uint8 makes visible.

    On AMD EPYC nothing differs; on Intel Xeon with AVX-512 78 of 2,257,920 values do, by one gray level.
    """
    drawn = render_positions(recorded["frame_positions"])
    difference = np.abs(drawn.astype(int) - recorded["frames"].astype(int))
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-4


def naive_picture(position, target, values):
    """The reference's formula over the whole image: full-size masks, a full-size Gaussian, float32, truncation."""
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    across, along = (columns, rows) if values["wall.axis"] == 1 else (rows, columns)
    stripe = (across - 112).abs() <= values["wall.thickness"] // 2
    opening = torch.zeros(224, 224, dtype=torch.bool)
    for index in range(values["door.number"]):
        opening |= (along - values["door.position"][index]).abs() <= values["door.size"][index]
    wall = stripe & ~opening
    for first, last in ((10, 14), (210, 214)):
        wall[first:last] = wall[:, first:last] = True
    image = torch.tensor(values["background.color"], dtype=torch.uint8).expand(224, 224, 3).clone()
    image[stripe & opening] = torch.tensor(values["door.color"], dtype=torch.uint8)
    image[wall] = torch.tensor(values["wall.color"], dtype=torch.uint8)
    blobs = [(position, "agent")]
    if values["rendering.render_target"]:
        blobs.insert(0, (target, "target"))
    for (x, y), kind in blobs:
        dx, dy = columns - float(x), rows - float(y)
        alpha = torch.exp(-(dx * dx + dy * dy) / (2.0 * values[f"{kind}.radius"] ** 2))
        alpha = alpha / alpha.max()
        blended = [image[..., c] * (1.0 - alpha) + float(values[f"{kind}.color"][c]) * alpha for c in range(3)]
        image = torch.stack(blended, -1).to(torch.uint8)
    return image.numpy()


@settings(max_examples=60, deadline=None)
@given(variations(), *[st.floats(-0.5, 223.5)] * 4)
def test_pictures_equal_the_full_image_formula(values, x, y, target_x, target_y):
    expected = naive_picture((x, y), (target_x, target_y), values)
    actual = render_positions([(x, y)], variation=values, targets=[(target_x, target_y)])[0]
    assert np.array_equal(actual, expected)


def test_default_pictures_equal_the_full_image_formula_everywhere():
    values = variation_space().initial_values()
    positions = np.random.default_rng(3).uniform(14, 210, (60, 2)).astype(np.float32)
    for position, picture in zip(positions, render_positions(positions), strict=True):
        assert np.array_equal(picture, naive_picture(position, None, values))


@pytest.mark.parametrize("position", [(-30.0, 100.0), (230.0, 230.0), (1e4, 0.0), (112.0, -1e6)])
def test_agents_outside_the_canvas_can_be_drawn(position):
    picture = render_positions([position])[0]
    assert picture.shape == (224, 224, 3)
    if max(map(abs, position)) < 300:
        values = variation_space().initial_values()
        assert np.array_equal(picture, naive_picture(position, None, values))


@pytest.mark.parametrize("size", [16, 32, 56, 64, 100, 112, 448])
def test_other_sizes_show_the_same_scene(size):
    position = np.array([63.7, 140.2])
    picture = render_positions([position], size)[0].astype(np.float64)
    pitch = 224 / size
    centers = (np.arange(size) + 0.5) * pitch - 0.5
    # The agent: red - blue is 255 alpha on white.
    alpha = np.exp(-((centers - position[0]) ** 2 + (centers[:, None] - position[1]) ** 2) / 98)
    free = alpha > 0.05
    np.testing.assert_allclose((picture[..., 0] - picture[..., 2])[free], 255 * alpha[free], atol=4)
    # The border line at rows 10 to 13 keeps its darkness, whatever the number of pixels it falls on.
    column = size // 4
    top = slice(0, round(24 / pitch))
    darkness = (255 - picture[top, column, 0]).sum() * pitch / 255
    assert darkness == pytest.approx(4, abs=0.15)
    wall = slice(round(84 / pitch), round(140 / pitch))  # 11 pixels thick
    assert (255 - picture[round(190 / pitch), wall, 0]).sum() * pitch / 255 == pytest.approx(11, abs=0.15)


def test_rendering_is_fast():
    positions = np.random.default_rng(0).uniform(21, 203, (100, 2))
    render_positions(positions[:10])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        render_positions(positions)
        seconds.append(time.perf_counter() - start)
    assert len(positions) / min(seconds) > 2000


# The environment


def test_gymnasium_finds_and_accepts_it():
    env = gymnasium.make("lewm/TwoRoom-v0", image_size=64)
    check_env(env.unwrapped)
    observation, info = env.reset(seed=1)
    assert observation.shape == (10,) and info["goal"].shape == (64, 64, 3)
    for _ in range(100):
        truncated = env.step(np.zeros(2, dtype=np.float32))[3]
    assert truncated


def test_default_resets_ask_for_a_trip_to_the_other_room(env):
    lefts = 0
    for seed in range(300):
        _, info = env.reset(seed=seed)
        start, goal = info["state"], info["goal_state"]
        assert np.all((start >= 14) & (start <= 209) & (goal >= 14) & (goal <= 209))
        assert abs(start[0] - 112) > 12 and abs(goal[0] - 112) > 12
        assert (start[0] < 112) != (goal[0] < 112)
        assert math.dist(start, (112, 49)) + math.dist((112, 49), goal) >= 125
        lefts += start[0] < 112
    assert 100 < lefts < 200


def test_compat_resets_put_the_target_anywhere():
    env = TwoRoomEnv(compat=True)
    infos = [env.reset(seed=seed, options={"goal_image": False})[1] for seed in range(300)]
    same_room = sum((info["state"][0] < 112) == (info["goal_state"][0] < 112) for info in infos)
    in_wall = sum(abs(info["goal_state"][0] - 112) <= 12 for info in infos)
    assert all(abs(info["state"][0] - 112) > 12 for info in infos)
    assert 100 < same_room < 200 and in_wall > 10


def test_every_factor_can_be_resampled_together(env):
    for seed in range(100):
        observation, info = env.reset(seed=seed, options={"variation": ["all"], "goal_image": False})
        values = env.variation
        across = 1 - values["wall.axis"]
        assert (info["state"][across] < 112) != (info["goal_state"][across] < 112)
        assert max(values["door.size"][: values["door.number"]]) >= 1.1 * values["agent.radius"]
        centers = observation[4:].reshape(3, 2)
        assert np.array_equal(centers[: values["door.number"], across], np.full(values["door.number"], 112))
        assert not centers[values["door.number"] :].any()
    env.reset(seed=0)
    initial = variation_space().initial_values()
    del initial["agent.position"], initial["target.position"]
    assert all(np.array_equal(env.variation[name], value) for name, value in initial.items())


def test_resets_depend_on_the_seed_alone(env):
    first = env.reset(seed=7)[1]
    env.reset()
    again = TwoRoomEnv().reset(seed=7)[1]
    assert all(np.array_equal(first[name], again[name]) for name in ("state", "goal_state", "goal"))
    assert not np.array_equal(first["state"], env.reset(seed=8)[1]["state"])


def test_info_shows_the_goal_and_keeps_the_state(env):
    _, info = env.reset(seed=3)
    assert np.array_equal(info["goal"], render_positions(info["goal_state"][None])[0])
    assert np.array_equal(env.render(), render_positions(info["state"][None])[0])
    assert np.array_equal(env.goal_image((50, 60)), render_positions([(50, 60)])[0])
    assert np.array_equal(env.get_state(), info["state"])


def test_reset_takes_a_start_and_a_goal(env):
    observation, info = env.reset(options={"state": (40, 50), "goal": (41, 50)})
    assert observation.tolist() == [40, 50, 41, 50, 112, 49, 0, 0, 0, 0]
    assert info["success"] and env.is_success()


@given(*[st.floats(-1e6, 1e6)] * 2)
def test_a_state_is_restored_exactly(x, y):
    env = TwoRoomEnv(image_size=8)
    env.set_state((x, y))
    assert env.get_state().tolist() == [x, y] and env.get_state().dtype == np.float64


def test_success_means_closer_than_16_pixels(env):
    env.set_goal((150, 150))
    for distance, success in ((15.99, True), (16.0, False)):
        env.set_state((150 - distance, 150))
        assert env.is_success() is success
        assert env.step(np.zeros(2))[2] is success
    pairs = np.random.default_rng(0).uniform(14, 209, (2, 500, 2))
    expected = [math.dist(state, goal) < 16 for state, goal in zip(*pairs, strict=True)]
    assert env.reached(*pairs).tolist() == expected and any(expected)


def test_a_step_does_not_render(env, monkeypatch):
    monkeypatch.setattr(Scene, "draw", None)
    env.reset(seed=0, options={"goal_image": False})
    env.step(np.ones(2))


def test_environments_with_different_scenes_render_together():
    envs = [TwoRoomEnv(image_size=64) for _ in range(3)]
    for index, member in enumerate(envs):
        values = {"rendering.render_target": 1, "agent.color": (0, 0, 255)} if index == 1 else {}
        member.reset(seed=index, options={"variation_values": values})
    assert np.array_equal(TwoRoomEnv.render_batch(envs), np.stack([member.render() for member in envs]))
    assert np.array_equal(TwoRoomEnv.render_batch(envs, goals=True), np.stack([e.goal_image() for e in envs]))


SAME_ROOM = {"agent.position": (60, 150), "target.position": (60, 50)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda env: env.step([0.1, float("nan")]), r"action=\[0.1, nan\] must be finite"),
        (lambda env: env.step([0.1]), r"action has shape \(1,\), expected \(2,\)"),
        (lambda env: env.step("left"), "action='left' is not a numeric vector"),
        (lambda env: env.set_state([1, 2, 3]), r"state has shape \(3,\), expected \(2,\): agent.x, agent.y"),
        (lambda env: env.set_goal([float("inf"), 0]), r"goal=\[inf, 0.0\] must be finite"),
        (lambda env: env.reset(options={"colour": 1}), "unknown reset option 'colour': use any of variation,"),
        (lambda env: env.reset(options={"variation": ["wall.border_color"]}), "unknown factor .*'wall.border_color'"),
        (lambda env: env.reset(options={"variation_values": SAME_ROOM}), "in the other room"),
        (lambda env: TwoRoomEnv(image_size=0), "image_size=0 must be"),
        (lambda env: TwoRoomEnv(physics="newton"), "physics='newton' is unknown: use one of reference, swept"),
        (lambda env: TwoRoomEnv(render_mode="human"), "render_mode='human' is unknown: use 'rgb_array'"),
        (lambda env: TwoRoomEnv().step([0, 0]), r"no goal yet: call reset\(\)"),
        (lambda env: make_env("three_room"), "unknown environment 'three_room': use one of two_room, push_t, reacher"),
        (lambda env: render_positions([1.0, 2.0]), r"positions have shape \(2,\), expected \(n, 2\)"),
        (lambda env: render_positions([[1.0, np.nan]]), "positions must be finite: row 0 is not"),
        (lambda env: step_positions(np.zeros((2, 2)), np.zeros((3, 2))), "2 positions and 3 actions"),
        (lambda env: TwoRoomEnv.render_batch([]), "at least one"),
    ],
)
def test_bad_input_is_refused_in_one_line(env, call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(env)
    assert "\n" not in str(error.value)


# Swept physics


def clearance(positions, layout):
    """Distance of disk centers to the nearest solid piece of the wall."""
    walls = wall_rectangles(layout)
    offsets = [positions - np.clip(positions, lowest, highest) for lowest, highest in walls]
    return np.min([np.linalg.norm(offset, axis=-1) for offset in offsets], axis=0)


@st.composite
def layouts(draw):
    doors = draw(st.lists(st.tuples(st.integers(0, 223), st.integers(1, 21)), min_size=1, max_size=3))
    return Layout(
        across=draw(st.integers(0, 1)),
        half_thickness=draw(st.integers(3, 20)),
        doors=tuple((float(center), float(extent)) for center, extent in doors),
        radius=draw(st.floats(7, 14)),
        speed=draw(st.floats(1.75, 10.5)),
    )


@settings(max_examples=30, deadline=None)
@given(layouts(), st.integers(0, 2**31))
def test_swept_disks_never_overlap_a_wall_nor_pass_a_door_too_narrow(layout, seed):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 224, (50, 2))
    low, high = 14 + layout.radius, 210 - layout.radius
    positions = sweep_all(positions, np.zeros((50, 2)), layout)
    sides = positions[:, layout.across] < 112
    for _ in range(20):
        positions = sweep_all(positions, rng.uniform(-1, 1, (50, 2)), layout)
        assert np.all((positions >= low) & (positions <= high))
        assert clearance(positions, layout).min() >= layout.radius - 1e-6
    pieces = wall_rectangles(layout)
    gaps = [
        after[0][1 - layout.across] - before[1][1 - layout.across]
        for before, after in zip(pieces[:-1], pieces[1:], strict=True)
    ]
    if max(gaps) < 2 * layout.radius:
        assert np.array_equal(sides, positions[:, layout.across] < 112)


def crawl(position, motion, layout, pieces=1500):
    """Slides in tiny steps: wherever a disk would enter a wall, it is put back onto the surface."""
    position = np.array(position)
    for _ in range(pieces):
        position = np.clip(position + motion / pieces, 14 + layout.radius, 210 - layout.radius)
        for lowest, highest in wall_rectangles(layout):
            offset = position - np.clip(position, lowest, highest)
            distance = np.linalg.norm(offset)
            if distance < layout.radius:
                position += offset * (layout.radius / distance - 1)
    return position


def test_swept_disks_end_where_tiny_steps_end():
    layout, rng = Layout(), np.random.default_rng(0)
    starts = np.stack([rng.uniform(96, 99.9, 25), rng.uniform(21, 80, 25)], 1)
    actions = np.stack([rng.uniform(0.3, 1, 25), rng.uniform(-1, 1, 25)], 1)
    ends = sweep_all(starts, actions, layout)
    for start, action, end in zip(starts, actions, ends, strict=True):
        crawled = crawl(start, 5 * action, layout)
        # Around a door's corner the crawl follows the curve, the sweep its tangent: they part by less than a pixel.
        rounding = min(abs(start[1] - corner) for corner in (35, 63)) < 13
        np.testing.assert_allclose(end, crawled, atol=1.0 if rounding else 5e-3)


def test_swept_and_reference_moves_agree_far_from_walls():
    rng = np.random.default_rng(1)
    positions, actions = rng.uniform(21, 90, (200, 2)), rng.uniform(-1, 1, (200, 2))
    assert np.allclose(step_positions(positions, actions, physics="swept"), step_positions(positions, actions))


def test_swept_physics_forbids_what_the_reference_allows():
    # The center may enter the door 1.75 px beyond its span under the reference: the disk overlaps the jamb.
    start, action = [[99.0, 64.0]], [[1.0, 0.0]]
    assert step_positions(start, action).tolist() == [[104.0, 64.0]]
    end = step_positions(start, action, physics="swept")
    assert clearance(end, Layout()).min() >= 7 - 1e-6 and end[0, 0] < 104
    env = TwoRoomEnv(physics="swept")
    env.reset(seed=0)
    env.set_state(start[0])
    env.step(action[0])
    assert np.array_equal(env.get_state(), end[0])


def test_gymnasium_records_films(tmp_path):
    """With the extra `record`; read back by another library than the one that writes."""
    av = pytest.importorskip("av")
    env = gymnasium.wrappers.RecordVideo(
        gymnasium.make("lewm/TwoRoom-v0", image_size=64, render_mode="rgb_array"), str(tmp_path)
    )
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.ones(2, dtype=np.float32))
    env.close()
    (film,) = tmp_path.glob("*.mp4")
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (64, 64, 3)
    expected = TwoRoomEnv(image_size=64)
    expected.reset(seed=0)
    assert np.abs(frames[0].astype(int) - expected.render()).mean() < 12  # compressed
