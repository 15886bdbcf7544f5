import hashlib
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from lewm_hf.data.collect import collect
from lewm_hf.data.collect import run as collecting
from lewm_hf.data.collect.recording import record
from lewm_hf.data.collect.settings import paper_preset
from lewm_hf.engines.workers import run_tasks
from lewm_hf.tasks.policies import make_expert
from lewm_hf.tasks.registry import make_env
from lewm_hf.tasks.rollout import episode_rng

SMALL = {"episodes": 10, "image_size": 16, "episodes_per_file": 2, "seed": 3, "max_steps": 20}


def content(directory):
    """Hash of every file, hidden ones included."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return collect("two_room", tmp_path_factory.mktemp("small") / "set", workers=1, **SMALL)


def test_the_rows_of_a_data_set(room_dir, tmp_path):
    loaded = datasets.load_dataset(str(room_dir), cache_dir=str(tmp_path))
    assert {split: len(set(loaded[split]["episode_index"])) for split in loaded} == {"train": 16, "test": 4}
    env, expert = make_env("two_room", image_size=32), make_expert("two_room")
    row, episode_index = 0, 0
    for split in ("train", "test"):
        rows = loaded[split]
        assert rows["index"][:] == list(range(row, row + len(rows)))
        row += len(rows)
        numbers = np.array(rows["episode_index"])
        for start in np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]]):
            # The whole episode once more, from its seed and its number.
            expected = record(env, expert, episode_rng(7, episode_index), 100, True)
            part = rows[start : start + len(expected)]
            assert set(part["episode_index"]) == {episode_index}
            assert part["frame_index"] == list(range(len(expected)))
            np.testing.assert_allclose(part["timestamp"], np.arange(len(expected)) / 10, rtol=1e-6)
            np.testing.assert_array_equal(part["sim.state"], expected.states)
            np.testing.assert_array_equal(part["sim.goal"], expected.goals)
            np.testing.assert_array_equal(np.float32(part["observation.state"]), expected.observations)
            np.testing.assert_array_equal(np.float32(part["action"][:-1]), expected.actions)
            assert np.isnan(part["action"][-1]).all()
            assert part["next.done"] == [False] * (len(expected) - 1) + [True]
            assert part["next.success"] == [*expected.success[1:].tolist(), bool(expected.success[-1])]
            for image, frame in zip(part["observation.image"], expected.images, strict=True):
                assert image.mode == "RGB"
                np.testing.assert_array_equal(np.asarray(image), frame)
            episode_index += 1
    assert episode_index == 20


def test_files_are_made_for_the_hub(room_dir):
    path = room_dir / "data/chunk-000/file-000.parquet"
    assert {p.relative_to(room_dir).as_posix() for p in (room_dir / "data").rglob("*.parquet")} == {
        *(f"data/chunk-000/file-{number:03d}.parquet" for number in range(6)),
        *(f"data/chunk-001/file-{number:03d}.parquet" for number in range(2)),
    }
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features["observation.image"]["_type"] == "Image"  # the viewer shows pictures
    description = json.loads((room_dir / "episodes.json").read_text())
    assert description["env"] == "lewm/TwoRoom-v0" and description["env_kwargs"] == {"image_size": 32}
    assert description["collector"]["expert_kwargs"] == {"noise_std": 2.0}  # the default, said aloud
    assert (
        sum(description["splits"]["test"]["lengths"])
        == pq.read_table(
            [str(p) for p in sorted(room_dir.glob("data/chunk-001/*.parquet"))], columns=["index"]
        ).num_rows
    )


@pytest.mark.parametrize("order", [[(0, 1)], [(0, 3), (1, 3), (2, 3)], [(1, 2), (0, 2)]])
def test_bytes_do_not_depend_on_workers_and_shards(small, tmp_path, order):
    for shard in order:
        collect("two_room", tmp_path, workers=2, shard=shard, **SMALL)
    assert content(tmp_path) == content(small)


def test_shards_of_several_machines_make_one_data_set(small, tmp_path):
    for part in range(2):
        collect("two_room", tmp_path / f"machine{part}", workers=1, shard=(part, 2), **SMALL)
        shutil.copytree(tmp_path / f"machine{part}", tmp_path / "all", dirs_exist_ok=True)
    collect("two_room", tmp_path / "all", workers=1, **SMALL)
    assert content(tmp_path / "all") == content(small)


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    arguments = {"episodes": 40, "image_size": 48, "episodes_per_file": 4, "workers": 2}
    expected = content(collect("two_room", tmp_path / "whole", **arguments))
    out = tmp_path / "killed"
    rng, seen = np.random.default_rng(0), []

    def finished() -> int:
        """Files of episodes: a finished set has LeRobot's beside them."""
        return len(list((out / "data").rglob("[!.]*.parquet")))

    for _ in range(5):
        process = multiprocessing.get_context("fork").Process(target=collect, args=("two_room", out), kwargs=arguments)
        process.start()
        # Until some more files are there, then a little longer: in the middle of writing the next.
        files = finished()
        deadline = time.monotonic() + 60
        while process.is_alive() and finished() < files + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.join()
        seen.append(finished())
        if process.exitcode == 0 or (out / "README.md").exists():
            break
    assert len([count for count in seen if 0 < count < 10]) >= 2  # it really was interrupted, again and again
    assert not (out / "README.md").exists() or seen[-1] == 10
    collect("two_room", out, **arguments)
    # Workers of the last killed process notice within a second and take their unfinished file with them.
    deadline, quiet_since = time.monotonic() + 20, time.monotonic()
    while time.monotonic() - quiet_since < 1.5 and time.monotonic() < deadline:
        if list(out.rglob(".*")):
            quiet_since = time.monotonic()
        time.sleep(0.1)
    assert content(out) == expected


