"""The benchmark of whole decisions: which planners a checkpoint can follow, and how often they decide."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from lewm_hf import LeWMImageProcessor
from lewm_hf.evaluation.common.agent import load_agent


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "eval"))
    return import_module("bench_checkpoints")


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "tiny")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_an_episode_decides_as_often_as_its_planner_wants_pictures(bench, checkpoint):
    agent = load_agent(checkpoint)
    pictures = np.zeros((26, 28, 28, 3), dtype=np.uint8)
    for planner, expected in (("goal-time-small", 5), ("small", 1)):  # again after every block of 5 steps, or once
        assert bench.episode(bench.policy_of(agent, planner), pictures) == expected
    assert "actor" not in bench.followed(agent, None) and "actor-guided" not in bench.followed(agent, None)


def test_writes_what_it_measured(bench, checkpoint, tmp_path):
    command = [
        str(checkpoint),
        "--planners",
        "small",
        "goal-time-small",
        "--repeats",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert bench.main(command) == 0
    found = json.loads((tmp_path / "out" / "decisions.json").read_text(encoding="utf-8"))
    assert [(row["planner"], row["decisions"]) for row in found["rows"]] == [("small", 1), ("goal-time-small", 5)]
    assert all(row["ms_per_decision"] > 0 for row in found["rows"]) and found["threads"] == 1


def test_an_unknown_planner_is_one_line_before_any_work(bench, capsys):
    assert bench.main(["nowhere", "--planners", "fastest"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "fastest" in message and message.count("\n") == 1
