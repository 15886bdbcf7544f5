"""A simulated robot of 10 Hz, in real time: its loop never waits for a plan."""

import signal
import threading
import time

import numpy as np
import pytest

from lewm_hf import LeWMImageProcessor, LeWMPlanner, MPCPolicy, RobotLoop, load_planner

QUICK = {"samples": 8, "iterations": 1, "elites": 2, "horizon": 4}


class Robot:
    """Remembers what it was sent, and when; its camera sees noise."""

    def __init__(self):
        self.sent, self.times, self.pictures = [], [], 0

    def camera(self):
        self.pictures += 1
        return np.random.default_rng(self.pictures).integers(0, 255, (28, 28, 3), dtype=np.uint8)

    def send(self, action):
        self.sent.append(action)
        self.times.append(time.perf_counter())


class SlowPolicy(MPCPolicy):
    """A planner that takes its time, and remembers its plans."""

    def __init__(self, model, seconds=0.0):
        planner = load_planner("goal-time", QUICK | {"context_frames": 1})
        super().__init__(model, LeWMImageProcessor(image_size=28), planner)
        self.seconds, self.made = seconds, []

    def act(self, frames=()):
        looking = len(frames) > 0
        if looking and self.made:  # the first plan is awaited
            time.sleep(self.seconds)
        action = super().act(frames)
        if looking:
            self.made.append(np.concatenate([action, self.ahead(0)]))
        return action


GOAL = np.full((28, 28, 3), 200, dtype=np.uint8)


def test_a_quick_planner_is_executed_in_order(tiny_model):
    robot, policy = Robot(), SlowPolicy(tiny_model)
    report = RobotLoop(policy, robot.camera, robot.send, hz=10, patience=0.95).run(GOAL, steps=12)
    assert (report.ticks, report.stopped) == (12, "steps") and len(robot.sent) == 13
    executed = np.concatenate([plan[:5] for plan in policy.made])[:12]  # frameskip of 5, one block of each plan
    if not report.late_ticks:
        np.testing.assert_array_equal(robot.sent[:12], executed)
    np.testing.assert_array_equal(robot.sent[-1], [0, 0])


