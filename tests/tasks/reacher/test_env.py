import gymnasium
import mujoco
import numpy as np
import pytest
from dm_control.suite import reacher as suite
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf.tasks.reacher.env import ReacherEnv, compile_model, variation_space
from lewm_hf.tasks.registry import make_env

FAR = np.array([0.0, 100.0, 0.0, 0.0])  # no wrist gets there: the goal never interferes


@pytest.fixture(scope="module")
def recorded(fixtures):
    """Recorded from the reference implementation (stable-worldmodel 0.1.1), mujoco 3.17, EGL in software."""
    with np.load(fixtures / "reacher.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def small():
    """Few pixels, no shadows: milliseconds per picture."""
    env = ReacherEnv(image_size=48, render_quality="fast")
    yield env
    env.close()


@pytest.fixture(autouse=True)
def started(small):
    small.reset(seed=0, options={"goal_image": False})


def suite_physics(state):
    physics = suite.Physics.from_xml_string(*suite.get_model_and_assets())
    with physics.reset_context():
        physics.data.qpos[:], physics.data.qvel[:] = state[:2], state[2:]
    return physics


def test_trajectories_equal_the_recorded_ones(recorded, small):
    small.set_goal(FAR)
    for start, actions, qpos, qvel in zip(*(recorded[k] for k in ("starts", "actions", "qpos", "qvel")), strict=True):
        small.set_state(start)
        states = np.stack([small.step(action)[4]["state"] for action in actions])
        np.testing.assert_allclose(states, np.hstack([qpos, qvel]), rtol=0, atol=1e-6)


def test_reference_picture(recorded):
    env = ReacherEnv()
    env.set_goal(FAR)
    env.set_state(np.concatenate([recorded["qpos"][6, 20], recorded["qvel"][6, 20]]))
    image, expected = env.render().astype(float), recorded["frame"].astype(float)
    env.close()
    assert image.shape == (224, 224, 3)
    # Drivers differ by a few gray levels at edges; a misplaced arm differs by 100 on hundreds of pixels.
    np.testing.assert_allclose(image.mean((0, 1)), expected.mean((0, 1)), atol=3)
    assert np.abs(image - expected).mean() < 3
    arm = expected[..., 0] > expected[..., 2]  # the only thing that is more red than blue
    assert (image[..., 0] > image[..., 2])[arm].mean() > 0.95
    assert (image[..., 0] > image[..., 2])[~arm].mean() < 0.01


def test_a_thousand_physics_steps_without_a_reset(small):
    """The suite's physics alone, which knows no episodes, against the environment past the suite's time limit."""
    start = np.array([0.3, -1.0, 0.5, 2.0])
    physics = suite_physics(start)
    actions = np.random.default_rng(0).uniform(-1, 1, (550, 2))
    small.set_goal(FAR)
    small.set_state(start)
    for action in actions:
        physics.set_control(action)
        physics.step(2)
        observation, _, terminated, truncated, info = small.step(action)
        np.testing.assert_allclose(info["state"], np.concatenate([physics.position(), physics.velocity()]), atol=1e-6)
        assert not terminated and not truncated
    np.testing.assert_allclose(info["finger_pos"], physics.named.data.geom_xpos["finger", :2], atol=1e-6)
    assert np.array_equal(observation[[0, 1, 4, 5]], info["state"].astype(np.float32))


def test_a_step_stops_where_it_enters_the_goal(small):
    """Fast enough to be inside after the first control step and beyond after the second."""
    start = np.array([0.0, 0.0, 4.9, 0.0])
    physics = suite_physics(start)
    physics.step()
    halfway = np.concatenate([physics.position(), physics.velocity()])
    physics.step()
    assert abs(physics.position()[0] - halfway[0]) > 0.05
    small.set_goal(halfway)
    small.set_state(start)
    _, _, terminated, _, info = small.step(np.zeros(2))
    assert terminated and info["success"] and small.is_success()
    np.testing.assert_allclose(info["state"], halfway, atol=1e-9)
    # Already inside, a step is whole: nothing halves the time of episodes that go on.
    assert small.data.time == pytest.approx(0.02)
    small.set_goal(np.array([halfway[0] + 0.045, halfway[1], 0, 0]))
    small.step(np.zeros(2))
    assert small.data.time == pytest.approx(0.06)


angles = st.floats(-20, 20)


@settings(max_examples=200, deadline=None)
@given(st.tuples(angles, angles), st.tuples(angles, angles), st.integers(-3, 3), st.booleans(), st.booleans())
def test_success_rule(position, goal, turns, near, compat):
    env = object.__new__(ReacherEnv)  # the rule needs no scene
    env.compat = compat
    if near:
        goal = (position[0] + 0.04 + turns * 2 * np.pi, position[1] - 0.04)
    shoulder = abs(goal[0] - position[0])
    if not compat:
        shoulder = min(abs(goal[0] - position[0] + k * 2 * np.pi) for k in range(-12, 13))
    wrist = abs(goal[1] - position[1])
    states, goals = np.array([[*position, 9.0, 9.0]]), np.array([[*goal, 0.0, 0.0]])
    if min(abs(shoulder - 0.05), abs(wrist - 0.05)) > 1e-9:
        assert env.reached(states, goals)[0] == (shoulder < 0.05 and wrist < 0.05)


def test_a_turn_counts_only_by_default(small):
    near, turned = np.array([0.5, 1.0, 0, 0]), np.array([0.5 + 2 * np.pi, 1.0, 0, 0])
    wrapped_wrist = np.array([0.5, 1.0 + 2 * np.pi, 0, 0])
    assert small.reached(near[None], turned[None])[0] and not small.reached(near[None], wrapped_wrist[None])[0]
    raw = ReacherEnv(compat=True)
    assert not raw.reached(near[None], turned[None])[0]


@settings(max_examples=30, deadline=None)
@given(st.tuples(angles, st.floats(-2.7, 2.7), st.floats(-9, 9), st.floats(-9, 9)))
def test_states_are_restored_exactly(state):
    env = STATES.env
    env.set_state(np.array(state))
    assert np.array_equal(env.get_state(), state)
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    first = [env.step(action)[4]["state"] for action in actions]
    env.set_state(np.array(state))
    for expected, action in zip(first, actions, strict=True):
        env.goal_image(np.array([1.0, 1.0, 5.0, 5.0]))  # looking elsewhere changes nothing
        assert np.array_equal(env.step(action)[4]["state"], expected)


class STATES:
    env = None


@pytest.fixture(autouse=True)
def _states_env(small):
    STATES.env = small


def test_gymnasium_s_checks():
    with pytest.warns(UserWarning, match="infinity"):
        check_env(gymnasium.make("lewm/Reacher-v0", image_size=32).unwrapped)
    assert gymnasium.spec("lewm/Reacher-v0").max_episode_steps == 200


def test_resets_are_seeded_and_within_bounds(small):
    starts, goals = [], []
    for seed in range(60):
        _, info = small.reset(seed=seed, options={"goal_image": False})
        starts.append(info["state"])
        goals.append(info["goal_state"])
        assert not info["success"] and "goal" not in info
    again = ReacherEnv(image_size=16).reset(seed=3, options={"goal_image": False})[1]
    assert np.array_equal(again["state"], starts[3]) and np.array_equal(again["goal_state"], goals[3])
    poses = np.concatenate([starts, goals])
    assert np.abs(poses[:, 0]).max() <= np.pi and np.abs(poses[:, 1]).max() <= np.deg2rad(160)
    assert np.abs(poses[:, 0]).max() > 3 and np.abs(poses[:, 1]).max() > 2.5 and not poses[:, 2:].any()
    assert not np.allclose(starts, goals)


def test_goal_image_and_goal_state(small):
    state, goal = np.array([0.2, 0.4, 1.0, -1.0]), np.array([2.0, -1.0, 0.0, 0.0])
    _, info = small.reset(options={"state": state, "goal": goal})
    assert np.array_equal(info["state"], state) and np.array_equal(info["goal_state"], goal)
    assert np.array_equal(info["goal"], small.goal_image(goal))
    assert not np.array_equal(info["goal"], small.render())
    small.set_state(goal)
    assert np.array_equal(info["goal"], small.render()) and small.is_success()


def test_the_target_lies_at_the_goal_s_fingertip(small):
    """Two links of 0.12 m: plane trigonometry."""
    state, goal = np.array([0.4, 0.3, 0, 0]), np.array([1.1, -0.7, 0, 0])
    observation, info = small.reset(options={"state": state, "goal": goal, "goal_image": False})
    tip = [0.12 * np.array([np.cos(a) + np.cos(a + b), np.sin(a) + np.sin(a + b)]) for a, b in (state[:2], goal[:2])]
    np.testing.assert_allclose(info["target_pos"], tip[1], atol=1e-9)
    np.testing.assert_allclose(observation[2:4], tip[1] - tip[0], atol=1e-6)
    small.set_state(goal)
    assert small.step(np.zeros(2))[1] == 2.0  # both control steps on target
    small.set_state(state)
    assert small.step(np.zeros(2))[1] == 0.0


def test_the_target_is_hidden_unless_asked_for(small):
    def picture(**values):
        options = {"state": [0, 0, 0, 0], "goal": [2, 1, 0, 0], "variation_values": values, "goal_image": False}
        small.reset(options=options)
        return small.render().astype(int)

    plain = picture()
    colored = picture(**{"target.color": [0, 1, 0]})
    shown = picture(**{"target.color": [0, 1, 0], "rendering.render_target": 1})
    box = picture(**{"target.color": [0, 1, 0], "rendering.render_target": 1, "target.shape": 0})
    assert np.array_equal(plain, colored)
    changed = np.abs(shown - plain).sum(-1) > 30
    assert 2 <= changed.sum() <= 40 and np.all(shown[changed][:, 1] > shown[changed][:, 0])
    assert not np.array_equal(shown, box)
    assert np.array_equal(picture(), plain)  # a reset brings the initial values back


def test_variation_reaches_the_model():
    """Against the compiled model of the suite, bit for bit, and its physical quantities."""
    values = variation_space().initial_values()
    model, original = compile_model(values), mujoco.MjModel.from_xml_string(*suite.get_model_and_assets())
    for field in ("body_mass", "body_inertia", "geom_size", "tex_data", "light_diffuse", "dof_damping", "cam_pos"):
        ours, theirs = getattr(model, field).copy(), getattr(original, field).copy()
        if field == "geom_size":  # the suite's task sets it
            theirs[original.geom("target").id, 0] = ours[model.geom("target").id, 0]
            theirs[original.geom("target").id, 1:] = ours[model.geom("target").id, 1:]
        assert np.array_equal(ours, theirs), field
    heavy = compile_model({**values, "agent.arm_density": 1500.0, "agent.finger_density": 500.0})
    assert heavy.body("arm").mass[0] == pytest.approx(1.5 * original.body("arm").mass[0])
    assert heavy.body("finger").mass[0] == pytest.approx(0.5 * original.body("finger").mass[0])
    styled = compile_model(
        {**values, "agent.color": [1, 0, 0], "floor.color": [[0, 0, 0], [1, 1, 1]], "light.intensity": 0.1}
    )
    assert np.array_equal(styled.material("self").rgba, [1, 0, 0, 1])
    assert np.allclose(styled.light("light").diffuse, 0.1)
    assert not np.array_equal(styled.tex_data, original.tex_data)


def test_only_asked_for_factors_change(small):
    _, _ = small.reset(seed=1, options={"variation": ["agent"], "goal_image": False})
    changed = {
        name
        for name, value in variation_space().initial_values().items()
        if not np.array_equal(small.variation[name], value)
    }
    assert changed == {"agent.color", "agent.arm_density", "agent.finger_density"}
    with pytest.raises(ValueError, match="unknown factor of variation 'agent.finger_locked'"):
        small.reset(options={"variation": ["agent.finger_locked"]})


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda env: env.set_state(np.zeros(3)), r"state has shape \(3,\), expected \(4,\): shoulder"),
        (lambda env: env.set_state([0, np.nan, 0, 0]), "must be finite"),
        (lambda env: env.set_goal([0, np.inf, 0, 0]), "goal=.*must be finite"),
        (lambda env: env.step(np.zeros(3)), r"action has shape \(3,\)"),
        (lambda env: env.step([np.nan, 0]), "must be finite"),
        (lambda env: env.reset(options={"variation_values": {"agent.arm_density": 20}}), "outside"),
        (lambda env: make_env("reacher", render_quality="ultra"), "render_quality='ultra' is unknown"),
        (lambda env: make_env("reacher", image_size=2), "image_size=2"),
        (lambda env: make_env("reacher", image_size=20_000), "image_size=20000 is too large for OpenGL"),
    ],
)
def test_bad_input_is_one_clear_line(small, act, message):
    before = small.get_state()
    with pytest.raises(ValueError, match=message) as caught:
        act(small)
    assert "\n" not in str(caught.value)
    assert np.array_equal(small.get_state(), before)
