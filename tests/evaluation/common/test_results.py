import json

import numpy as np
import pytest
from scipy.stats import binomtest

from lewm_hf.evaluation.common.results import EpisodeRow, outcomes_hash, read_result, rows_hash, score, write_rows


def row(**values) -> EpisodeRow:
    defaults = {
        "seed": 42, "pair": 0, "episode": 1, "start": 2, "goal_step": 27, "success": False, "first_success_step": None,
        "solved_at_start": False, "steps": 50, "final_distance": 3.5, "replans": 2, "random_success": False,
        "zero_action_success": False, "wall_time": 0.1,
    }  # fmt: skip
    return EpisodeRow(**defaults | values)


def random_rows(count: int, seed: int = 0) -> list[EpisodeRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        success = bool(rng.random() < 0.7)
        rows.append(
            row(
                seed=42 + index % 2,
                pair=index,
                success=success,
                first_success_step=int(rng.integers(1, 51)) if success else None,
                solved_at_start=bool(rng.random() < 0.1),
                random_success=bool(rng.random() < 0.3),
                zero_action_success=bool(rng.random() < 0.1),
            )
        )
    return rows


def test_scores_follow_from_the_rows():
    rows = random_rows(80)
    result = score(rows)
    successes = sum(one.success for one in rows)
    interval = binomtest(successes, 80).proportion_ci(method="wilson")
    assert (result["success"]["n"], result["success"]["successes"]) == (80, successes)
    assert result["success"]["interval"] == pytest.approx([interval.low, interval.high])
    assert result["floors"]["random"]["successes"] == sum(one.random_success for one in rows)
    assert result["excess"]["zero_action"] == pytest.approx(
        successes / 80 - sum(one.zero_action_success for one in rows) / 80
    )
    assert result["solved_at_start"]["share"] == np.mean([one.solved_at_start for one in rows])
    assert result["mean_steps_to_success"] == np.mean([one.first_success_step for one in rows if one.success])
    gained = sum(one.success and not one.random_success for one in rows)
    lost = sum(one.random_success and not one.success for one in rows)
    assert result["mcnemar_against_random"]["p_value"] == pytest.approx(binomtest(gained, gained + lost).pvalue)
    assert [entry["seed"] for entry in result["per_seed"]] == [42, 43]
    for entry in result["per_seed"]:
        of_seed = [one for one in rows if one.seed == entry["seed"]]
        assert entry["rate"] == np.mean([one.success for one in of_seed])
        assert entry["random_rate"] == np.mean([one.random_success for one in of_seed])


def test_without_floors_nothing_is_claimed_about_them():
    result = score([row(random_success=None, zero_action_success=None)])
    assert result["floors"] == result["excess"] == {}
    assert "mcnemar_against_random" not in result
    assert result["mean_steps_to_success"] is None


def test_the_hash_of_rows_leaves_wall_times_out_and_nothing_else():
    assert rows_hash([row(wall_time=1.0)]) == rows_hash([row(wall_time=2.0)])
    for change in ({"success": True}, {"final_distance": 3.50001}, {"first_success_step": 3}, {"seed": 1}):
        assert rows_hash([row(**change)]) != rows_hash([row()])


def test_the_hash_of_outcomes_leaves_out_what_rounding_changes():
    for change in ({"final_distance": 3.50001}, {"final_distance": None}, {"wall_time": 2.0}, {"random_success": None}):
        assert outcomes_hash([row(**change)]) == outcomes_hash([row()])
    for change in ({"success": True}, {"first_success_step": 3}, {"seed": 1}, {"start": 7}, {"steps": 49}):
        assert outcomes_hash([row(**change)]) != outcomes_hash([row()])
    rows = random_rows(8)
    assert outcomes_hash(rows) == outcomes_hash(rows[::-1]) != outcomes_hash(rows[1:])


def test_rows_are_one_json_object_a_line(tmp_path):
    rows = random_rows(5)
    path = write_rows(tmp_path / "new" / "episodes.jsonl", rows)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [vars(one) for one in rows]
    assert [entry.name for entry in path.parent.iterdir()] == ["episodes.jsonl"]


def test_damaged_results_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_result(tmp_path)
    for text, message in (
        ("{", "not valid JSON"),
        ('{"format": 9}', "has format 9"),
        ("[]", "holds a list instead of an object"),
    ):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_result(tmp_path)
