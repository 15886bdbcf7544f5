import logging
import pickle
from collections import namedtuple

import numpy as np
import pytest

from lewm_hf import LeWMConfig
from lewm_hf.data import cache as caching
from lewm_hf.data.cache import FrameCache, available_memory, read_kept_frames
from lewm_hf.data.episodes import EpisodeData
from lewm_hf.data.frame_column import FrameColumn
from lewm_hf.data.windows import WindowDataset

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


@pytest.mark.parametrize("kind", ["ram", "memmap"])
def test_frames_that_training_keeps_are_decoded_by_nobody_else(kind, tmp_path, monkeypatch):
    """Evaluation during training and, of a mapped file, in a later process; a copy for another process decodes."""
    monkeypatch.setattr(caching.datasets.config, "HF_DATASETS_CACHE", tmp_path)
    decoded = []
    encoded = FrameColumn._encoded
    monkeypatch.setattr(FrameColumn, "_encoded", lambda self, *at: decoded.append(at) or encoded(self, *at))
    episodes, rows = synthetic([30, 30]), np.array([3, 59, 3])
    config = LeWMConfig(image_size=28, action_mean=[0.0, 0.0], action_std=[1.0, 1.0])
    expected, windows = episodes.frames(rows), WindowDataset(episodes, config)
    windows.keep_frames(kind)
    decoded.clear()
    np.testing.assert_array_equal(episodes.frames(rows), expected)
    WindowDataset(episodes, config, cache="ram").batch([0])
    assert not decoded
    with pytest.raises(IndexError, match="do not all exist"):
        episodes.frames([60])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(episodes)).frames(rows), expected)
    assert len(decoded) >= 3

    later = synthetic([30, 30])
    assert read_kept_frames(later) == (kind == "memmap")
    decoded.clear()
    np.testing.assert_array_equal(later.frames(rows), expected)
    assert bool(decoded) == (kind == "ram")
    windows.keep_frames(None)
    decoded.clear()
    np.testing.assert_array_equal(episodes.frames(rows), expected)
    assert len(decoded) == 3
