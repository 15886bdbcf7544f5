"""eval/reproduce.sh names commands that exist, and what they write is found again."""

import json
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from lewm_cli import parser
from lewm_hf.evaluation.report.analyses import find_analyses
from lewm_hf.training.arguments import parse_recipe
from lewm_hf.training.decoder_arguments import parse_decoder_recipe

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"


def reproduce(*arguments: str, **environment) -> subprocess.CompletedProcess:
    command = ["bash", "eval/reproduce.sh", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"} | environment
    )


PARSER = parser()
NAMES = [line.split()[0] for line in reproduce().stdout.splitlines()]


def test_every_table_and_figure_has_commands():
    assert {"table1", "table3", "table4", "table10", "fig6", "fig7", "fig16", "fig17", "voe"} <= set(NAMES)
    wrong = reproduce("table2")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: there is no table2: use one of table1")


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_understood(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    listed = reproduce(name, RUNS="/data/runs").stdout.splitlines()
    commands = [shlex.split(line) for line in listed if not line.startswith("#")]
    assert commands
    verbs = next(action for action in PARSER._actions if action.dest == "verb").choices
    for command in commands:
        match command:
            case ["lewm", verb, *rest]:
                assert verb in verbs
                PARSER.parse_args([verb, *rest])
            case ["accelerate", "launch", "training/train.py", *rest]:
                recipe, _ = parse_recipe(rest)
                assert recipe.dataset.startswith("/data/runs/episodes/")
            case ["accelerate", "launch", "training/train_decoder.py", *rest]:
                assert parse_decoder_recipe(rest).model.startswith("/data/runs/")
            case ["python", script, *_]:
                assert (ROOT / script).is_file()
            case _:
                pytest.fail(f"what is {command}?")


def test_run_runs_and_stops_at_the_first_failure(tmp_path):
    shim = tmp_path / "lewm"
    shim.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/log\n[ "$1" != probe ]\n')
    shim.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRAIN": "echo", "RUNS": str(tmp_path)}
    done = reproduce("table3", "--run", **environment)
    assert done.returncode != 0
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == ["collect", "probe"]


def test_what_another_table_has_trained_is_continued(tmp_path):
    """fig17 and table1 share the PushT model."""
    for name in ("lewm", "train", "python"):
        shim = tmp_path / name
        shim.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/log\n')
        shim.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRAIN": "train", "RUNS": str(tmp_path)}
    assert reproduce("fig17", "--run", **environment).returncode == 0
    (tmp_path / "push_t").mkdir()
    (tmp_path / "push_t" / "recipe.yaml").touch()
    assert reproduce("table1", "--run", **environment).returncode == 0
    trained = [line for line in (tmp_path / "log").read_text().splitlines() if "recipes/pusht.yaml" in line]
    assert [line.endswith("--resume") for line in trained] == [False, True]
    wrong = reproduce("table1", "--rn")
    assert wrong.returncode == 2 and wrong.stderr == "error: what is --rn? Leave it out, or give --run\n"


def test_success_table(tmp_path):
    shipped = json.loads((CARDS / "lewm-tworoom-mini/evaluation/clean-goal-time-small/results.json").read_text())

    def write(name: str, rate: float, protocol: str = "paper"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        result = shipped | {
            "protocol": {"hash": protocol, "label": f"{protocol}-v3"},
            "success": shipped["success"] | {"rate": rate, "n": 50},
            "floors": {"random": shipped["floors"]["random"] | {"rate": 0.1}},
        }
        (folder / "results.json").write_text(json.dumps(result))

    rows = runpy.run_path(str(ROOT / "eval" / "success_table.py"))["rows"]
    for seed, rate in enumerate((0.94, 0.98, 0.96)):
        write(f"a/seed-{seed}", rate)
    write("b/seed-0", 0.5)
    lines = rows([tmp_path / "a", tmp_path / "b"])
    assert lines[2].split() == ["a", "96.00", "±", "1.63", "10.0", "+86.0", "150", "3"]
    assert lines[3].split() == ["b", "50.00", "±", "0.00", "10.0", "+40.0", "50", "1"]
    write("c/seed-0", 0.5, "clean")
    with pytest.raises(ValueError, match="different protocols"):
        rows([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(FileNotFoundError, match=r"no results\.json"):
        rows([tmp_path / "none"])


def test_analyses_are_found_below_a_run(tmp_path):
    assert find_analyses(tmp_path) == []
    folder = tmp_path / "run" / "decode"
    (folder / "strips").mkdir(parents=True)
    errors = {name: [0.001, 0.01] for name in ("mse", "mae", "mse_low", "mse_high")} | {"psnr": [30.0, 20.0]}
    result = json.loads((CARDS / "lewm-tworoom-mini-decoder/evaluation/decode.json").read_text())
    result["settings"] |= {"steps": [0, 5], "stretches": 4, "context": 3}
    result["errors"] = dict.fromkeys(result["errors"], errors)
    (folder / "decode.json").write_text(json.dumps(result))
    for name in ("decode.png", "strips/01-b.png", "strips/00-a.png"):
        (folder / name).touch()
    (tmp_path / "probe.json").write_text('{"format": 1, "kind": "something else"}')
    (found,) = find_analyses(tmp_path)
    assert (found.kind, found.path) == ("decode", folder / "decode.json")
    assert [picture.name for picture in found.pictures] == ["decode.png", "00-a.png", "01-b.png"]
    assert "imagined" in found.text and "20.0 (0.01000)" in found.text
    (tmp_path / "health.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="run `lewm health` again"):
        find_analyses(tmp_path)