@pytest.mark.parametrize("while_late", ["rest", "hold", "zero"])
def test_a_late_plan_delays_nothing_and_is_counted(tiny_model, while_late):
    robot, policy = Robot(), SlowPolicy(tiny_model, seconds=0.25)
    loop = RobotLoop(policy, robot.camera, robot.send, hz=10, while_late=while_late, idle=[9, 9])
    report = loop.run(GOAL, steps=16)
    # The first plan is there; at least one more came, all of them two periods late or more.
    assert report is loop.report and report.late_plans >= 1 and report.plans == report.late_plans + 1
    assert report.late_ticks >= 2 * report.late_plans
    assert min(report.plan_seconds[1:]) >= 0.25 and str(report.late_plans) in str(report)
    gaps = np.diff(robot.times[:16])
    assert 0.08 < np.median(gaps) < 0.15 and np.sum(gaps > 0.2) <= report.overruns
    idle = [tuple(action) == (9, 9) for action in robot.sent[:16]]
    again = [(one == two).all() for one, two in zip(robot.sent[:15], robot.sent[1:16], strict=True)]
    if while_late == "zero":
        assert sum(idle) == report.late_ticks
    elif while_late == "hold":
        assert sum(again) == report.late_ticks and not any(idle)
    else:
        first, second = policy.made[0], policy.made[1]
        late = next(number for number in range(5, 16) if not (robot.sent[number] == first[number]).all())
        np.testing.assert_array_equal(robot.sent[:late], first[:late])
        if late < 10:  # the new plan is entered where the clock is, if its time has not passed
            np.testing.assert_array_equal(robot.sent[late:10], second[late - 5 : 5])
    np.testing.assert_array_equal(robot.sent[-1], [9, 9])


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(60)
def test_however_it_ends_the_robot_idles_and_nothing_runs_on(tiny_model, interruptible):
    def broken_camera():
        raise OSError("the camera is unplugged")

    def camera_of_another_size():
        return np.zeros((14, 14, 3), dtype=np.uint8)

    for camera, error in ((broken_camera, OSError), (camera_of_another_size, ValueError)):
        robot = Robot()
        loop = RobotLoop(SlowPolicy(tiny_model), camera, robot.send, hz=10)
        with pytest.raises(error):
            loop.run(GOAL, steps=3)
        assert loop.report.stopped == error.__name__
        np.testing.assert_array_equal(robot.sent, [[0, 0]])

    robot = Robot()
    loop = RobotLoop(SlowPolicy(tiny_model, seconds=0.2), robot.camera, robot.send, hz=10)
    threading.Timer(0.8, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        loop.run(GOAL)
    assert loop.report.stopped == "KeyboardInterrupt" and loop.report.ticks >= 1
    np.testing.assert_array_equal(robot.sent[-1], [0, 0])
    report = loop.run(GOAL, until=lambda: loop.report.ticks == 3)  # and may run again
    assert report.stopped == "until"
    assert not [thread for thread in threading.enumerate() if thread.name == "lewm-planning"]


def test_a_pipeline_becomes_a_policy_with_its_settings(tiny_model):
    compute = {"rollout_dtype": "bfloat16", "compile": True, "memory_budget": 10**8, "problem_batch": 3}
    planner = LeWMPlanner(tiny_model, LeWMImageProcessor(image_size=28), goals="mean", seed=5, **QUICK, **compute)
    loop = RobotLoop(planner, Robot().camera, Robot().send, hz=10)
    policy = loop.policy
    assert isinstance(policy, MPCPolicy) and policy.planner.horizon == 4 and policy.planner.solver.samples == 8
    assert policy.settings == planner.settings


@pytest.mark.parametrize("name", ["paper", "goal-time-close", "goal-time-small"])
def test_a_pipeline_with_a_named_planner_plans_again_as_that_does(tiny_model, name):
    processor, search = LeWMImageProcessor(image_size=28), {"samples": 8, "iterations": 1, "elites": 2}
    planner = LeWMPlanner(tiny_model, processor, planner=name, seed=5, **search)
    policy = RobotLoop(planner, Robot().camera, Robot().send, hz=10).policy
    again = MPCPolicy(tiny_model, processor, load_planner(name, search), seed=5)
    assert policy.settings == again.settings == planner.settings and policy.context_frames == again.context_frames
    for field in ("horizon_rule", "horizon_floor", "receding_horizon", "retry"):
        assert getattr(policy.planner, field) == getattr(again.planner, field)
    shorter = LeWMPlanner(tiny_model, processor, planner=name, horizon=3, **search)
    policy = RobotLoop(shorter, Robot().camera, Robot().send, hz=10).policy
    assert policy.planner.receding_horizon == min(3, again.planner.receding_horizon)


def test_the_rate_is_that_of_the_training_episodes_unless_another_is_asked_for(tiny_model):
    def period(**arguments):
        return RobotLoop(SlowPolicy(tiny_model), Robot().camera, Robot().send, **arguments).period

    with pytest.raises(ValueError, match="does not state .* rate: give hz"):
        period()
    assert period(hz=50) == 1 / 50  # an older checkpoint, or data without times
    tiny_model.config.actions_per_second = 30
    assert period() == period(hz=30) == 1 / 30
    assert period(hz=29.97) == pytest.approx(1 / 29.97)  # as cameras have it
    for hz in (10, 31):
        with pytest.raises(ValueError, match=f"hz={hz}, but the model was trained on 30 .*leave hz away") as error:
            period(hz=hz)
        assert "\n" not in str(error.value)
    assert period(hz=10, other_rate=True) == 1 / 10


def test_what_makes_no_sense_is_refused(tiny_model):
    policy = SlowPolicy(tiny_model)
    for arguments, message in (
        ({"hz": 0}, "hz=0 must be a positive number"),
        ({"hz": 10, "while_late": "panic"}, "while_late='panic' is unknown: use one of rest, hold, zero"),
        ({"hz": 10, "patience": 1.0}, "patience=1.0 must lie in"),
        ({"hz": 10, "patience": "half"}, "patience='half' must lie in"),
        ({"hz": 10, "proprioception": 3}, "proprioception of type int must be a function"),
        ({"hz": 10, "idle": [0.0]}, "idle=.* must be 2 finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            RobotLoop(policy, Robot().camera, Robot().send, **arguments)
    for name, functions in (("camera", (GOAL, Robot().send)), ("act", (Robot().camera, None))):
        with pytest.raises(ValueError, match=f"{name} of type .* must be a function"):
            RobotLoop(policy, *functions, hz=10)
    loop = RobotLoop(policy, Robot().camera, Robot().send, hz=10)
    for arguments, message in (
        ({"steps": 2.5}, "steps=2.5 must be a whole number"),
        ({"steps": "4"}, "steps='4' must be a whole number"),
        ({"until": 5.0}, "until=5.0 must be a function"),
    ):
        with pytest.raises(ValueError, match=message):
            loop.run(GOAL, **arguments)
    for wrong in (object(), tiny_model):
        with pytest.raises(ValueError, match=f"policy of type {type(wrong).__name__} neither acts nor plans") as error:
            RobotLoop(wrong, Robot().camera, Robot().send, hz=10)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="num_envs=1"):
        RobotLoop(
            MPCPolicy(tiny_model, LeWMImageProcessor(image_size=28), num_envs=2), Robot().camera, Robot().send, hz=10
        )
