"""Who acts: planners, the actor and the floors on the same pairs; and results of the format before."""

import json
from pathlib import Path

import numpy as np
import pytest

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.cli import main
from lewm_hf.evaluation.common.results import read_result
from lewm_hf.evaluation.success.comparison import compare, format_comparison
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.evaluation.success.summary import format_summary
from lewm_hf.planning import CEM, load_planner

QUICK = {"samples": 8, "iterations": 1, "elites": 2}
# As checkpoints were published with before protocol and planner came apart.
OLDER = sorted((Path(__file__).resolve().parents[2] / "fixtures" / "format-2").glob("*/results.json"))


@pytest.fixture
def given(tiny_config, episodes):
    """A checkpoint with an actor, and pairs."""
    fields = {"actor": True, "actor_inputs": "features", "action_mean": [0.0, 0.0], "action_std": [0.6, 0.6]}
    model = LeWMModel(LeWMConfig(**tiny_config.to_dict() | fields)).eval()
    processor = LeWMImageProcessor(image_size=28)
    return {"model": model, "processor": processor, "episodes": episodes, "n": 4, "seeds": [42]}


def test_two_planners_meet_on_the_same_pairs(given, tmp_path):
    for name in ("small", "goal-time"):
        evaluate(**given, planner=name, overrides=QUICK, out=tmp_path / name, floors=False)
    results = [read_result(tmp_path / name) for name in ("small", "goal-time")]
    assert len({one["protocol"]["hash"] for one in results}) == 1 and not results[0]["protocol"]["overrides"]
    assert [one["planner"]["label"] for one in results] == ["small-v1 (modified)", "goal-time-v1 (modified)"]
    for one in results:
        assert load_planner(one["planner"]["name"], one["planner"]["overrides"]).hash == one["planner"]["hash"]
        assert one["planner"]["label"] in format_summary(one) and one["planner"]["hash"][:12] in format_summary(one)
    assert [one["planning"]["context_frames"] for one in results] == [1, 3]
    # The environment's bounds, where the checkpoint states none.
    bounds = {"low": [-1.0, -1.0], "high": [1.0, 1.0], "source": "environment"}
    assert [one["planning"]["action_bounds"] for one in results] == [None, bounds]
    assert "actions clipped to -1..1 (environment)" in format_summary(results[1])
    found = compare(tmp_path / "small", tmp_path / "goal-time")
    assert [run["planner"] for run in found["runs"]] == [one["planner"]["label"] for one in results]
    assert found["differences"]["planner horizon_rule"] == ["fixed", "goal-time"]
    assert "(small-v1 (modified))" in format_comparison(found)


def test_the_default_planner_is_the_protocol_s(given):
    assert evaluate(**given, overrides=QUICK, floors=False).result["planner"]["name"] == "goal-time"
    paper = evaluate(**given, protocol="paper", overrides=QUICK | {"split": "test"}, floors=False).result
    assert paper["planner"]["name"] == "paper" and paper["protocol"]["overrides"] == {"split": "test"}


def test_the_deadline_is_told_only_where_the_protocol_says_so(given):
    def steps(**changes):
        done = evaluate(
            **given,
            overrides=QUICK | {"goal_offset": 10, "budget": 10, "opposite_rooms": False} | changes,
            floors=False,
        )
        return [(row.replans, row.final_distance) for row in done.rows]

    told, untold = steps(), steps(deadline=False)
    assert told != untold
    # The whole plan does not listen.
    assert steps(horizon_rule="fixed") == steps(horizon_rule="fixed", deadline=False)


