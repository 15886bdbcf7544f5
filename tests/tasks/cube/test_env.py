import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lewm_hf.tasks.cube import env as cube_module
from lewm_hf.tasks.cube.env import CubeEnv, camera_axes
from lewm_hf.tasks.registry import make_env

QUIET = {"goal_image": False}


@pytest.fixture(scope="module")
def recorded(fixtures):
    """Recorded from the reference implementation (stable-worldmodel 0.1.1), mujoco 3.17, EGL in software."""
    with np.load(fixtures / "cube.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def env():
    env = CubeEnv(image_size=64, render_quality="fast")
    yield env
    env.close()


@pytest.fixture(autouse=True)
def started(env):
    env.reset(seed=0, options=QUIET)


def actions(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 5)).astype(np.float32)


def run(env, start, moves):
    env.set_state(start)
    return np.stack([env.step(move)[4]["state"] for move in moves])


def cube_at(state, *xyz):
    moved = np.array(state)
    moved[14:17] = xyz
    return moved


def test_trajectories_equal_the_recorded_ones(env, recorded):
    starts = np.hstack([recorded["start_qpos"], recorded["start_qvel"]])
    for start, moves, qpos in zip(starts, recorded["actions"], recorded["qpos"], strict=True):
        np.testing.assert_allclose(run(env, start, moves)[:, :21], qpos, rtol=0, atol=1e-6)


@pytest.mark.parametrize("compat", [True, False])
def test_reference_picture(recorded, compat):
    env = CubeEnv(compat=compat)
    env.reset(seed=0, options=QUIET)
    index = 3
    run(env, np.hstack([recorded["start_qpos"], recorded["start_qvel"]])[index], recorded["actions"][index])
    image, expected = env.render().astype(float), recorded["frames"][1].astype(float)
    env.close()
    assert image.shape == (224, 224, 3)
    # Drivers differ by a few gray levels at edges; shadow, arm, gripper and cube are all in place.
    np.testing.assert_allclose(image.mean((0, 1)), expected.mean((0, 1)), atol=3)
    assert np.abs(image - expected).mean() < 3
    for is_part in (
        lambda rgb: (rgb[..., 0] > 2 * rgb[..., 1]) & (rgb[..., 0] > 1.5 * rgb[..., 2]),  # the red cube
        lambda rgb: (rgb[..., 2] > 1.8 * rgb[..., 1]) & (rgb[..., 0] > 1.2 * rgb[..., 1]),  # the purple gripper
    ):
        part = is_part(expected)
        assert part.sum() > 50 and is_part(image)[part].mean() > 0.9


def test_pictures_depend_on_the_state_alone(env):
    """By default a picture after steps is the picture of the restored state; in compat it lags, as recorded."""
    run(env, env.get_state(), actions(6))
    seen = env.render()
    assert np.array_equal(seen, env.goal_image(env.get_state()))
    env.set_state(env.get_state())
    assert np.array_equal(seen, env.render())
    lagging = CubeEnv(image_size=64, render_quality="fast", compat=True)
    start = lagging.reset(seed=0, options=QUIET)[1]["state"]
    run(lagging, start, actions(6))
    assert not np.array_equal(lagging.render(), lagging.goal_image(lagging.get_state()))
    lagging.close()


def test_states_are_restored_exactly(env):
    moves = actions(12)
    middle = run(env, env.get_state(), moves)[-1]
    first = run(env, middle, moves)
    env.set_state(middle)
    assert np.array_equal(env.get_state(), middle)
    for expected, move in zip(first, moves, strict=True):
        env.goal_image(cube_at(middle, 0.4, 0.2, 0.1))  # looking elsewhere changes nothing
        env.is_success()
        assert np.array_equal(env.step(move)[4]["state"], expected)


position = st.tuples(st.floats(0.2, 0.7), st.floats(-0.4, 0.4), st.floats(0.0, 0.4))


