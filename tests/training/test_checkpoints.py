import json
import multiprocessing
import os
import signal

import pytest
from forks import run

from lewm_hf.training import checkpoints
from lewm_hf.training.checkpoints import RunDirectory


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.check_new()
    run.start({"seed": 1})
    with pytest.raises(ValueError, match="already holds a run: add --resume"):
        run.check_new()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    with pytest.raises(ValueError, match="not empty"):
        RunDirectory(tmp_path / "photos").check_new()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"output_dir=.*/file/run: .*/file is a file: give a folder"):
        RunDirectory(tmp_path / "file" / "run").check_new()
    with pytest.raises(ValueError, match="is a file"):
        RunDirectory(tmp_path / "photos" / "a.jpg").check_new()


def test_a_place_where_nothing_may_be_made_is_refused_before_any_work():
    def other(told):
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            RunDirectory("/a/run").check_new()
        except OSError as error:
            told.send(str(error))
        told.close()

    told, telling = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=other, args=(telling,))
    process.start()
    telling.close()
    assert told.recv() == "output_dir=/a/run: / may not be written to: give another folder"
    process.join()


def test_a_run_that_was_killed_while_it_began_begins_anew_in_the_same_folder(tmp_path):
    """SIGKILL where the recipe is about to get its name."""
    folder = tmp_path / "run"
    code = (
        "import os, signal, sys; from lewm_hf.training.checkpoints import RunDirectory; "
        "sys.addaudithook(lambda event, _: event == 'os.rename' and os.kill(os.getpid(), signal.SIGKILL)); "
        "RunDirectory(sys.argv[1]).start({'seed': 1})"
    )
    (tmp_path / "begin.py").write_text(code)
    assert run(["python", tmp_path / "begin.py", folder]).returncode == -signal.SIGKILL
    assert [path.name.split(".")[1] for path in folder.iterdir() if path.suffix == ".tmp"] == ["recipe"]
    again = RunDirectory(folder)
    again.check_new()
    again.start({"seed": 1})
    assert {path.name for path in folder.iterdir()} == {"recipe.yaml", ".lock"}
    (folder / "recipe.yaml").rename(folder / "mine.yaml")
    with pytest.raises(ValueError, match="not empty"):
        RunDirectory(folder).check_new()


def test_resuming_with_other_values_names_the_key(tmp_path):
    run = RunDirectory(tmp_path / "run")
    values, facts = {"seed": 1, "learning_rate": 5e-5, "log_every": 10, "max_steps": None}, {"num_processes": 2}
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        run.check_resumable(values, facts)
    run.start(values)
    run.check_resumable(values | {"log_every": 3}, facts)
    with pytest.raises(ValueError, match="learning_rate=0.001: it was started with learning_rate=5e-05"):
        run.check_resumable(values | {"learning_rate": 1e-3}, facts)
    with pytest.raises(ValueError, match="max_steps=9"):
        run.check_resumable(values | {"max_steps": 9}, facts)
    run.check_resumable(values, {"num_processes": 1})  # nothing is saved yet that would depend on it
    run.state.mkdir()
    run.save_progress({"step": 3, "evaluated": 0, "best": None, "last": None, "seconds": 1.0, "num_processes": 2})
    with pytest.raises(ValueError, match="num_processes=1: it was started with num_processes=2; launch 2 "):
        run.check_resumable(values, {"num_processes": 1})


def test_a_disk_without_room_is_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "free_bytes", lambda path: 70 * 2**20)
    with pytest.raises(OSError, match="70 MiB free, but the checkpoints of this run take 80 MiB"):
        RunDirectory(tmp_path / "run").check_room(10 * 2**20)
    assert not (tmp_path / "run").exists()


def test_metrics_after_the_saved_step_are_forgotten(tmp_path):
    run = RunDirectory(tmp_path)
    for record in (
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 1.0},
        {"step": 2, "eval/success": 0.5},
        {"step": 4, "loss": 1.0},
        {"step": 4, "eval/success": 0.6},
        {"step": 5, "loss": 1.0},
    ):
        run.log(record)
    with run.metrics.open("a") as file:
        file.write('{"step": 6, "lo')
    run.truncate_metrics(step=4, evaluated=2)
    kept = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [(record["step"], "loss" in record) for record in kept] == [(1, True), (2, True), (2, False), (4, True)]
