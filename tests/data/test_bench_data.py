"""The readers that the loader is compared with read the very windows that it reads."""

from importlib import import_module
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from lewm_hf import LeWMConfig
from lewm_hf.data.windows import WindowDataset

TRAINING = Path(__file__).parents[2] / "training"


@pytest.mark.parametrize("name", ["as_documented", "only_what_is_used", "hdf5"])
def test_baselines_read_the_same_window(name, room, room_dir, arrow_cache, tmp_path, monkeypatch):
    pytest.importorskip("hdf5plugin")
    monkeypatch.syspath_prepend(str(TRAINING))
    baselines = import_module("data_baselines")
    config = LeWMConfig(action_dim=2, action_mean=[0.0, 0.0], action_std=[1.0, 1.0])
    windows = WindowDataset(room, config)
    span, start = windows.span, int(windows.starts([3])[0])
    wanted = windows.batch([3])
    if name == "hdf5":
        baselines.write_hdf5(tmp_path / "frames.h5", room)
        with baselines.hdf5(tmp_path / "frames.h5", span, config.frameskip) as read:
            frames, actions = read(start)
    else:
        table = datasets.load_dataset(str(room_dir), split="train", cache_dir=str(arrow_cache))
        frames, actions = getattr(baselines, name)(table, span, config.frameskip)(start)
    np.testing.assert_array_equal(frames, wanted["pixel_values"][0])
    torch.testing.assert_close(torch.nan_to_num(actions), wanted["actions"][0])


def test_forgotten_pages_are_read_again(room, tmp_path, monkeypatch):
    pytest.importorskip("hdf5plugin")
    monkeypatch.syspath_prepend(str(TRAINING))
    baselines = import_module("data_baselines")
    config = LeWMConfig(action_dim=2, action_mean=[0.0, 0.0], action_std=[1.0, 1.0])
    mapped = WindowDataset(room, config, cache="memmap", cache_dir=tmp_path)
    before = mapped.batch([0, 5])["pixel_values"].clone()
    baselines.forget_pages(mapped._cache)
    assert torch.equal(mapped.batch([0, 5])["pixel_values"], before)
