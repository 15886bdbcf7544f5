"""Success over candidates: every point is measured once, counted as the solver asks, and found again."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.planning.solvers import make_solver, solver_names


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "eval"))
    return import_module("solver_curves")


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    changes = {"action_mean": [0.0, 0.0], "action_std": [0.6, 0.6], "actor_weight": 0.5}
    LeWMModel(LeWMConfig(**(tiny_config.to_dict() | changes))).save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "training.json").write_text(json.dumps({"env_id": "lewm/TwoRoom-v0", "env_kwargs": {}}))
    return tmp_path / "model"


def test_candidates_are_counted_and_near_what_was_asked(script):
    assert script.rollouts(make_solver("cem", samples=20, iterations=4, elites=3)) == 80
    assert script.rollouts(make_solver("hybrid", samples=20, iterations=2, elites=8, refined=3, gradient_steps=5)) == (
        20 * 2 + (3 + 1) * (5 + 1)
    )
    for name in [name for name in solver_names() if name != "keep"]:  # which draws no candidates
        for samples, iterations in ((16, 2), (100, 8), (300, 30)):
            asked = script.rollouts(make_solver(name, **script.settings_of(name, samples, iterations)))
            assert 0.1 < asked / (samples * iterations) < 2, name


def test_points_are_measured_once_and_drawn(script, checkpoint, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = [str(checkpoint), "--out", str(out), "--solvers", "cem", "-n", "2", "--seeds", "42"]
    assert script.main([*command, "--points", "4x1"]) == 0, capsys.readouterr().err
    measured = []
    evaluate = script.evaluate
    monkeypatch.setattr(script, "evaluate", lambda *a, **k: measured.append(k["out"].name) or evaluate(*a, **k))
    assert script.main([*command, "--points", "8x1", "4x1"]) == 0, capsys.readouterr().err
    assert sorted(measured) == ["cem-actor-8", "cem-none-8"]
    points = json.loads((out / "curves.json").read_text())["points"]
    assert [(p["solver"], p["proposal"], p["rollouts"]) for p in points] == [
        ("cem", "none", 4), ("cem", "actor", 4), ("cem", "none", 8), ("cem", "actor", 8),
    ]  # fmt: skip
    assert all(p["success"]["n"] == 2 and p["seconds_per_plan"] > 0 for p in points)
    assert (out / "model.png").stat().st_size > 1000
    assert script.main([*command[:-4], "-n", "3", "--seeds", "42", "--points", "4x1"]) == 2
    assert "holds an evaluation of" in capsys.readouterr().err


def test_table_10_compares_optimizers_on_the_same_pairs(script, checkpoint, tmp_path, monkeypatch, capsys):
    for changes in script.TABLE_10.values():
        monkeypatch.setitem(changes, "samples", 4)
        monkeypatch.setitem(changes, "iterations", 2)
    monkeypatch.setitem(script.TABLE_10["CEM"], "elites", 2)
    out = tmp_path / "out"
    assert script.main([str(checkpoint), "--table10", "--out", str(out), "-n", "2", "--seeds", "42", "43"]) == 0
    assert capsys.readouterr().out.count("| SGD |") == 1
    hashes = set()
    for name in ("cem", "sgd", "rmsprop", "adam"):
        result = json.loads((out / "model" / f"table10-{name}" / "results.json").read_text())
        assert result["planner"]["optimizer" if name != "cem" else "solver"] == name
        hashes.add(tuple(one["hash"] for one in result["manifests"]))
    assert len(hashes) == 1
    assert (out / "table10.md").read_text().splitlines()[0] == "|  | model |"


@pytest.mark.parametrize("point", ["300", "1x30", "0x0", "tenxten"])
def test_bad_points_are_one_line(script, checkpoint, tmp_path, point, capsys):
    assert script.main([str(checkpoint), "--out", str(tmp_path / "out"), "--points", point]) == 2
    error = capsys.readouterr().err
    assert f"point '{point}' is not SAMPLESxITERATIONS" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_solver_is_left_out_where_there_are_more_than_colors(script, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda *args, **kwargs: drawn.append(kwargs.get("label")) or plot(*args, **kwargs)
    )
    names = [f"solver {number}" for number in range(len(script.COLORS) + 2)]
    success = {"rate": 0.5, "interval": [0.4, 0.6]}
    points = [{"solver": name, "proposal": None, "rollouts": 10, "success": success} for name in names]
    script.draw(tmp_path / "all.png", points)
    assert sorted(drawn) == sorted(names) and (tmp_path / "all.png").is_file()