@settings(max_examples=100, deadline=None)
@given(position, position, st.floats(0.0, 0.08), st.integers(0, 2))
def test_success_rule(here, there, offset, axis):
    env = object.__new__(CubeEnv)  # the rule needs no scene
    near = list(here)
    near[axis] += offset
    states = np.random.default_rng(0).normal(size=(2, 41))  # arm, orientation and velocities do not matter
    goals = np.random.default_rng(1).normal(size=(2, 41))
    states[:, 14:17], goals[0, 14:17], goals[1, 14:17] = here, near, there
    distance = np.sqrt(sum((a - b) ** 2 for a, b in zip(here, there, strict=True)))
    if abs(offset - 0.04) > 1e-9 and abs(distance - 0.04) > 1e-9:
        assert list(env.reached(states, goals)) == [offset <= 0.04, distance <= 0.04]


def test_success_at_4_cm(env):
    goal = cube_at(env.get_state(), 0.42, 0.1, 0.02)
    for shift, expected in ((0.0399, True), (0.0401, False)):
        env.set_goal(goal)
        env.set_state(cube_at(goal, 0.42 + shift, 0.1, 0.02))
        info = env.step(np.zeros(5))[4]
        assert info["success"] == expected == env.is_success()
        assert info["cube_distance"] == pytest.approx(shift, abs=1e-4)
    turned = cube_at(goal, 0.42, 0.1, 0.02)
    quaternion = Rotation.from_quat(goal[17:21], scalar_first=True) * Rotation.from_euler("z", 30, degrees=True)
    turned[17:21] = quaternion.as_quat(scalar_first=True)
    env.set_state(turned)
    _, reward, terminated, _, info = env.step(np.zeros(5))
    assert terminated and reward == 1.0 and info["cube_angle"] == pytest.approx(np.pi / 6, abs=0.01)


def test_everything_is_seeded(env):
    """The global generator neither matters nor changes."""

    def episode(member, seed):
        info = member.reset(seed=seed, options={**QUIET, "variation": ["cube", "agent.ee_start_position"]})[1]
        return np.concatenate([info["state"], info["goal_state"], run(member, info["state"], actions(3)).ravel()])

    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = episode(env, 5)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    other = CubeEnv(image_size=32)
    other.reset(seed=9, options=QUIET)
    assert np.array_equal(episode(other, 5), first)
    assert not np.allclose(episode(other, 6), first)


def test_resets_fill_the_ranges_and_leave_something_to_do(env):
    starts, goals = [], []
    for seed in range(60):
        info = env.reset(seed=seed, options=QUIET)[1]
        starts.append(info["state"])
        goals.append(info["goal_state"])
        assert info["cube_distance"] > 0.04 and not info["success"]
        np.testing.assert_allclose(info["proprio/effector_pos"], [0.425, 0.0, 0.275], atol=1e-3)
    for poses in (np.array(starts), np.array(goals)):
        assert not poses[:, 21:].any() and np.all(poses[:, 16] == 0.02)
        np.testing.assert_allclose(poses[:, 14:16].min(0), [0.3, -0.3], atol=0.05)
        np.testing.assert_allclose(poses[:, 14:16].max(0), [0.55, 0.3], atol=0.05)
        yaws = Rotation.from_quat(poses[:, 17:21], scalar_first=True).as_euler("xyz")
        assert not yaws[:, :2].any() and yaws[:, 2].min() < -2 and yaws[:, 2].max() > 2
    # compat leaves the draw to chance, which puts a few goals within 4 cm of the start.
    compat = CubeEnv(image_size=32, compat=True)
    distances = [compat.reset(seed=seed, options=QUIET)[1]["cube_distance"] for seed in range(300)]
    assert 0 < np.mean(np.array(distances) <= 0.04) < 0.1


def test_a_start_is_at_rest(env):
    """The cube neither falls nor jumps, whatever its size."""
    for size in (0.02, 0.03):
        info = env.reset(seed=1, options={**QUIET, "variation_values": {"cube.size": size}})[1]
        assert info["state"][16] == size
        settled = env.step(np.zeros(5))[4]["state"]
        np.testing.assert_allclose(settled[14:17], info["state"][14:17], atol=2e-4)


