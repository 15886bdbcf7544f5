"""Both ways with lerobot itself, in an environment of its own: `make test-lerobot`, which sets LEROBOT_PYTHON."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.storage.lerobot import write_lerobot

PYTHON = os.environ.get("LEROBOT_PYTHON")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(PYTHON is None, reason="needs LEROBOT_PYTHON, the Python of an environment with lerobot"),
]


def lerobot(*arguments) -> None:
    script = Path(__file__).with_name("lerobot_side.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run([PYTHON, script, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]


def test_lerobot_opens_what_was_collected(tmp_path):
    collected = collect(
        "two_room", tmp_path / "set", 4, image_size=32, episodes_per_file=2, workers=1, test_fraction=0.25, max_steps=15
    )
    lerobot("read", write_lerobot(collected, tmp_path / "lerobot", task="go there"), tmp_path / "seen.npz")
    seen = np.load(tmp_path / "seen.npz")
    parts = [load_episodes(collected, split) for split in ("train", "test")]
    frames = np.concatenate([part.frames(range(part.num_rows)) for part in parts])
    actions = np.concatenate([part.actions for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    assert seen["episodes"] == 4 and set(seen["task"]) == {"go there"}
    np.testing.assert_array_equal(seen["episode_index"], np.repeat(range(4), lengths))
    # lerobot gives floats (rows, neighbours, channels, height, width) in [0, 1], and repeats the ends of an episode.
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    last = np.repeat(np.cumsum(lengths) - 1, lengths)
    rows = np.arange(len(frames))
    for place, step in enumerate((-1, 0, 1)):
        there = np.clip(rows + step, first, last)
        pixels = np.round(seen["observation.image"][:, place] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(pixels, frames[there])
        np.testing.assert_array_equal(seen["observation.image_is_pad"][:, place], there != rows + step)
    np.testing.assert_array_equal(seen["action"][:, 0], actions)
    np.testing.assert_allclose(seen["mean"], np.nanmean(actions.astype(float), 0), rtol=1e-6)
    assert seen["image_mean"].shape == (3, 1, 1)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_lerobot_recorded_is_imported(kind, tmp_path):
    lerobot("write", tmp_path / "recorded", tmp_path / "truth.npz", kind)
    truth = np.load(tmp_path / "truth.npz")
    out = import_dataset("lerobot", tmp_path / "recorded", tmp_path / "out", workers=1, test_fraction=0)
    parts = [load_episodes(out, split) for split in ("train", "test")]
    np.testing.assert_array_equal(np.concatenate([part.lengths for part in parts]), truth["lengths"])
    np.testing.assert_array_equal(np.concatenate([part.actions for part in parts]), truth["actions"])
    found = np.concatenate([part.frames(range(part.num_rows)) for part in parts]).astype(int)
    difference = np.abs(found - truth["frames"])
    if kind == "image":
        assert difference.max() == 0
    else:  # videos are lossy; the square's place tells which frame it is
        assert difference.mean() < 6
        bright = [np.flatnonzero(pixels[:, 16, 0] > 120)[0] for pixels in found]
        expected = [4 * row for length in truth["lengths"] for row in range(length)]
        np.testing.assert_allclose(bright, expected, atol=1)
