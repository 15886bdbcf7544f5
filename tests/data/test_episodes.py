import json
import multiprocessing
import pickle
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lewm_hf.data.episodes import EpisodeData, load_episodes
from lewm_hf.data.storage.encoding import decode
from lewm_hf.tasks.registry import make_env

from .conftest import as_dataset, png, row_frame, synthetic, synthetic_columns


def write_plain(directory, lengths, **columns):
    """A data set of somebody else: LeRobot's columns and nothing of ours."""
    (directory / "data").mkdir(parents=True)
    as_dataset({**synthetic_columns(lengths), **columns}).to_parquet(
        str(directory / "data" / "train-00000-of-00001.parquet")
    )
    return directory


def test_everything_equals_the_plain_data_set(room, room_dir, tmp_path):
    plain = datasets.load_dataset(str(room_dir), split="train", cache_dir=str(tmp_path))
    numbers = np.array(plain["episode_index"])
    assert len(room) == 16 and room.num_rows == len(plain)
    for episode in range(16):
        rows = np.flatnonzero(numbers == room.episode_ids[episode])
        assert rows[0] == room.offsets[episode] and len(rows) == room.lengths[episode]
    np.testing.assert_array_equal(room.actions, np.array(plain["action"], np.float32))
    np.testing.assert_array_equal(room.states, np.array(plain["sim.state"]))
    np.testing.assert_array_equal(room.goals, np.array(plain["sim.goal"]))
    rows = [5, 0, len(plain) - 1, 5]
    frames = room.frames(rows)
    assert frames.dtype == np.uint8 and frames.shape == (4, 32, 32, 3)
    for frame, row in zip(frames, rows, strict=True):
        np.testing.assert_array_equal(frame, np.asarray(plain[row]["observation.image"]))
    assert (room.env_id, room.env_kwargs, room.image_size, room.fps) == ("lewm/TwoRoom-v0", {"image_size": 32}, 32, 10)


def test_a_row_restores_the_environment(room):
    env = make_env(room.env_id, **room.env_kwargs)
    env.reset(seed=0)
    for row in (0, 17, room.num_rows - 1):
        env.set_state(room.states[row])
        np.testing.assert_array_equal(env.render(), room.frames([row])[0])


def test_statistics_are_those_of_all_splits(room, room_dir, arrow_cache):
    test = load_episodes(room_dir, "test", cache_dir=arrow_cache)
    assert test.split == "test" and set(test.episode_ids).isdisjoint(room.episode_ids)
    both = np.concatenate([room.actions, test.actions]).astype(np.float64)
    mean, std = room.action_statistics()
    np.testing.assert_allclose(mean, np.nanmean(both, axis=0))
    np.testing.assert_allclose(std, np.nanstd(both, axis=0))
    assert test.action_statistics() == (mean, std)
    own = synthetic([5, 6])
    np.testing.assert_allclose(own.action_statistics()[1], np.nanstd(own.actions.astype(np.float64), axis=0))


def test_only_asked_frames_are_decoded(room_dir, arrow_cache):
    count = []

    def counting(data):
        count.append(1)
        return decode(data)

    room = load_episodes(room_dir, "train", cache_dir=arrow_cache, decode=counting)
    count.clear()
    room.frames([3, 9])
    assert len(count) == 2


def test_selected_and_shuffled_rows_are_the_right_ones():
    """The Arrow table under a `Dataset` ignores its selection of rows."""
    dataset = as_dataset(synthetic_columns([4, 3, 5])).select([*range(7, 12), *range(4)])
    episodes = EpisodeData(dataset)
    np.testing.assert_array_equal(episodes.episode_ids, [2, 0])
    np.testing.assert_array_equal(episodes.frames(range(9)), [row_frame(row) for row in [*range(7, 12), *range(4)]])


def _first_frame(room):
    return room.frames([1])


def test_processes_get_a_small_copy_that_works(room):
    assert len(pickle.dumps(room)) < 20_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(room)).frames([1]), room.frames([1]))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_first_frame, (room,)), room.frames([1]))