def test_scenes_are_compiled_only_when_they_look_different(monkeypatch):
    compiled = []
    original = cube_module._Simulator.compile_model_and_data
    monkeypatch.setattr(
        cube_module._Simulator, "compile_model_and_data", lambda self: (compiled.append(1), original(self))[1]
    )
    cube_module._plain_simulator.cache_clear()
    envs = [CubeEnv(image_size=32) for _ in range(3)]
    for seed, member in enumerate(envs):
        member.reset(seed=seed, options=QUIET)
        member.reset(options={**QUIET, "variation": ["cube.start_position", "cube.goal_yaw"]})
    assert len(compiled) == 1
    red = {"variation_values": {"agent.color": [1, 0, 0]}, **QUIET}
    envs[0].reset(options=red)
    envs[0].reset(options=red)
    assert len(compiled) == 2
    envs[0].reset(options=QUIET)
    assert len(compiled) == 2


def test_environments_of_one_scene_do_not_disturb_each_other():
    env, other = CubeEnv(image_size=32), CubeEnv(image_size=32)
    one = env.reset(seed=0, options=QUIET)[1]["state"]
    two = other.reset(seed=7, options=QUIET)[1]["state"]
    goal_two = other.goal_state
    alone = run(env, one, actions(8)), run(other, two, actions(8, seed=1))
    assert env.model is other.model
    env.set_state(one)
    other.set_state(two)
    for step, (first, second) in enumerate(zip(actions(8), actions(8, seed=1), strict=True)):
        assert np.array_equal(env.step(first)[4]["state"], alone[0][step])
        observation, _, _, _, info = other.step(second)
        assert np.array_equal(info["state"], alone[1][step])
    assert np.array_equal(info["privileged/target_block_pos"], goal_two[14:17])
    assert np.array_equal(info["privileged/block_0_pos"], info["state"][14:17])
    np.testing.assert_allclose(observation[:6], info["state"][:6], atol=1e-6)


def test_observation_is_ogbench_s(env):
    """28 numbers from the definition: joints, effector, gripper, then the cube."""
    observation, _, _, _, info = env.step(np.array([0.3, -0.2, -1, 0.5, 1]))
    state = info["state"]
    yaw = Rotation.from_quat(state[17:21], scalar_first=True).as_euler("xyz")[2]
    effector_yaw = info["proprio/effector_yaw"][0]
    expected = [
        *state[:6],
        *state[21:27],
        *((info["proprio/effector_pos"] - [0.425, 0, 0]) * 10),
        *(np.cos(effector_yaw), np.sin(effector_yaw)),
        np.clip(state[6] / 0.8, 0, 1) * 3,
        info["proprio/gripper_contact"][0],
        *((state[14:17] - [0.425, 0, 0]) * 10),
        *state[17:21],
        *(np.cos(yaw), np.sin(yaw)),
    ]
    np.testing.assert_allclose(observation, expected, atol=1e-5)


def test_actions_move_the_effector(env):
    """Units of 5 cm: after half a second at full speed along y the effector has followed the commands."""
    before = env.oracle_info()["proprio/effector_pos"]
    for _ in range(10):
        info = env.step(np.array([0, 0.5, 0, 0, 0]))[4]
    moved = info["proprio/effector_pos"] - before
    assert 0.08 < moved[1] < 0.25 and np.abs(moved[[0, 2]]).max() < 0.02
    for _ in range(20):
        info = env.step(np.array([0, 0, 0, 0, 1.0]))[4]
    assert info["proprio/gripper_opening"][0] > 0.9  # positive closes: 1 is shut


