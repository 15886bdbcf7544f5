import logging
import pickle
from collections import namedtuple

import numpy as np
import pytest

from lewm_hf.data import cache as caching
from lewm_hf.data.cache import FrameCache, available_memory

from .conftest import png, synthetic, synthetic_columns


def test_frames_are_kept(room, tmp_path, caplog):
    expected = room.frames(np.arange(room.num_rows))
    rows = np.array([7, 0, room.num_rows - 1])
    for kind in ("ram", "memmap"):
        with caplog.at_level(logging.INFO):
            cache = FrameCache(room, kind, tmp_path)
        np.testing.assert_array_equal(cache.frames(rows), expected[rows])
    assert f"{expected.nbytes / 1e6:.1f} MB" in caplog.text  # said before it is written
    assert np.load(next(tmp_path.glob("*.npy"))).nbytes == expected.nbytes


def test_a_mapped_file_is_written_once(tmp_path):
    episodes = synthetic([6])
    FrameCache(episodes, "memmap", tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat()
    again = FrameCache(episodes, "memmap", tmp_path)
    (file,) = tmp_path.iterdir()
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).frames(np.array([2])), episodes.frames([2]))


def test_other_episodes_have_another_file(room, tmp_path):
    FrameCache(room, "memmap", tmp_path)
    FrameCache(synthetic([3]), "memmap", tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_what_does_not_fit_is_refused(tmp_path, monkeypatch):
    episodes = synthetic([10])  # 480 bytes
    monkeypatch.setattr(caching, "available_memory", lambda: 400)
    with pytest.raises(OSError, match="take 480 B, but only 400 B of memory are left: use cache='memmap'"):
        FrameCache(episodes, "ram")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda path: usage(1, 1, 100))
    with pytest.raises(OSError, match="only 100 B of space in"):
        FrameCache(episodes, "memmap", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_damaged_frame_leaves_no_file(tmp_path):
    from lewm_hf.data.episodes import EpisodeData

    from .conftest import as_dataset

    columns = synthetic_columns([5])
    columns["observation.image"][3]["bytes"] = png(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="row 3"):
        FrameCache(EpisodeData(as_dataset(columns)), "memmap", tmp_path)
    assert not list(tmp_path.iterdir())


def test_memory_is_not_sent_to_spawned_processes(room):
    with pytest.raises(ValueError, match="cannot be sent to spawned processes: use cache='memmap'"):
        pickle.dumps(FrameCache(room, "ram"))


def test_available_memory_is_plausible():
    free = available_memory()
    assert free is None or 10**6 < free < 10**14