def test_killed_while_numbering_rows_it_leaves_nothing_behind(tmp_path):
    """All files are there, the set is not finished, and the killed process had begun to rewrite one of them."""
    arguments = {"episodes": 6, "image_size": 28, "episodes_per_file": 3, "workers": 1}
    expected = content(collect("two_room", tmp_path / "whole", **arguments))
    out = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", out)
    description = json.loads((out / "episodes.json").read_text())
    for name in ("splits", "action_mean", "action_std"):
        description.pop(name, None)
    (out / "episodes.json").write_text(json.dumps(description))
    (out / "README.md").unlink()
    file = next(out.glob("data/chunk-000/*.parquet"))
    file.with_name(f".{file.name}.12345.tmp").write_bytes(b"half")
    collect("two_room", out, **arguments)
    assert content(out) == expected


def test_an_interrupted_collection_is_usable(small, tmp_path):
    out = tmp_path / "part"
    shutil.copytree(small, out)
    for name in ("README.md", "data/chunk-000/file-001.parquet", "data/chunk-001/file-000.parquet"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "meta")
    assert len([path for path in content(small) if not (out / path).exists()]) == 3 + 4
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert len(loaded["train"]) > 0
    collect("two_room", out, workers=1, **SMALL)
    assert content(out) == content(small)


def test_a_finished_collection_is_left_alone(small, caplog):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    with caplog.at_level(logging.INFO):
        collect("two_room", small, workers=1, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert "nothing to do" in caplog.text


def test_a_damaged_file_is_collected_again(small, tmp_path):
    shutil.copytree(small, tmp_path / "set")
    victim = tmp_path / "set" / "data/chunk-000/file-002.parquet"
    victim.write_bytes(victim.read_bytes()[:-100])
    collect("two_room", tmp_path / "set", workers=1, **SMALL)
    assert content(tmp_path / "set") == content(small)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 4}, "seed=3, not 4"),
        ({"image_size": 24}, "image_size=16, not 24"),
        ({"episodes": 12}, "episodes=10, not 12"),
        ({"noise": 1.0}, "noise_std': 2.0}, not {'noise_std': 1.0}"),
        ({"expert": "random"}, "expert='expert', not 'random'"),
        ({"max_steps": 21}, "max_steps=20, not 21"),
        ({"env_kwargs": {"compat": True}}, "compat=None, not True"),
    ],
)
def test_other_arguments_for_the_same_directory(small, changed, message):
    before = content(small)
    with pytest.raises(ValueError, match="was collected with") as error:
        collect("two_room", small, workers=1, **{**SMALL, **changed})
    assert message in str(error.value) and "\n" not in str(error.value)
    assert content(small) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"episodes": 1}, "episodes=1 must be at least 2"),
        ({"episodes": 0, "test_fraction": 0.0}, "episodes=0 must be at least 1"),
        ({"test_fraction": 1.0}, "test_fraction=1.0"),
        ({"shard": (2, 2)}, "shard=2/2 does not exist: give i/n, part i of n counted from 0, such as 0/4"),
        ({"shard": (1, 0)}, "shard=1/0 does not exist: give i/n, part i of n counted from 0, such as 0/4"),
        ({"shard": (-1, 2)}, "shard=-1/2 does not exist"),
        ({"workers": 0}, "workers=0"),
        ({"seed": -1}, "seed=-1"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"image_format": "gif"}, "image_format='gif'"),
        ({"image_size": 3}, "image_size=3"),
        ({"expert": "oracle"}, "unknown expert 'oracle' for two_room"),
        ({"expert": "random", "noise": 1.0}, "no effect on the random policy"),
        ({"noise": -1.0}, "noise_std=-1.0"),
        ({"expert_kwargs": {"strength": 3}}, "strength"),
        ({"expert_kwargs": {"noise_std": 3.0}, "noise": 1.0}, "expert_kwargs say noise_std=3.0, which noise=1.0 says"),
        ({"env_kwargs": {"gravity": 3}}, "gravity"),
        ({"env_kwargs": {"image_size": 32}}, "env_kwargs say image_size=32, which image_size=16 says already: give"),
        ({"env_kwargs": {"physics": "quantum"}}, "physics='quantum'"),
    ],
)
def test_impossible_arguments_are_refused_before_any_file_is_touched(tmp_path, changed, message):
    with pytest.raises(ValueError) as error:
        collect("two_room", tmp_path / "new", **{**SMALL, "workers": 1, **changed})
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_unknown_environment_and_foreign_directories(tmp_path):
    with pytest.raises(ValueError, match="unknown environment 'two_rooms'"):
        collect("two_rooms", tmp_path / "new", 3)
    (tmp_path / "thesis.tex").write_text("42")
    with pytest.raises(ValueError, match="not empty and holds no collection"):
        collect("two_room", tmp_path, **SMALL)
    with pytest.raises(ValueError, match="is a file"):
        collect("two_room", tmp_path / "thesis.tex", **SMALL)


