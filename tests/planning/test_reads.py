"""Deciding again reads nothing: no file, no folder, no metadata of installed packages, no import. Each of those may
take longer than a short plan, and no measurement of a long one shows it.
"""

import sys
import threading
from contextlib import contextmanager
from importlib.metadata import entry_points

import numpy as np
import pytest
import torch

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel, LeWMPlanner
from lewm_hf.planning import ActorPolicy, MPCPolicy, PlanSettings, load_planner, plan, planner_names
from lewm_hf.planning.solvers import solver_names, solver_settings

READS = {"open", "os.listdir", "os.scandir", "glob.glob", "import", "subprocess.Popen", "socket.connect"}
FEW = {"samples": 8, "iterations": 2, "elites": 3}
STEPS = 25
_listening: list[tuple[int, list[str]]] = []


def _hear(event, arguments):
    if _listening and event in READS and _listening[-1][0] == threading.get_ident():
        _listening[-1][1].append(f"{event} {arguments[0]}")


@pytest.fixture(scope="module")
def reads():
    """A context in which everything that this thread reads is written down; hooks stay until the process ends."""
    sys.addaudithook(_hear)

    @contextmanager
    def listen():
        _listening.append((threading.get_ident(), []))
        try:
            yield _listening[-1][1]
        finally:
            _listening.pop()

    return listen


@pytest.fixture
def model(tiny_config):
    return LeWMModel(LeWMConfig(**(tiny_config.to_dict() | {"actor_weight": 0.5}))).eval()


@pytest.fixture
def processor():
    return LeWMImageProcessor(image_size=28)


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)


def small(name):
    """A planner as it is, but for fewer candidates."""
    settings = load_planner(name).to_dict()
    return load_planner(name, {key: min(value, settings[key]) for key, value in FEW.items() if key in settings})


def episode(policy):
    policy.reset([0], ["p"], pictures(1), steps_left=STEPS)
    decisions = 0
    for picture in pictures(STEPS):
        wanted = policy.wants_frame()
        decisions += int(wanted[0])
        policy.act(picture[None][wanted])
    return decisions


def test_what_is_read_is_heard(reads, tmp_path):
    """Of the two things that plans must not do: a scan of what packages offer, and reading a file of theirs."""
    with reads() as scanned:
        entry_points(group="lewm_hf.solvers")
    assert any("entry_points.txt" in event for event in scanned)
    (tmp_path / "planner.yaml").write_text("")
    with reads() as opened:
        (tmp_path / "planner.yaml").read_text()
    assert [event.split()[0] for event in opened] == ["open"] and not _listening


@pytest.mark.parametrize("name", ["actor", *planner_names()])
def test_a_second_episode_reads_nothing(name, model, processor, reads):
    policy = ActorPolicy(model, processor) if name == "actor" else MPCPolicy(model, processor, small(name))
    assert episode(policy) >= 1
    with reads() as found:
        episode(policy)
    assert found == []


@pytest.mark.parametrize("name", solver_names())
def test_a_second_plan_of_any_solver_reads_nothing(name, model, reads):
    context, goal = torch.randn(1, 1, 16), torch.randn(1, 16)
    given = {"samples": 64} if "samples" in solver_settings(name) else {}
    settings = PlanSettings.of(solver=name, horizon=3, **given)
    plan(model, context, goal, settings, problems=[0])
    with reads() as found:
        plan(model, context, goal, settings, problems=[1])
        plan(model, context, goal, PlanSettings.of(solver=name, horizon=3, **given), problems=[2])
    assert found == []


def test_a_second_call_of_the_pipeline_reads_nothing(model, processor, reads):
    planner = LeWMPlanner(model, processor, device="cpu", **FEW)
    observation, goal = pictures(2)
    planner({"observation": observation, "goal": goal})
    with reads() as found:
        planner({"observation": observation, "goal": goal})
        planner({"observation": observation, "goal": goal}, samples=6, elites=2)
    assert found == []
