"""What the figures of many episodes are measured on is a data set like any other, of the size that they state."""

import time
from importlib import import_module
from pathlib import Path

import pytest

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.storage.dataset_card import data_stats

TRAINING = Path(__file__).parents[2] / "training"


def test_the_measured_data_set_is_a_real_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TRAINING))
    scale = import_module("bench_scale")
    monkeypatch.setattr(scale, "SECONDS", 0.05)
    monkeypatch.setattr(scale, "EPISODES_PER_FILE", 150)
    folder = tmp_path / "set"
    folder.mkdir()
    scale.write_episodes(folder, 400)
    facts = data_stats(folder)
    assert facts.splits == {"train": (400, 4000), "test": (10, 100)}
    assert facts.action_mean == pytest.approx([0, 0], abs=0.05) and facts.action_std == pytest.approx([1, 1], abs=0.05)
    found = scale.measure(folder, tmp_path / "cache", time.perf_counter)
    # A window is 4 frames, 5 steps apart, as are the 10 rows of an episode: 7 of them.
    assert (found["episodes"], found["rows"], found["windows"]) == (400, 4000, 2800)
    assert found["windows_per_second"] > 0
    assert found["imports_gb"] <= found["peak_gb"] + 0.01 < 10  # the kernel counts pages in batches
    pictures = load_episodes(folder, "test", cache_dir=tmp_path / "cache").frames(range(100))
    assert pictures.shape == (100, 16, 16, 3) and len({picture.tobytes() for picture in pictures}) > 20
