"""Problems that resets draw: counted, unsolved, the same again, and acted on without a deadline."""

import json
from importlib import import_module
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import lewm_hf.envs  # noqa: F401  (registers the environments)
from lewm_hf import load_protocol

SHIPPED = Path(__file__).parents[2] / "model_cards" / "lewm-tworoom-mini"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "eval"))
    return import_module("any_goal")


def test_problems_are_those_of_resets_that_do_not_begin_at_their_goal(script):
    protocol = load_protocol("clean", {"deadline": False})
    drawn = script.drawn_by_resets("lewm/TwoRoom-v0", {"image_size": 32}, protocol, 40, 3)
    assert drawn == script.drawn_by_resets("lewm/TwoRoom-v0", {"image_size": 32}, protocol, 40, 3)
    assert drawn.hash != script.drawn_by_resets("lewm/TwoRoom-v0", {"image_size": 32}, protocol, 40, 4).hash
    # Replayed by hand: TwoRoom's disk arrives 16 px from its goal.
    env, seeds = gymnasium.make("lewm/TwoRoom-v0", image_size=32), np.random.default_rng(3)
    expected = []
    while len(expected) < 40:
        env.reset(seed=int(seeds.integers(2**31)))
        start, goal = env.unwrapped.get_state(), np.asarray(env.unwrapped.goal_state)
        if np.linalg.norm(start - goal) >= 16:
            expected.append((*start, *goal))
    found = [(*pair.start_state, *pair.goal_state) for pair in drawn.pairs]
    assert found == expected
    assert len({pair.problem for pair in drawn.pairs}) == 40
    assert drawn.counts.valid == drawn.counts.solved_at_start + 40


def test_the_agent_that_ships_is_told_no_deadline(script, tmp_path, capsys):
    command = [str(SHIPPED), "-n", "3", "--seeds", "5", "6", "--budget", "12", "--out", str(tmp_path / "out")]
    assert script.main([*command, "--policy", "actor"]) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["success"]["n"] == 6 and result["dataset"]["fingerprint"] == "resets"
    assert result["protocol"]["overrides"] == {"deadline": False, "opposite_rooms": False, "budget": 12}
    assert "of the given manifests" in capsys.readouterr().out


def test_a_checkpoint_that_names_no_environment(script, tiny_config, tmp_path, capsys):
    from lewm_hf import LeWMImageProcessor, LeWMModel

    LeWMModel(tiny_config).save_pretrained(tmp_path)
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path)
    assert script.main([str(tmp_path)]) == 2
    assert "does not say which environment it was trained in" in capsys.readouterr().err