def test_variation_reaches_the_model():
    env = CubeEnv(image_size=32, render_quality="fast")
    assert np.allclose(env.model.material("ur5e/robotiq/black").rgba, [0.61, 0.28, 0.82, 1])
    assert np.allclose(env.model.material("ur5e/robotiq/pad_gray").rgba, [0.61, 0.28, 0.82, 1])
    assert np.allclose(env.model.light("global").diffuse, 0.7) and env.model.geom("target_object_0").rgba[3] == 0
    plain_mass, plain_texture = env.model.body("object_0").mass[0], env.model.tex_data.copy()
    values = {
        "cube.color": [0.1, 0.9, 0.2],
        "cube.size": 0.03,
        "agent.color": [0.2, 0.3, 0.4],
        "agent.ee_start_position": [0.5, 0.1, 0.3],
        "floor.color": [[1, 1, 1], [0, 0, 0]],
        "camera.angle_delta": [5.0, -3.0],
        "light.intensity": 0.2,
        "cube.start_position": [0.4, -0.1],
        "cube.start_yaw": 1.0,
    }
    info = env.reset(seed=0, options={**QUIET, "variation_values": values})[1]
    env.step(np.zeros(5))  # OGBench repaints the cube every step
    assert np.allclose(env.model.geom("object_0").rgba, [0.1, 0.9, 0.2, 1])
    assert np.allclose(env.model.geom("object_0").size, 0.03)
    assert env.model.body("object_0").mass[0] == pytest.approx(plain_mass * 1.5**3, rel=1e-5)
    assert np.allclose(env.model.material("ur5e/robotiq/black").rgba, [0.2, 0.3, 0.4, 1])
    assert np.allclose(env.model.light("global").diffuse, 0.2)
    assert not np.array_equal(env.model.tex_data, plain_texture)
    np.testing.assert_allclose(info["proprio/effector_pos"], [0.5, 0.1, 0.3], atol=1e-3)
    np.testing.assert_allclose(info["state"][14:17], [0.4, -0.1, 0.03])
    assert info["privileged/block_0_yaw"][0] == pytest.approx(1.0)
    env.reset(seed=0, options=QUIET)
    assert np.allclose(env.model.geom("object_0").rgba[:3], [0.96, 0.26, 0.33])
    assert np.array_equal(env.model.tex_data, plain_texture)


@settings(max_examples=50, deadline=None)
@given(st.floats(-10, 10), st.floats(-10, 10))
def test_camera_turn(yaw, pitch):
    """Yaw about z, then pitch about x, as rotations of SciPy."""
    turn = Rotation.from_euler("x", pitch, degrees=True) * Rotation.from_euler("z", yaw, degrees=True)
    expected = [*turn.apply([0, 1, 0]), *turn.apply([-0.628, 0.001, 0.778])]
    np.testing.assert_allclose(camera_axes(np.array([yaw, pitch])), expected, atol=1e-12)


def test_goal_image_shows_the_goal(env):
    goal = cube_at(env.get_state(), 0.5, 0.15, 0.02)
    start = cube_at(env.get_state(), 0.5, -0.15, 0.02)
    info = env.reset(options={"state": start, "goal": goal})[1]

    def red_columns(image):
        red = (image[..., 0] > 2.0 * image[..., 1]) & (image[..., 0] > 1.5 * image[..., 2]) & (image[..., 0] > 60)
        return np.flatnonzero(red.any(0))

    # The camera looks along -x: +y is on its right.
    assert red_columns(info["goal"]).mean() > 32 > red_columns(env.render()).mean()
    env.set_state(goal)
    assert np.array_equal(env.render(), info["goal"])


@pytest.mark.filterwarnings("ignore:.*infinity")
def test_gymnasium_s_checks():
    check_env(gymnasium.make("lewm/Cube-v0", image_size=32, render_quality="fast").unwrapped)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda env: env.set_state(np.zeros(21)), r"state has shape \(21,\), expected \(41,\): shoulder_pan"),
        (lambda env: env.set_state(np.full(41, np.nan)), "must be finite"),
        (lambda env: env.step(np.zeros(7)), r"action has shape \(7,\), expected \(5,\)"),
        (lambda env: env.step([0, 0, np.nan, 0, 0]), "must be finite"),
        (lambda env: env.reset(options={"variation_values": {"cube.size": 0.2}}), "outside"),
        (lambda env: env.reset(options={"variation": ["cube.mass"]}), "unknown factor of variation 'cube.mass'"),
        (
            lambda env: env.reset(
                options={"variation_values": {"cube.start_position": [0.4, 0], "cube.goal_position": [0.41, 0]}}
            ),
            "more than 0.04 m from cube.start_position",
        ),
        (lambda env: make_env("cube", render_quality="best"), "render_quality='best' is unknown"),
    ],
)
def test_bad_input_is_one_clear_line(env, act, message):
    before = env.get_state()
    with pytest.raises(ValueError, match=message) as caught:
        act(env)
    assert "\n" not in str(caught.value)
    assert np.array_equal(env.get_state(), before)
