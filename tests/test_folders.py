"""Folders appear whole or not at all: new ones, and such as take the place of an earlier one."""

import errno
import fcntl
import multiprocessing
import os
import signal
import warnings

import pytest
from safetensors import SafetensorError

from lewm_hf import files, folders
from lewm_hf.files import only_one, remove_leftovers, replacing, write_atomic
from lewm_hf.folders import named_write_errors, new_folder, publish, recover, replacing_folder


def test_a_new_folder_appears_when_it_is_whole_and_in_an_empty_one_too(tmp_path):
    for target in (tmp_path / "below" / "new", tmp_path / "empty"):
        if target.name == "empty":
            target.mkdir()
        with new_folder(target) as folder:
            (folder / "deeper").mkdir()
            (folder / "deeper" / "a").write_text("1")
            assert not target.exists() or not os.listdir(target)
        assert (target / "deeper" / "a").read_text() == "1"
    assert sorted(os.listdir(tmp_path)) == ["below", "empty"] and os.listdir(tmp_path / "below") == ["new"]


def half_written(writing, target):
    """A process that is inside `with writing(target)` and has written something."""
    inside = multiprocessing.Event()

    def write():
        with writing(target) as temporary:
            (temporary / "a" if temporary.is_dir() else temporary).write_text("half")
            inside.set()
            signal.pause()

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    assert inside.wait(60)
    return process


def killed(process):
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_the_next_new_folder_takes_away_what_a_kill_left(tmp_path):
    killed(half_written(new_folder, tmp_path / "new"))
    assert any(path.is_dir() for path in tmp_path.iterdir()) and not (tmp_path / "new").exists()
    with new_folder(tmp_path / "new") as folder:
        assert not os.listdir(folder)
        (folder / "a").write_text("1")
    assert os.listdir(tmp_path) == ["new"] and (tmp_path / "new" / "a").read_text() == "1"


def test_a_new_folder_is_written_by_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    other = half_written(new_folder, tmp_path / "new")
    before = sorted(os.listdir(tmp_path))
    told = f"another command writes {tmp_path / 'new'}: wait until it is done, or give another folder"
    with pytest.raises(OSError, match=told), new_folder(tmp_path / "new"):
        raise AssertionError("no work starts")
    assert sorted(os.listdir(tmp_path)) == before
    killed(other)


def test_the_next_file_takes_away_what_a_kill_left_and_nothing_of_the_living(tmp_path):
    alive, dead = (half_written(replacing, tmp_path / "a") for _ in range(2))
    killed(dead)
    (tmp_path / ".ab.0123.lock").touch()  # of another file
    write_atomic(tmp_path / "a", "1")
    left = [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    assert len(left) == 1 and left[0].read_text() == "half"
    killed(alive)
    write_atomic(tmp_path / "a", "2")
    assert sorted(os.listdir(tmp_path)) == [".ab.0123.lock", "a"] and (tmp_path / "a").read_text() == "2"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_that_needs_a_lock_is_refused_where_there_are_none(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="has no locks .*: give a folder on another disk"), only_one(tmp_path / ".lock"):
        pass


def test_what_is_left_of_a_longer_name_stays(tmp_path):
    others = [".a.b.0123456789abcdef.lock", ".a.b.lock", ".a.1.lock", ".a.b.12.tmp"]
    for name in [*others, ".a.0123456789abcdef.tmp", ".a.0123456789abcdef.lock", ".a.12-cd.tmp", ".a.12.tmp"]:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == sorted(others)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_is_written_where_the_file_system_has_no_locks(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    # What filelock does instead, it says.
    with warnings.catch_warnings(action="ignore"), replacing(tmp_path / "a") as temporary:
        temporary.write_text("1")
        write_atomic(tmp_path / "a", "2")  # takes nothing away from who is at work
        assert temporary.read_text() == "1"
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "1"


def test_what_is_there_is_refused_and_kept(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("1")
    (tmp_path / "file").write_text("2")
    for name, found in (("full", "is not empty"), ("file", "is a file")):
        told = f"{name} exists already and {found}: name a new folder"
        with pytest.raises(ValueError, match=told), new_folder(tmp_path / name):
            raise AssertionError("no work starts")
    assert (tmp_path / "full" / "a").read_text() == "1" and (tmp_path / "file").read_text() == "2"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_new_folder_on_a_full_disk_is_one_line_and_no_folder(tmp_path, error):
    told = "cannot write .*new .*No space left.* MiB are free there: make room and run the same"
    with pytest.raises(OSError, match=told) as found, new_folder(tmp_path / "new"):
        raise error
    assert "\n" not in str(found.value) and not os.listdir(tmp_path)


@pytest.mark.parametrize("error", [RuntimeError("no kernel"), FileNotFoundError("config.json")])
def test_what_a_disk_is_not_to_blame_for_keeps_its_own_words(tmp_path, error):
    with pytest.raises(type(error)) as found, new_folder(tmp_path / "new"):
        raise error
    assert found.value is error and not os.listdir(tmp_path)


def test_a_file_that_finds_no_room_in_a_staged_folder_is_said_once(tmp_path, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as found, named_write_errors(tmp_path / "state", "go on"):
        write_atomic(tmp_path / "progress.json", "{}")
    message = str(found.value)
    assert message.startswith(f"cannot write {tmp_path / 'state'} (") and message.endswith("make room and go on")
    assert message.count("make room") == 1 and not os.listdir(tmp_path)


def test_a_folder_is_replaced_only_when_complete(tmp_path):
    target = tmp_path / "last"
    with replacing_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with replacing_folder(target) as folder:
        (folder / "a").write_text("2")
        assert (target / "a").read_text() == "1"
    assert (target / "a").read_text() == "2"
    assert os.listdir(tmp_path) == ["last"]


def test_a_failed_write_leaves_the_previous_folder_and_one_line(tmp_path):
    target = tmp_path / "last"
    with replacing_folder(target) as folder:
        (folder / "a").write_text("1")
    with (
        pytest.raises(OSError, match="cannot write .*last .*No space left.* MiB are free") as error,
        replacing_folder(target) as folder,
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

    monkeypatch.setattr(folders.os, "rename", dying_rename)
    if killed_after < 2:
        with pytest.raises(KeyboardInterrupt):
            publish(target)
    else:
        publish(target)
    monkeypatch.setattr(folders.os, "rename", rename)
    recover(target)
    assert (target / "a").read_text() == ("new" if killed_after == 2 else "old")
    assert os.listdir(tmp_path) == ["state"]
