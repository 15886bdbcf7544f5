"""The planning benchmark on a tiny model: its baseline computes the same, its table is whole, bad input is one line."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lewm_hf.planning import PlanSettings


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "eval"))
    return import_module("bench_planning"), import_module("reference_planner")


@torch.no_grad()
def test_the_baseline_imagines_and_finds_what_the_planner_does(scripts, tiny_model):
    _, reference = scripts
    frames, goal, plans = torch.randn(2, 1, 16), torch.randn(2, 16), torch.randn(2, 3, 6, 10)
    torch.testing.assert_close(
        reference.rollout(tiny_model, frames, plans), tiny_model.rollout(frames, plans), rtol=1e-5, atol=1e-5
    )
    blocks = reference.plan(tiny_model, frames, goal, PlanSettings.of(samples=64, iterations=6, elites=8))

    def cost(blocks):
        return (tiny_model.rollout(frames, blocks[:, None])[:, 0, -1] - goal).square().sum(-1)

    assert (cost(blocks) < cost(torch.zeros_like(blocks))).all()


def test_counts_the_roll_outs_of_a_plan(scripts, tiny_model):
    bench, _ = scripts
    context, goal = torch.zeros(1, 1, 16), torch.zeros(1, 16)
    search = PlanSettings.of(samples=20, iterations=3, elites=4)
    assert bench.roll_outs(tiny_model, context, goal, search) == 20 * 3 + 1  # and the plan itself
    search = PlanSettings.of(solver="gradient", samples=4, iterations=5)
    assert bench.roll_outs(tiny_model, context, goal, search) >= 4 * 5 * 3


def test_counts_the_operations_of_the_search_it_times(scripts, tiny_model):
    bench, reference = scripts
    tiny_model.eval()
    context, threads = torch.zeros(1, 1, 16), torch.get_num_threads()
    totals = [count * bench.candidate_flops(tiny_model, context, 5, count) for count in (64, 128, 192)]
    assert totals[2] - totals[1] == totals[1] - totals[0] > 0  # what candidates share is counted once
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        reference.rollout(tiny_model, context, torch.zeros(1, 64, 5, 10))
    assert 0.1 < totals[0] / counter.get_total_flops() < 0.8
    assert torch.get_num_threads() == threads


def test_writes_a_row_for_every_case(scripts, tiny_model, tmp_path, capsys):
    bench, _ = scripts
    tiny_model.save_pretrained(tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--device", "cpu", "--searches", "8x2", "12x1", "--repeats", "1"]
    arguments += ["--solvers", "cem", "icem", "--problems", "1", "2", "--variants", "fp32"]
    assert bench.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "planning.json").read_text())
    assert len(result["rows"]) == 8 and (tmp_path / "out" / "planning.png").stat().st_size > 1000
    assert result["processor"] and result["largest_difference"] < 1e-5
    for row in result["rows"]:
        assert row["ratio"] == pytest.approx(row["against_ms_per_plan"] / row["ms_per_plan"])
        assert 0 < row["share_of_peak"] < 1
    assert capsys.readouterr().out.count("\n| ") == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--searches", "300"], "search '300' is not SAMPLESxITERATIONS"),
        (["--searches", "1x30"], "elites=2 exceeds samples=1"),
        (["--variants", "int8"], "variant 'int8' is unknown"),
        (["--against", "json:nothing"], "give MODULE:CALLABLE"),
        (["--against", "json:__name__"], "give a function"),
    ],
)
def test_bad_input_is_one_line(scripts, arguments, message, capsys):
    assert scripts[0].main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
