import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import yaml

from lewm_hf.planning import CEM, Planner, PlanSettings, load_planner, planner_names
from lewm_hf.planning import planners as planners_module

FOLDER = Path(planners_module.__file__).parent


def write(folder: Path, changes: dict | None = None, drop: str | None = None) -> Path:
    content = yaml.safe_load((FOLDER / "small.yaml").read_text()) | (changes or {})
    content.pop(drop, None)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_shipped_planners_state_every_value_and_their_hash_is_that_of_their_content():
    names = ["actor-guided", "actor-guided-fast", "goal-time", "goal-time-close", "goal-time-small", "paper", "small"]
    assert planner_names() == names
    for name in planner_names():
        content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        planner = load_planner(name)
        assert planner.to_dict() == content | {"overrides": {}} and content["name"] == name
        later = [("retry", None), ("proposals", 1), ("proposal_std", 0.25)]  # not asked for before there was a choice
        counted = {key: value for key, value in content.items() if (key, value) not in later}
        text = json.dumps(counted, sort_keys=True, separators=(",", ":"))
        assert planner.hash == hashlib.sha256(text.encode()).hexdigest()
        assert planner.label == f"{name}-v{content['version']}"


def test_paper_plans_as_the_paper():
    paper = load_planner("paper")
    assert paper.solver == CEM(samples=300, iterations=30, elites=30, initial_std=1.0)
    assert (paper.horizon, paper.receding_horizon, paper.context_frames, paper.horizon_rule) == (5, 5, 1, "fixed")
    assert paper.clip_actions == "none" and paper.proposal is None and paper.cost == "final"
    small = load_planner("small")
    different = {name for name, value in paper.to_dict().items() if small.to_dict()[name] != value}
    assert different == {"name", "samples", "iterations", "elites"}


def test_the_class_has_the_values_of_goal_time():
    assert Planner() == load_planner("goal-time")


def test_settings_of_one_plan():
    settings = load_planner("actor-guided").settings(seed=7, compile=True)
    expected = PlanSettings(
        solver=CEM(samples=128, iterations=3, elites=16, initial_std=0.25), horizon=5, proposal="actor", guard=0.3,
        seed=7, compile=True,
    )  # fmt: skip
    assert settings == expected


def test_a_file_may_leave_out_what_goal_time_says(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nversion: 3\nsamples: 64\nelites: 8\n")
    mine = load_planner(path)
    assert mine == dataclasses.replace(Planner(), name="mine", version=3, solver=CEM(samples=64, elites=8))
    assert mine.label == "mine-v3" and mine.hash != load_planner("goal-time").hash


def test_an_override_is_recorded_and_changes_the_hash():
    small = load_planner("small")
    other = load_planner("small", {"samples": 200, "horizon": 4, "receding_horizon": 4, "elites": 15})
    assert (other.solver.samples, other.solver.iterations, other.horizon) == (200, 8, 4)
    assert other.overrides == {"samples": 200, "horizon": 4, "receding_horizon": 4}  # elites were 15 already
    assert other.label == "small-v1 (modified)" and other.hash != small.hash
    assert load_planner(other, {"samples": 50}).overrides["samples"] == 50
    assert load_planner("small", {"samples": 100}) == small


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampels": 1}, "unknown key 'sampels': the closest known one is 'samples'"),
        ({"goal_offset": 25}, "unknown key 'goal_offset'"),
        ({"samples": 2}, "elites=15 exceeds samples=2"),
        ({"samples": 2.5}, "samples=2.5 must be a whole number"),
        ({"initial_std": float("nan")}, "initial_std=nan must be positive and finite"),
        ({"horizon": 0}, "horizon=0 must be a whole number of at least 1"),
        ({"receding_horizon": 6}, "receding_horizon=6 exceeds horizon=5"),
        ({"receding_horizon": True}, "receding_horizon=True must be a whole number"),
        ({"context_frames": 0}, "context_frames=0"),
        ({"horizon_rule": "far"}, "horizon_rule='far' is unknown: use fixed or goal-time"),
        ({"cost": "l1"}, "cost='l1' is unknown"),
        ({"control_penalty": -1}, "control_penalty=-1 must be at least 0 and finite"),
        ({"clip_actions": "yes"}, "clip_actions='yes'"),
        ({"proposal": "expert"}, "proposal='expert'"),
        ({"guard": 0.3}, "guard=0.3 compares with a proposal: set proposal too"),
        ({"guard": -1, "proposal": "actor"}, "guard=-1"),
        ({"solver": "simplex"}, "solver='simplex' is unknown"),
        ({"version": "new"}, "version='new'"),
    ],
)
def test_impossible_values_are_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        load_planner(write(tmp_path, changes))
    assert "\n" not in str(error.value)
    if "version" not in changes:
        with pytest.raises(ValueError, match=message):
            load_planner("small", changes)


def test_identity(tmp_path):
    with pytest.raises(ValueError, match="version identifies the planner"):
        load_planner("paper", {"version": 9})
    for name in ("name", "version"):
        with pytest.raises(ValueError, match=f"missing {name}"):
            load_planner(write(tmp_path, drop=name))
    with pytest.raises(
        ValueError, match="unknown planner 'fast': use one of actor-guided, actor-guided-fast, goal-time"
    ):
        load_planner("fast")
    with pytest.raises(FileNotFoundError, match="there is no planner file"):
        load_planner(tmp_path / "nowhere.yaml")
    with pytest.raises(AttributeError):
        load_planner("paper").horizon = 3


def test_costs_of_ones_own_have_a_name():
    planner = Planner(name="mine", cost=lambda predicted, goal: predicted[:, :, -1, 0])
    assert "lambda" in planner.to_dict()["cost"] and planner.hash != Planner(name="mine").hash
