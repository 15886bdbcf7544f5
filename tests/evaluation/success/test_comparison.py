"""Two evaluations on the same pairs, against statsmodels and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference

from lewm_hf.cli import main
from lewm_hf.evaluation.common.results import EpisodeRow, read_rows, rows_hash, score, write_result, write_rows
from lewm_hf.evaluation.report.analyses import find_analyses
from lewm_hf.evaluation.success.comparison import ComparisonResult, compare, format_comparison

SHIPPED = Path(__file__).parents[3] / "model_cards/lewm-tworoom-mini/evaluation/clean-goal-time-small"


def write_evaluation(folder, outcomes, *, pairs="pairs", samples=300, model="a", distance=1.0):
    """What `evaluate(out=...)` leaves, for given outcomes `{seed: [success, ...]}`."""
    rows = [
        EpisodeRow(
            seed=seed, pair=index, episode=index, start=0, goal_step=25, success=bool(success),
            first_success_step=10 if success else None, solved_at_start=False, steps=50, final_distance=distance,
            replans=2, random_success=False, zero_action_success=False, wall_time=0.1,
        )
        for seed, part in outcomes.items() for index, success in enumerate(part)
    ]  # fmt: skip
    sources = {"first_frame": "stored", "goal_frame": "stored"}
    protocol = {"name": "clean", "label": "clean-v1", "hash": "h", "overrides": {}, "pairs": 100}
    shipped = json.loads((SHIPPED / "results.json").read_text())
    planner = {"name": "paper", "label": "paper-v1", "hash": f"p{samples}", "overrides": {}, "samples": samples}
    result = {
        **shipped, "protocol": protocol | {"seeds": list(outcomes)} | sources, "dataset": shipped["dataset"] | sources,
        "planner": planner, "policy": "planner",
        "env": shipped["env"] | {"kwargs": {"image_size": 64}}, "rows_hash": rows_hash(rows), **score(rows),
        "pairs": "given", "films": "decoded", "model": shipped["model"] | {"source": model, "fingerprint": model},
        "versions": {"torch": "2"}, "hardware": {"device_name": "x"},
        "manifests": [
            {"seed": seed, "n": len(part), "hash": f"{pairs}{seed}", "counts": {}} for seed, part in outcomes.items()
        ],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "episodes.jsonl", rows)
    write_result(folder / "results.json", result)
    return folder


@pytest.mark.parametrize("seed", range(5))
def test_the_test_is_statsmodels_and_the_counts_are_right(tmp_path, seed):
    rng = np.random.default_rng(seed)
    first = {s: rng.random(40) < 0.8 for s in (1, 2)}
    second = {s: rng.random(40) < 0.6 for s in (1, 2)}
    a, b = write_evaluation(tmp_path / "a", first), write_evaluation(tmp_path / "b", second)
    result = compare(a, b)
    x, y = np.concatenate(list(first.values())), np.concatenate(list(second.values()))
    table = [[(x & y).sum(), (x & ~y).sum()], [(~x & y).sum(), (~x & ~y).sum()]]
    assert result["mcnemar"]["p_value"] == pytest.approx(reference(table, exact=True).pvalue)
    assert result["mcnemar"]["difference"] == pytest.approx(x.mean() - y.mean())
    low, high = result["difference_interval"]
    # The textbook interval of a paired mean, which Newcombe's approaches.
    half = 1.96 * (x.astype(float) - y).std(ddof=1) / np.sqrt(len(x))
    assert low == pytest.approx(x.mean() - y.mean() - half, abs=0.03)
    assert high == pytest.approx(x.mean() - y.mean() + half, abs=0.03)
    for entry in result["per_seed"]:
        assert entry["mcnemar"]["difference"] == pytest.approx(
            first[entry["seed"]].mean() - second[entry["seed"]].mean()
        )


def test_runs_that_took_their_seeds_in_another_order_are_paired_by_problem(tmp_path):
    one, two = [1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0]
    a = write_evaluation(tmp_path / "a", {1: one, 2: two})
    b = write_evaluation(tmp_path / "b", {2: two, 1: one})
    test = compare(a, b)["mcnemar"]
    assert (test["both"], test["only_first"], test["only_second"], test["neither"]) == (5, 0, 0, 7)


def test_text_file_and_command(tmp_path, capsys):
    a = write_evaluation(tmp_path / "a", {1: [1, 1, 1, 0]}, model="new")
    b = write_evaluation(tmp_path / "b", {1: [1, 0, 0, 0]}, model="old", samples=100)
    assert main(["compare", str(a), str(b), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for words in (
        "lewm/TwoRoom-v0, 4 pairs", "new", "75.0 %", "old", "25.0 %", "difference +50.0 points", "McNemar p = 0.5",
        "both 1, only the first 2, only the second 0, neither 1", "besides the model: planner samples 300 and 100",
    ):  # fmt: skip
        assert words in text
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert format_comparison(ComparisonResult.from_json(written)) in text
    (found,) = find_analyses(tmp_path / "out")
    assert found.kind == "compare" and found.text in text
    assert compare(a, b)["hash"] == written["hash"] != compare(b, a)["hash"]
    # The same model twice is told apart by its folders.
    assert "new (a)" in format_comparison(compare(a, a))


def test_the_same_outcomes_are_said_whatever_rounding_did(tmp_path):
    outcomes = {1: [1, 0, 1], 2: [0, 1, 1]}
    a = write_evaluation(tmp_path / "a", outcomes)
    rounded = write_evaluation(tmp_path / "b", dict(reversed(outcomes.items())), distance=1 + 1e-12)
    other = write_evaluation(tmp_path / "c", {1: [1, 1, 0], 2: [0, 1, 1]})
    same, differs = compare(a, rounded), compare(a, other)
    assert len({run.rows_hash for run in same.runs}) == 2 and len({run.outcomes_hash for run in same.runs}) == 1
    assert "on every pair the same success, after as many steps" in format_comparison(same)
    assert same.first.rate == differs.second.rate and "the same success" not in format_comparison(differs)


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    a = write_evaluation(tmp_path / "a", {1: [1, 0], 2: [1, 0]})
    other_pairs = write_evaluation(tmp_path / "b", {1: [1, 0], 2: [1, 0]}, pairs="others")
    other_seeds = write_evaluation(tmp_path / "c", {1: [1, 0], 3: [1, 0]})
    mixed = write_evaluation(tmp_path / "d", {1: [1, 0], 2: [1, 0]})
    write_rows(mixed / "episodes.jsonl", read_rows(mixed)[:3])
    for folder, message in (
        (other_pairs, "ran different pairs for seed 1"),
        (other_seeds, "has seeds 1, 2 and"),
        (mixed, "episodes.jsonl does not belong to results.json"),
        (tmp_path / "none", "results.json"),
    ):
        capsys.readouterr()
        assert main(["compare", str(a), str(folder), "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
    assert not (tmp_path / "out").exists()
    (mixed / "episodes.jsonl").write_text('{"seed": 1}\n')
    with pytest.raises(ValueError, match="line 1, is not an episode"):
        compare(a, mixed)
