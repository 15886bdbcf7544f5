"""Data sets in LeRobot's layout where episodes of this package are expected."""

import json
import logging
import shutil

import numpy as np
import pytest

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.recordings import recording_format

from .importers import foreign


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows((7, 6, 8, 5), width=36)


@pytest.mark.parametrize(("version", "video"), [("v2.1", False), ("v3.0", True)])
def test_a_lerobot_folder_opens_like_any_other(version, video, rows, tmp_path, caplog):
    if video:
        pytest.importorskip("av")
    source = foreign.write_lerobot(tmp_path / "source", rows, version, video, packs=((0, 1), (2, 3)))
    with pytest.raises(ValueError, match="36x28 pixels, expected .*fit: crop"):
        load_episodes(source, cache_dir=tmp_path / "cache")
    parts = {
        split: load_episodes(source, split, fit="crop", cache_dir=tmp_path / "cache") for split in ("train", "test")
    }
    assert sum(len(part) for part in parts.values()) == 4 and len(parts["test"]) == 1
    for part in parts.values():
        assert part.fit == "crop" and part.fps == 10 and part.env_id is None
        for position, episode in enumerate(part.episode_ids):
            here = slice(part.offsets[position], part.offsets[position] + part.lengths[position])
            there = slice(rows.offsets[episode], rows.offsets[episode] + rows.lengths[episode])
            np.testing.assert_array_equal(part.actions[here], rows.action[there])
            frames = part.frames(range(here.start, here.stop))
            np.testing.assert_array_equal(frames, rows.pixels[there][:, :, 4:32])
    with caplog.at_level(logging.INFO):
        load_episodes(source, fit="crop", cache_dir=tmp_path / "cache")
    assert "nothing to do" in caplog.text


def test_a_corrected_recording_is_imported_anew(rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    old = load_episodes(source, fit="pad", cache_dir=tmp_path / "cache").actions
    rows.action = -rows.action
    shutil.rmtree(source)
    foreign.write_lerobot(source, rows)
    rows.action = -rows.action
    np.testing.assert_array_equal(load_episodes(source, fit="pad", cache_dir=tmp_path / "cache").actions, -old)


def test_one_camera_of_several_is_named(rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    info = json.loads((source / "meta/info.json").read_text())
    info["features"]["observation.images.wrist"] = info["features"]["observation.images.top"]
    (source / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="has 2 cameras .*observation.images.wrist"):
        load_episodes(source, fit="pad", cache_dir=tmp_path / "cache")
    named = {"image_key": "observation.images.top", "action_key": "observation.state", "fit": "pad"}
    episodes = load_episodes(source, cache_dir=tmp_path / "cache", **named)
    np.testing.assert_array_equal(episodes.actions[0], rows.state[0].astype(np.float32))


def test_videos_in_subfolders_are_refused_with_where_they_belong(rows, tmp_path):
    """The names may be those of cameras or of episodes: nobody but who recorded them knows."""
    for camera in ("left", "right"):
        (tmp_path / "walks" / camera).mkdir(parents=True)
        (tmp_path / "walks" / camera / "walk_1.MP4").touch()
        (tmp_path / "walks" / camera / "walk_1.csv").write_text("action_0\n1\n")
    with pytest.raises(ValueError, match="subfolders alone, such as left/walk_1.MP4: put .* top of one f") as error:
        load_episodes(tmp_path / "walks", cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert recording_format(tmp_path / "walks" / "left") == "mp4csv"
    foreign.pq.write_table(foreign.pa.table({"a": [1]}), tmp_path / "walks" / "rows.parquet")
    assert recording_format(tmp_path / "walks") is None  # a table, whatever lies beside it


def test_keys_of_recordings_are_for_recordings(room_dir):
    with pytest.raises(ValueError, match="is a data set of this package, whose columns are known: omit fit"):
        load_episodes(room_dir, fit="crop")
