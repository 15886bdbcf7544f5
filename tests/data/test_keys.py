"""Whatever is kept or looked up is told apart by all that decides its content."""

import json
import logging
import multiprocessing
import os
import resource
import shutil
import tempfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lewm_hf import files as filing
from lewm_hf.data.cache import FrameCache
from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import EpisodeData, load_episodes
from lewm_hf.data.statistics import action_statistics
from lewm_hf.data.storage.dataset_card import finish_dataset, read_description
from lewm_hf.data.storage.encoding import decode
from lewm_hf.files import only_one, replacing, reserve

from .conftest import as_dataset, synthetic, synthetic_columns

SMALL = {"episodes": 6, "image_size": 16, "workers": 1, "max_steps": 12, "episodes_per_file": 3}


def actions_of(folder) -> np.ndarray:
    """The actions of the training split, read by PyArrow alone."""
    paths = sorted(folder.glob("data/chunk-000/*.parquet"))
    return np.concatenate([np.stack(pq.read_table(path)["action"].to_pylist()) for path in paths])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two collections whose names are one glob pattern and what it matches."""
    folder = tmp_path_factory.mktemp("two")
    for seed, name in enumerate(("run1", "run[1]")):
        collect("two_room", folder / name, seed=seed, **SMALL)
    return folder / "run1", folder / "run[1]"


def test_names_are_no_patterns(two, tmp_path):
    for folder in two:
        np.testing.assert_array_equal(load_episodes(folder, cache_dir=tmp_path).actions, actions_of(folder))


def test_folders_of_others_are_no_patterns(tmp_path):
    for seed, name in enumerate(("a1", "a[1]")):
        (tmp_path / name).mkdir()
        as_dataset(synthetic_columns([3, 4], seed=seed)).to_parquet(str(tmp_path / name / "train.parquet"))
    one, other = (load_episodes(tmp_path / name, cache_dir=tmp_path / "cache") for name in ("a1", "a[1]"))
    assert not np.array_equal(one.actions, other.actions, equal_nan=True)


def test_files_are_told_apart_by_content_not_by_their_times(two, tmp_path):
    for source in two:
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        shutil.copytree(source, tmp_path / "set")
        for path in (tmp_path / "set" / "data").rglob("*.parquet"):
            os.utime(path, (1e9, 1e9))
        loaded = load_episodes(tmp_path / "set", cache_dir=tmp_path / "cache")
        np.testing.assert_array_equal(loaded.actions, actions_of(source))


def test_equal_content_has_one_name_wherever_it_lies(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "copy")
    folders = two[0], tmp_path / "copy", two[1]
    here, there, other = (load_episodes(folder, cache_dir=tmp_path / "c").fingerprint for folder in folders)
    assert here == there != other
    assert load_episodes(two[0], "test", cache_dir=tmp_path / "c").fingerprint != here


def _shifted(by: int):
    def shifted(data):
        return decode(data) + np.uint8(by)

    return shifted


def test_kept_frames_are_those_of_the_decoder_and_the_column(tmp_path):
    columns = synthetic_columns([5])
    dataset = as_dataset(columns)
    dataset = dataset.add_column("second", columns["observation.image"][::-1]).cast_column("second", datasets.Image())
    opened = [
        EpisodeData(dataset),
        EpisodeData(dataset, decode=_shifted(1)),
        EpisodeData(dataset, decode=_shifted(2)),
        EpisodeData(dataset, image_key="second"),
    ]
    for _ in range(2):
        for episodes in opened:
            kept = FrameCache(episodes, "memmap", tmp_path).frames(np.arange(5))
            np.testing.assert_array_equal(kept, episodes.frames(np.arange(5)))
    assert len(list(tmp_path.iterdir())) == 4


def rewrite_actions(folder, change) -> None:
    for path in (folder / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        actions = change(np.stack(table["action"].to_pylist()).astype(np.float32))
        at = table.schema.get_field_index("action")
        column = pa.FixedSizeListArray.from_arrays(pa.array(actions.ravel()), actions.shape[1])
        pq.write_table(table.set_column(at, table.schema.field("action"), column), path)


@pytest.mark.parametrize("alone", [False, True])
def test_stated_statistics_are_compared_with_the_files(two, tmp_path, alone):
    """Somebody turned the actions into other units; or only one split was downloaded."""
    shutil.copytree(two[0], tmp_path / "set")
    if alone:
        for path in (tmp_path / "set").glob("data/chunk-001/*"):
            path.unlink()
    load_episodes(tmp_path / "set", cache_dir=tmp_path / "c")
    rewrite_actions(tmp_path / "set", lambda actions: 10 * actions + 3)
    with pytest.raises(ValueError, match="says action_mean=.* the files .* delete both entries") as error:
        load_episodes(tmp_path / "set", cache_dir=tmp_path / "c")
    assert "\n" not in str(error.value)
    said = read_description(tmp_path / "set")
    del said["action_mean"], said["action_std"]
    (tmp_path / "set" / "episodes.json").write_text(json.dumps(said))
    measured = load_episodes(tmp_path / "set", cache_dir=tmp_path / "c")
    np.testing.assert_allclose(measured.action_statistics()[1], action_statistics(measured.actions)[1])


def test_a_file_of_another_collection_is_not_taken_for_ones_own(two, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(two[0], out)
    said = read_description(out)
    for name in ("splits", "action_mean", "action_std"):
        del said[name]
    (out / "episodes.json").write_text(json.dumps(said))
    name = "data/chunk-000/file-000.parquet"
    shutil.copy(two[1] / name, out / name)
    content = (out / name).read_bytes()
    with pytest.raises(ValueError, match="chunk-000/file-000.parquet was collected with other arguments"):
        collect("two_room", out, seed=0, **SMALL)
    assert (out / name).read_bytes() == content


def test_files_have_a_page_index_and_chunks_that_content_defines(two):
    footer = pq.read_metadata(two[0] / "data/chunk-000/file-000.parquet")
    columns = [footer.row_group(0).column(number) for number in range(footer.num_columns)]
    assert all(column.has_offset_index for column in columns)
    assert json.loads(footer.metadata[b"content_defined_chunking"]) == datasets.config.DEFAULT_CDC_OPTIONS


def test_a_second_command_in_a_folder_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(filing, "PATIENCE", 0.3)
    held, done = multiprocessing.Event(), multiprocessing.Event()

    def other():
        with only_one(tmp_path / "set" / ".lewm-0-of-1.lock"):
            held.set()
            done.wait(60)

    process = multiprocessing.get_context("fork").Process(target=other)
    process.start()
    assert held.wait(60)
    for shard in ((0, 1), (1, 2)):  # a shard of another division writes some of the same files
        with pytest.raises(OSError, match="another command is at work in .*set: wait until it is done") as error:
            collect("two_room", tmp_path / "set", shard=shard, **SMALL)
        assert "\n" not in str(error.value)
    done.set()
    process.join()
    collect("two_room", tmp_path / "set", **SMALL)
    assert not list((tmp_path / "set").rglob(".*"))


def test_a_killed_commands_lock_is_free(tmp_path):
    def other():
        with only_one(tmp_path / "set" / ".lewm-0-of-1.lock"):
            os._exit(1)

    process = multiprocessing.get_context("fork").Process(target=other)
    process.start()
    process.join()
    assert (tmp_path / "set" / ".lewm-0-of-1.lock").exists()
    collect("two_room", tmp_path / "set", **SMALL)
    assert not list((tmp_path / "set").rglob(".*"))


def test_a_lock_of_another_user_is_named_and_not_its_folder():
    """The folder is everybody's; who may write anywhere becomes somebody else first."""

    def other(lock, told):
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            with only_one(lock):
                told.send("nothing was in the way")
        except OSError as error:
            told.send(str(error))

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        lock = Path(folder) / ".lewm-0-of-1.lock"
        lock.touch()
        lock.chmod(0o444)
        told, telling = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=other, args=(lock, telling))
        process.start()
        said = told.recv()
        process.join()
    assert said.startswith(f"{lock} is the lock of another user (Permission denied): wait until") and "\n" not in said


