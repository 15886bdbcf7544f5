"""The comparison of systems: what is trained, on which problems, and what is printed."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from lewm_hf.evaluation.success.manifest import sample_manifest
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.training.arguments import parse_recipe, read_recipe

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "eval"))
    try:
        import compare_systems

        return compare_systems
    finally:
        sys.path.remove(str(ROOT / "eval"))


def test_every_system_is_a_recipe_of_the_same_data_and_steps(script, tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "lewm")
    for task in script.TASKS:
        for name, system in script.SYSTEMS.items():
            values = script.recipe_of(task, system, tmp_path / task / name / "seed-3", 3)
            if system.backbone:
                assert values["backbone"] == str(tmp_path / task / system.backbone / "seed-3" / "last")
                values |= {"backbone": str(tmp_path / "lewm"), "image_size": 28, "patch_size": 14}
            recipe_file = tmp_path / "recipe.yaml"
            recipe_file.write_text(yaml.safe_dump(values))
            recipe, config = parse_recipe([str(recipe_file), "--output_dir", "run"])
            base = read_recipe(script.TASKS[task][0])
            assert (recipe.seed, recipe.max_steps, recipe.batch_size) == (3, base["max_steps"], base["batch_size"])
            assert config.model_type == system.changes.get("model_type", "lewm")
            for key, value in system.changes.items():
                assert key == "model_type" or getattr(config, key, getattr(recipe, key, None)) == value


def test_swapped_goals_are_of_other_episodes_and_not_reached_at_the_start(script, episodes):
    manifest = sample_manifest(episodes, load_protocol("clean"), 8, 1)
    # Two problems of which each starts where the other's goal is: neither may get that goal.
    first, fifth = manifest.pairs[0], manifest.pairs[4]
    met = dataclasses.replace(fifth, goal_state=first.start_state)
    manifest = dataclasses.replace(manifest, pairs=(*manifest.pairs[:4], met, *manifest.pairs[5:]))
    swapped = script.swap_goals(manifest)
    np.testing.assert_array_equal(swapped.start_states, manifest.start_states)
    goals = {pair.goal_state: pair.episode for pair in manifest.pairs}
    for old, new in zip(manifest.pairs, swapped.pairs, strict=True):
        assert goals[new.goal_state] != old.episode
        assert np.hypot(*np.subtract(new.goal_state, new.start_state)[:2]) >= 16  # px, TwoRoom's rule


def test_a_system_without_its_backbone_is_refused(script, capsys, tmp_path):
    assert script.main(["two_room", "--systems", "gc-idm", "lewm", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: gc-idm stands on lewm: name lewm before it in --systems\n"
    assert not any(tmp_path.iterdir())


def test_table_and_drawing(script, tmp_path):
    rate = {"rate": 0.5, "low": 0.4, "high": 0.61, "n": 50}
    row = {
        "task": "two_room", "row": "PLDM", "success": {"25": rate}, "seconds_per_plan": 0.1234, "probe_r2": 0.987,
        "teleport_auc": None, "parameters": 1234567, "windows_per_second": 321.4,
    }  # fmt: skip
    lines = script.table([row], ["25"]).splitlines()
    assert lines[2] == "| two_room | PLDM | 50 (40-61) | 0.123 | 0.99 |  | 1,234,567 | 321 |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    script.draw(tmp_path / "a.png", [row, row | {"row": "LeWM"}], ["25"])
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_cell_may_show_each_training_seed(script):
    found = {"rate": 0.94, "low": 0.875, "high": 0.972, "n": 100, "per_seed": [1.0, 0.88]}
    assert script.rate_cell(found) == script.rate_cell(found | {"per_seed": [0.94]}, seeds=True) == "94 (88-97)"
    assert script.rate_cell(found, seeds=True) == "94 (88-97; 100, 88)"


def test_a_row_is_compared_with_plain_lewm_on_the_same_problems(script):
    better, plain = [True] * 10 + [False] * 10, [True] * 2 + [False] * 18
    found = script.against(better, plain)
    # Eight fair coins that fall alike.
    assert found["p"] == pytest.approx(2 * 0.5**8)
    assert found["difference"] == pytest.approx(0.4)
    assert found["low"] < 0.4 < found["high"]
    row = {
        "task": "push_t", "row": "PLDM", "success": {"25": {"rate": 0.5, "low": 0.3, "high": 0.7, "against": found}},
        "seconds_per_plan": 0.1, "probe_r2": None, "teleport_auc": None, "parameters": 1, "windows_per_second": 1,
    }  # fmt: skip
    assert "| 50* (30-70) | - |" in script.table([row], ["25", "50"])
    row["success"]["25"]["against"] = script.against(plain[:3] + better[3:], better)
    assert "| 50 (30-70) |" in script.table([row], ["25"])


def test_two_commands_for_two_tasks_end_in_one_table(script, tmp_path, monkeypatch):
    rate = {"rate": 0.5, "low": 0.4, "high": 0.61, "n": 50}
    found = {
        "row": "LeWM", "seconds_per_plan": 0.1, "probe_r2": 0.9, "teleport_auc": 0.5, "parameters": 10,
        "windows_per_second": 10.0,
    }  # fmt: skip
    rows = {"two_room": found | {"success": {"25": rate}}, "push_t": found | {"success": {"25": rate, "100": rate}}}
    monkeypatch.setattr(script, "compare_task", lambda task, arguments: [{"task": task} | rows[task]])
    for task in ("push_t", "two_room"):
        (tmp_path / task).mkdir()
        assert script.main([task, "--out", str(tmp_path)]) == 0
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| two_room", "| push_t"]
    assert "goals 100" in lines[0] and "goals 50" not in lines[0]
    assert (tmp_path / "comparison.png").stat().st_size > 1000


def test_what_was_measured_on_other_pairs_is_not_taken_for_these(script, tmp_path):
    held = ROOT / "model_cards" / "lewm-tworoom-mini" / "evaluation" / "clean-actor"  # seeds 42, 43, 44, 100 pairs each
    assert len(script.act(tmp_path, None, held, "25", 100, [42, 43, 44], {})["outcomes"]) == 300
    with pytest.raises(ValueError, match=r"holds .*\(42, 100\).*, not of \[\(42, 50\)\]: give another --out"):
        script.act(tmp_path, None, held, "25", 50, [42], {})
