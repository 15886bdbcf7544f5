import json
import os

import pytest

from lewm_hf.training import checkpoints, staging
from lewm_hf.training.checkpoints import RunDirectory
from lewm_hf.training.staging import publish, recover, staged_directory


def test_a_folder_is_replaced_only_when_complete(tmp_path):
    target = tmp_path / "last"
    with staged_directory(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with staged_directory(target) as folder:
        (folder / "a").write_text("2")
        assert (target / "a").read_text() == "1"
    assert (target / "a").read_text() == "2"
    assert os.listdir(tmp_path) == ["last"]


def test_a_failed_write_leaves_the_previous_folder_and_one_line(tmp_path):
    target = tmp_path / "last"
    with staged_directory(target) as folder:
        (folder / "a").write_text("1")
    with (
        pytest.raises(OSError, match="cannot write .*last .*No space left.* MiB are free") as error,
        staged_directory(target) as folder,
    ):
        (folder / "a").write_text("half")
        raise OSError(28, "No space left on device")
    assert "\n" not in str(error.value)
    assert (target / "a").read_text() == "1"
    assert os.listdir(tmp_path) == ["last"]


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_a_kill_at_any_moment_of_publishing_leaves_one_complete_folder(tmp_path, monkeypatch, killed_after):
    target = tmp_path / "state"
    target.mkdir()
    (target / "a").write_text("old")
    staged = tmp_path / ".state.new"
    staged.mkdir()
    (staged / "a").write_text("new")
    calls = iter(range(10))
    rename = os.rename

    def dying_rename(source, destination):
        if next(calls) == killed_after:
            raise KeyboardInterrupt
        rename(source, destination)

    monkeypatch.setattr(staging.os, "rename", dying_rename)
    if killed_after < 2:
        with pytest.raises(KeyboardInterrupt):
            publish(target)
    else:
        publish(target)
    monkeypatch.setattr(staging.os, "rename", rename)
    recover(target)
    assert (target / "a").read_text() == ("new" if killed_after == 2 else "old")
    assert os.listdir(tmp_path) == ["state"]


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
    with pytest.raises(ValueError, match="is a file"):
        RunDirectory(tmp_path / "photos" / "a.jpg").check_new()


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
    with pytest.raises(ValueError, match="num_processes=1: it was started with num_processes=2"):
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