def test_temporary_names_are_ones_own_even_with_equal_process_numbers(tmp_path):
    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as other:
        assert one != other  # the same process, as two containers may have the same number
        one.write_text("1")
        other.write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_errors_name_the_file_that_was_asked_for():
    expected = r"^/sys/kernel/table.npy cannot be written \(.*\): give a folder"
    with pytest.raises(OSError, match=expected) as error, replacing(Path("/sys/kernel/table.npy")) as temporary:
        temporary.write_text("x")
    assert ".tmp" not in str(error.value)


def test_a_full_disk_ends_a_mapped_file_in_one_line(tmp_path):
    """A limit on the size of files stands for a full disk; writing to a page without room would kill the process."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            FrameCache(synthetic([60]), "memmap", tmp_path / "cache")
        except OSError as error:
            (tmp_path / "error").write_text(str(error))

    process = multiprocessing.get_context("fork").Process(target=limited)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert "no space left" in (tmp_path / "error").read_text()
    assert not list((tmp_path / "cache").iterdir())


def test_reserved_bytes_are_on_the_disk(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"begin")
    os.truncate(path, 10**6)
    assert path.stat().st_blocks * 512 < 10**5
    reserve(path, 5, 10**6 - 5)
    assert path.stat().st_blocks * 512 >= 10**6 - 5
    assert path.read_bytes()[:5] == b"begin" and path.stat().st_size == 10**6


def test_infinite_actions_are_refused_even_in_a_last_row():
    columns = synthetic_columns([4, 3])
    columns["action"][3] = [float("inf"), 0.0]
    with pytest.raises(ValueError, match="episode 0, frame 3 .* and none infinite"):
        EpisodeData(as_dataset(columns))
    with pytest.raises(ValueError, match="actions are infinite"):
        action_statistics(np.array([[1.0], [np.inf]]))


def test_a_constant_dimension_has_no_spread_and_is_said_aloud(two, tmp_path, caplog):
    columns = (np.full((1001, 1), value) for value in np.linspace(0.1, 0.9, 80))
    rounded = next(column for column in columns if column.std() != 0)
    assert action_statistics(rounded) == ([rounded[0, 0]], [0.0])
    shutil.copytree(two[0], tmp_path / "set")
    rewrite_actions(tmp_path / "set", lambda actions: np.where([True, False], actions, 0 * actions + np.float32(0.1)))
    said = read_description(tmp_path / "set")
    with caplog.at_level(logging.WARNING):
        facts = finish_dataset(tmp_path / "set", said)
    assert "action dimensions [1] never change" in caplog.text
    assert facts.action_std[1] == 0.0


def test_bounds_of_the_actions_are_those_of_the_action_space(two, tmp_path):
    low, high = load_episodes(two[0], cache_dir=tmp_path).action_bounds
    np.testing.assert_array_equal(low, [-1, -1])
    np.testing.assert_array_equal(high, [1, 1])
    assert synthetic([3]).action_bounds is None


def test_a_data_set_without_a_test_split_holds_its_last_episodes_out(tmp_path, caplog):
    given = {"image_size": 16, "workers": 1, "max_steps": 8, "test_fraction": 0}
    collect("two_room", tmp_path / "set", 20, **given)
    with caplog.at_level(logging.INFO):
        train, test = (load_episodes(tmp_path / "set", split, cache_dir=tmp_path / "c") for split in ("train", "test"))
    assert train.episode_ids.tolist() == list(range(18)) and test.episode_ids.tolist() == [18, 19]
    whole = actions_of(tmp_path / "set")
    np.testing.assert_array_equal(np.concatenate([train.actions, test.actions]), whole)
    assert test._dataset._indices is None  # a slice, not a copy
    table = pq.read_table(sorted((tmp_path / "set" / "data").rglob("*.parquet")), columns=["observation.image"])
    last = table["observation.image"][-1].as_py()["bytes"]
    np.testing.assert_array_equal(test.frames([test.num_rows - 1])[0], decode(memoryview(last)))
    assert "has no test split: the last 2 of 20 episodes are held out" in caplog.text
    collect("two_room", tmp_path / "one", 1, **given)
    with pytest.raises(ValueError, match="has no test split, and too few episodes to hold some out: 1"):
        load_episodes(tmp_path / "one", "test", cache_dir=tmp_path / "c")