def test_a_plain_data_set_without_our_description(tmp_path):
    directory = write_plain(tmp_path / "set", [4, 6, 3, 2])
    episodes = load_episodes(directory, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(episodes.lengths, [4, 6, 3])
    np.testing.assert_array_equal(episodes.offsets, [0, 4, 10])
    np.testing.assert_array_equal(episodes.frames([12])[0], row_frame(12))
    assert episodes.env_id is None and episodes.env_kwargs == {} and episodes.fps is None
    with pytest.raises(ValueError, match="no column 'sim.state'"):
        _ = episodes.states
    held_out = load_episodes(directory, "test", cache_dir=tmp_path / "cache")  # it has no test split
    assert held_out.lengths.tolist() == [2] and held_out.episode_ids.tolist() == [3]
    np.testing.assert_array_equal(held_out.frames([0])[0], row_frame(13))
    with pytest.raises(ValueError, match="Unknown split \"?'?val|no split 'val'"):
        load_episodes(directory, "val", cache_dir=tmp_path / "cache")


def refused(match, columns, **kwargs):
    with pytest.raises(ValueError, match=match) as error:
        EpisodeData(as_dataset(columns), name="DIR", **kwargs)
    assert "\n" not in str(error.value) and "DIR" in str(error.value)


def test_bad_rows_are_refused_in_one_line():
    columns = synthetic_columns([4, 5])
    columns["action"][5] = [0.5, float("nan")]
    refused(r"episode 1, frame 1 of DIR has action=\[0.5, nan\]", columns)

    columns = synthetic_columns([4, 5])
    columns["action"][6] = [1.0, 2.0, 3.0]
    refused("row 6 has 3 entries, the rows before have 2", columns)

    columns = synthetic_columns([3, 3])
    columns["episode_index"] = [0, 1, 0, 1, 0, 1]
    columns["frame_index"] = [0, 0, 1, 1, 2, 2]
    refused("episode 0 of DIR is not contiguous", columns)

    columns = synthetic_columns([3, 4])
    columns["frame_index"][5] = 7
    refused("episode 1 of DIR has frame_index=7 where 2 was expected", columns)

    columns = {name: values[:0] for name, values in synthetic_columns([3]).items()}
    refused("DIR has no rows in split 'train'", columns)

    columns = synthetic_columns([3])
    columns["action"][0] = [float("inf"), 0.0]
    refused("frame 0 of DIR has action=", columns)


def test_missing_columns_are_refused_in_one_line():
    columns = synthetic_columns([3])
    del columns["action"]
    refused("DIR has no column 'action': its columns are", columns)
    refused("DIR has no column 'camera'", synthetic_columns([3]), image_key="camera")
    refused("column 'action' of DIR is not an Image", synthetic_columns([3]), image_key="action")


def test_frames_of_another_size_are_refused():
    columns = synthetic_columns([3])
    columns["observation.image"][2]["bytes"] = png(np.zeros((6, 6, 3), np.uint8))
    episodes = EpisodeData(as_dataset(columns), name="DIR")
    episodes.frames([0, 1])
    with pytest.raises(ValueError, match="the frame in row 2 of DIR is 6x6, the first one 4x4"):
        episodes.frames([1, 2])
    columns["observation.image"][0]["bytes"] = png(np.zeros((4, 6, 3), np.uint8))
    refused("4x6: import them cropped or padded", columns)
    refused("4x4, but episodes.json says 224", synthetic_columns([3]), description={"image_size": 224})
    with pytest.raises(IndexError, match="rows 0 to 3 do not all exist: .* has 3"):
        synthetic([3]).frames([0, 3])


def test_frames_kept_as_paths_are_refused(tmp_path):
    Image.fromarray(row_frame(0)).save(tmp_path / "frame.png")
    columns = synthetic_columns([2])
    columns["observation.image"] = [{"bytes": None, "path": str(tmp_path / "frame.png")}] * 2
    refused("stores paths instead of frames", columns)


@pytest.fixture
def copy(room_dir, tmp_path):
    return shutil.copytree(room_dir, tmp_path / "set")


def test_damaged_directories_are_refused_in_one_line(copy, tmp_path):
    cache = tmp_path / "cache"

    def fails(error, match, split="train"):
        with pytest.raises(error, match=match) as caught:
            load_episodes(copy, split, cache_dir=cache)
        assert "\n" not in str(caught.value)

    fails(FileNotFoundError, "has no split 'val': it has test, train", "val")
    victim = copy / "data/chunk-000/file-003.parquet"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    fails(ValueError, "file-003.parquet is truncated or no Parquet file")
    victim.write_bytes(b"")
    fails(ValueError, "is truncated or no Parquet file")
    # The footer is fine, the pages are not.
    victim.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    fails(ValueError, "cannot be read")
    # Files of two data sets in one directory.
    table = pq.read_table(copy / "data/chunk-000/file-001.parquet")
    wide = datasets.Dataset.from_dict({"action": [[1.0, 2.0, 3.0]]}).data.table.column("action")
    number = table.schema.get_field_index("action")
    pq.write_table(table.slice(0, 1).set_column(number, "action", wide), victim)
    fails(ValueError, "column 'action' is list.* in chunk-000/file-003.parquet, but fixed_size_list.*separate them")
    shutil.rmtree(copy / "data")
    fails(FileNotFoundError, "collect episodes first")
    (copy / "episodes.json").write_text(json.dumps({"format": "lewm-episodes-9"}))
    fails(ValueError, "has format 'lewm-episodes-9'")


def test_names_that_are_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no data set .*/none: give a directory or a Hub id"):
        load_episodes(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="cannot be fetched") as error:
        load_episodes("nobody/never")
    assert "\n" not in str(error.value)


def test_missing_files_are_named(copy, tmp_path):
    """By what the names of the others say, and by what the description says; the split that is asked for counts."""

    def refused(match, split="train", directory=copy):
        with pytest.raises(ValueError, match=match) as error:
            load_episodes(directory, split, cache_dir=tmp_path / "cache")
        assert "\n" not in str(error.value)

    (copy / "data/chunk-000/file-002.parquet").unlink()
    refused("lacks 1 of 6 train files, such as data/chunk-000/file-002.parquet: restore")
    assert len(load_episodes(copy, "test", cache_dir=tmp_path / "cache")) == 4
    shutil.copy(copy / "data/chunk-000/file-001.parquet", copy / "data/chunk-000/file-002.parquet")
    shutil.copy(copy / "data/chunk-000/file-001.parquet", copy / "data/chunk-000/file-006.parquet")
    refused("has data/chunk-000/file-006.parquet, which is not among its 8 files")
    description = json.loads((copy / "episodes.json").read_text())
    del description["splits"]
    (copy / "episodes.json").write_text(json.dumps(description))
    refused("is not finished", "test")
    plain = write_plain(tmp_path / "plain", [4, 6])
    file = plain / "data" / "train-00000-of-00001.parquet"
    file.rename(file.with_name("train-00000-of-00003.parquet"))
    refused("lacks 2 of 3 train files, such as data/train-00001-of-00003.parquet", directory=plain)
    shutil.copy(plain / "data" / "train-00000-of-00003.parquet", plain / "data" / "train-00000-of-00002.parquet")
    refused("mixes train files numbered of 2 and of 3", directory=plain)
