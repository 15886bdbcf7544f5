import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

from lewm_hf.cli import demo, main
from lewm_hf.cli.demo import run_demo

TINY = {
    "episodes": 60,
    "test_fraction": 0.5,
    "pairs": 3,
    "videos": 1,
    "workers": 1,
    "progress": False,
    "eval_overrides": {"samples": 8, "iterations": 1, "elites": 2},
    "train_overrides": {
        "max_steps": 3, "batch_size": 8, "eval_every": 3, "eval_pairs": 0, "eval_batches": 1, "num_workers": 0,
        "recalibration_batches": 1, "log_every": 1, "tracker": "none", "precision": "fp32", "image_size": 32,
        "patch_size": 16, "encoder_hidden_size": 24, "encoder_layers": 1, "predictor_hidden_size": 24,
        "predictor_layers": 1, "embed_dim": 8, "projector_hidden_size": 32, "sigreg_projections": 32,
    },
}  # fmt: skip


def here(command: list[str]) -> int:
    """Runs the command of the training in this process, which has imported everything already."""
    assert command[:3] == [sys.executable, "-m", "lewm_hf.cli"]
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    try:
        return main(command[3:])
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_run", here)
        assert run_demo(out, **TINY) == out / "report" / "index.html"
    return out


def test_the_training_is_a_process_whose_status_counts():
    assert demo._run([sys.executable, "-c", "import sys; sys.exit(sys.argv[1:] != ['train'])", "train"]) == 0
    assert demo._run([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_the_demo_ends_with_a_report_about_both_protocols(done):
    page = (done / "report" / "index.html").read_text()
    for protocol in ("paper", "clean"):
        result = json.loads((done / "report" / protocol / "results.json").read_text())
        assert result["protocol"]["name"] == protocol
        assert result["dataset"]["split"] == "test"
        assert result["success"]["n"] == 3
        assert result["model"]["trained_on"] == "lewm/TwoRoom-v0"
        assert result["planner"]["samples"] == 8
        assert len(list((done / "report" / protocol / "videos").glob("*.gif"))) in (1, 2)
        assert f"{protocol}-v" in page
    assert page.count("data:image/gif") == sum(1 for _ in (done / "report").rglob("*.gif"))
    assert "Prediction loss" in page
    assert "lewm collect two_room --episodes 60" in page and "lewm train tworoom-mini" in page


def test_finished_stages_are_left_out(done, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file() and path.suffix != ".html"}

    def refuse(*args, **kwargs):
        raise AssertionError("a finished stage ran again")

    monkeypatch.setattr(demo, "_run", refuse)
    monkeypatch.setattr(demo, "evaluate", refuse)
    run_demo(done, **TINY)
    after = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file() and path.suffix != ".html"}
    assert before == after


def test_other_settings_never_mix_with_a_finished_demo(done, monkeypatch):
    with pytest.raises(ValueError, match="episodes=60, not 61"):
        run_demo(done, **TINY | {"episodes": 61})
    changed = TINY["train_overrides"] | {"learning_rate": 0.5}
    with pytest.raises(ValueError, match="run with other settings"):
        run_demo(done, **TINY | {"train_overrides": changed})
    # What only the evaluation depends on is evaluated again.
    seen = []
    monkeypatch.setattr(demo, "evaluate", lambda *args, **kwargs: seen.append(kwargs["n"]) or sys.exit(9))
    with pytest.raises(SystemExit):
        run_demo(done, **TINY | {"pairs": 2})
    assert seen == [2]


def test_an_interrupted_training_is_resumed(done, tmp_path, monkeypatch):
    out = tmp_path / "demo"
    shutil.copytree(done, out)
    stamp = json.loads((out / "training.json").read_text())
    (out / "training.json").write_text(json.dumps(stamp | {"finished": False}))
    commands = []

    monkeypatch.setattr(demo, "_run", lambda command: commands.append(command) or 0)
    run_demo(out, **TINY)
    (command,) = commands
    assert command[0] == sys.executable and command[-1] == "--resume"
    assert command[command.index("--output_dir") + 1] == str(out / "run")
    assert json.loads((out / "training.json").read_text())["finished"]


def test_a_failed_training_ends_the_demo_with_its_status(done, tmp_path, monkeypatch):
    out = tmp_path / "demo"
    shutil.copytree(done / "episodes", out / "episodes")
    monkeypatch.setattr(demo, "_run", lambda command: 2)
    with pytest.raises(SystemExit) as stop:
        run_demo(out, **TINY)
    assert stop.value.code == 2
    assert not (out / "report").exists()


def test_too_few_held_out_pairs_show_before_the_training(done, monkeypatch):
    monkeypatch.setattr(demo, "_run", lambda command: pytest.fail("the training began"))
    with pytest.raises(ValueError, match="but n=31 were asked for"):
        run_demo(done, **TINY | {"pairs": 31})


def test_bad_arguments_are_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "demo"
    for changes, message in (
        ({"checkpoint": "middle"}, "checkpoint='middle'"),
        ({"eval_overrides": {"sample": 3}}, "unknown key 'sample'"),
        ({"recipe": tmp_path / "none.yaml"}, "no recipe"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            run_demo(out, **TINY | changes)
    assert not out.exists()


def test_progress_is_visible(tmp_path, caplog, capfd):
    with caplog.at_level(logging.INFO, "lewm_hf.cli.demo"), pytest.raises(ValueError, match="n=50 were asked for"):
        run_demo(tmp_path / "demo", episodes=2, test_fraction=0.5, pairs=50, workers=1)
    assert "1/4  collecting 2 TwoRoom episodes at 64 px" in caplog.text
    assert "episodes: 100%" in capfd.readouterr().err


def test_ctrl_c_waits_for_the_training_to_save(monkeypatch):
    waits = []

    class Process:
        def wait(self):
            waits.append(1)
            if len(waits) == 1:
                raise KeyboardInterrupt
            return 130

    monkeypatch.setattr(demo.subprocess, "Popen", lambda command: Process())
    assert demo._run(["train"]) == 130
    assert len(waits) == 2