def test_the_actor_and_the_floors_act_alone(given):
    actor = evaluate(**given, policy="actor", floors=False)
    assert (actor.result["policy"], actor.result["planner"]["label"]) == ("actor", "actor-v2")
    assert all(row.replans == -(-row.steps // 5) for row in actor.rows)  # once per block
    assert actor.result["planning"]["context_frames"] == 1
    assert "planner actor-v2" in format_summary(actor.result)
    floors = evaluate(**given, policy="zero")
    for row in floors.rows:
        assert row.success == row.zero_action_success and row.replans == 0
    chance = evaluate(**given, policy="random")
    assert [row.success for row in chance.rows] == [row.random_success for row in chance.rows]
    hashes = {one.result["planner"]["hash"] for one in (actor, floors, chance)}
    assert len(hashes) == 3


def test_a_guided_planner_and_its_film(given, tmp_path):
    done = evaluate(
        **given, planner="actor-guided", overrides=QUICK | {"budget": 10}, floors=False, out=tmp_path, videos=1
    )
    assert done.result["planner"]["proposal"] == "actor" and len(done.videos) == 1
    assert done.result["planner"]["overrides"] == {"samples": 8, "iterations": 1, "elites": 2}


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.parent.name)
def test_results_of_the_format_before_read_as_if_they_were_written_today(path):
    stored, result = json.loads(path.read_text(encoding="utf-8")), read_result(path)
    before = stored["protocol"]
    assert stored["format"] == 2
    protocol = load_protocol(before["name"], result["protocol"]["overrides"])
    assert (result["protocol"]["hash"], result["protocol"]["label"]) == (protocol.hash, protocol.label)
    solver = CEM(**{name: before[name] for name in ("samples", "iterations", "elites", "initial_std")})
    planner = load_planner(result["planner"]["name"], result["planner"]["overrides"])
    assert planner.solver == solver and planner.hash == result["planner"]["hash"]
    assert (planner.horizon, planner.receding_horizon, planner.context_frames) == tuple(
        before[name] for name in ("horizon", "receding_horizon", "context_frames")
    )
    assert planner.horizon_rule == "fixed" and planner.clip_actions == "none"
    for name in ("success", "rows_hash", "manifests", "model"):
        assert result[name] == stored[name]


def test_changed_values_of_an_older_result_go_where_they_belong(tmp_path):
    stored = json.loads(OLDER[0].read_text(encoding="utf-8"))
    stored["protocol"] |= {"samples": 7, "elites": 3, "iterations": 30, "budget": 60, "action_block": 4}
    stored["protocol"]["overrides"] = {"samples": 7, "elites": 3, "budget": 60, "action_block": 4}
    (tmp_path / "results.json").write_text(json.dumps(stored))
    result = read_result(tmp_path)
    assert result["protocol"]["overrides"] == {"budget": 60} and result["protocol"]["label"].endswith("(modified)")
    assert result["planner"]["overrides"] == {"samples": 7, "elites": 3}
    assert result["planner"]["label"] == "paper-v1 (modified)"
    stored["protocol"] |= {"horizon": 4, "receding_horizon": 2}  # a file of somebody's own, nothing overridden
    stored["protocol"]["overrides"] = {}
    (tmp_path / "results.json").write_text(json.dumps(stored))
    result = read_result(tmp_path)
    assert (result["planner"]["label"], result["planner"]["horizon"]) == ("unnamed-v1", 4)
    del stored["protocol"]["draw"]
    (tmp_path / "results.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="no protocol of format 2") as error:
        read_result(tmp_path)
    assert "\n" not in str(error.value)


def test_the_command_takes_planner_and_policy(given, tmp_path, capsys):
    folder = tmp_path / "model"
    given["model"].save_pretrained(folder)
    given["processor"].save_pretrained(folder)
    shared = ["eval", str(folder), "--env", "two_room", "-n", "1", "--seeds", "42", "--set", "budget=5"]
    assert main([*shared, "--policy", "actor"]) == 0
    assert "planner actor-v2" in capsys.readouterr().out
    assert main([*shared, "--planner", "small", "--set", "solver=mppi", "--set", "samples=6"]) == 0
    assert "planner small-v1 (modified)" in capsys.readouterr().out
    for words, message in (
        (["--planner", "fast"], "unknown planner 'fast'"),
        (["--planner", "small", "--set", "temperature=1"], "temperature is not a setting of solver 'cem'"),
        (["--planner", str(tmp_path / "mine.yaml")], "there is no planner file"),
    ):
        assert main([*shared, *words]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line


def test_rates_do_not_depend_on_who_else_ran(given):
    """The noise of a planner belongs to the pair: running one pair alone gives the same way."""
    both = evaluate(**given, overrides=QUICK, floors=False).rows
    alone = evaluate(**given | {"n": 2}, overrides=QUICK, floors=False).rows
    ways = {(row.episode, row.start): row.final_distance for row in both}
    assert np.allclose([ways[row.episode, row.start] for row in alone], [row.final_distance for row in alone], atol=0)