def test_the_estimate_and_a_disk_that_is_too_small(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        out = collect("two_room", tmp_path / "set", 16, image_size=32, workers=1)
    stated = float(caplog.text.split("episodes: ")[1].split(" kB")[0])
    actual = sum(path.stat().st_size for path in out.rglob("*.parquet")) / 1000
    assert stated == pytest.approx(actual, rel=0.3)

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(collecting.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match="need about .* has 1.0 kB left: make room") as error:
        collect("two_room", tmp_path / "other", 16, image_size=32, workers=1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_up(small, tmp_path, workers):
    """A limit on the size of files stands for a full disk: both fail in the middle of a write."""
    out = tmp_path / "set"

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            collect("two_room", out, workers=workers, **SMALL)
        except OSError as error:
            (tmp_path / "error").write_text(str(error))

    sizes = sorted(path.stat().st_size for path in small.glob("data/chunk-000/*"))
    limit = (sizes[2] + sizes[3]) // 2
    process = multiprocessing.get_context("fork").Process(target=limited)
    process.start()
    process.join()
    message = (tmp_path / "error").read_text()
    assert "no space left for" in message and "run the same command again" in message and "\n" not in message
    assert not list(out.rglob("*.tmp"))
    for path in out.rglob("*.parquet"):
        assert pq.read_table(path).num_rows  # whole
    collect("two_room", out, workers=1, **SMALL)
    assert content(out) == content(small)


def _suicide(task, report):
    report(1)
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_a_worker_that_dies_and_results_in_order():
    with pytest.raises(OSError, match="a worker process died .*-9.*fewer workers"):
        run_tasks(_suicide, [0, 1, 2, 3], 2, lambda count: None)
    reports = []
    assert run_tasks(_suicide, [5, 4, 3], 2, reports.append) == [5, 4, 3]
    assert reports == [1, 1, 1]


def test_a_whole_process_from_the_command_line(small, tmp_path):
    """Another interpreter and another hash seed: the same bytes, which the command agrees with.

    It begins as other people's scripts and spawned workers do, with an environment and no import of this package.
    """
    code = (
        "import gymnasium\n"
        "env = gymnasium.make('lewm_hf.envs:lewm/TwoRoom-v0', image_size=32)\n"
        "print(type(env.unwrapped).__name__, env.reset(seed=0)[1]['goal'].shape, env.spec.max_episode_steps)\n"
        "import sys; from lewm_hf.data.collect import collect; from lewm_hf.cli import main\n"
        f"collect('two_room', {str(tmp_path / 'set')!r}, workers=2, **{SMALL!r})\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "data-stats", str(tmp_path / "set")]
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "agrees with its files" in run.stdout, run.stderr
    assert run.stdout.startswith("TwoRoomEnv (32, 32, 3) 100\n")
    assert content(tmp_path / "set") == content(small)


def test_every_task_of_the_paper_has_a_preset():
    assert paper_preset("two_room") == {"episodes": 10_000, "seed": 3072}
    assert paper_preset("lewm/PushT-v0")["episodes"] == 20_000
    assert paper_preset("reacher") == {"episodes": 10_000, "seed": 3072, "expert": "random"}
    with pytest.raises(ValueError, match="unknown environment"):
        paper_preset("walker")


def test_progress_counts_episodes(tmp_path, capsys):
    collect("two_room", tmp_path / "set", progress=True, workers=2, **SMALL)
    assert "10/10" in capsys.readouterr().err
