"""Both ways with lerobot itself, in an environment of its own: `make test-lerobot`, which sets LEROBOT_PYTHON."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from earlier import as_before

from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.storage.lerobot_copy import write_lerobot

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


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    return collect(
        "two_room", tmp_path_factory.mktemp("data") / "set", 4, image_size=32, episodes_per_file=2, workers=1,
        test_fraction=0.25, max_steps=15,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["as it is", "of one number", "copy of an earlier version's"])
def test_lerobot_opens_the_very_folder(collected, kind, tmp_path):
    """Every row with its neighbours, as its own class gives it, is ours."""
    task = "reach the goal (lewm/TwoRoom-v0)"
    if kind == "as it is":
        folder = collected
    elif kind == "of one number":  # whose actions and observations lerobot gives without a dimension
        folder, task = collect("Pendulum-v1", tmp_path / "set", 4, image_size=32, workers=1, max_steps=9), None
    else:
        shutil.copytree(collected, tmp_path / "before")
        folder, task = write_lerobot(as_before(tmp_path / "before"), tmp_path / "copy", task="go there"), "go there"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    lerobot("read", folder, tmp_path / "seen.npz")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    seen = np.load(tmp_path / "seen.npz")
    parts = [load_episodes(collected if task == "go there" else folder, split) for split in ("train", "test")]
    frames = np.concatenate([part.frames(range(part.num_rows)) for part in parts])
    actions = np.concatenate([part.actions for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    assert seen["episodes"] == 4 and (task is None or set(seen["task"]) == {task})
    ids = np.concatenate([part.episode_ids for part in parts])
    np.testing.assert_array_equal(seen["episode_index"], np.repeat(ids, lengths))
    # lerobot gives floats (rows, neighbours, channels, height, width) in [0, 1], and repeats the ends of an episode.
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    last = np.repeat(np.cumsum(lengths) - 1, lengths)
    rows = np.arange(len(frames))
    for place, step in enumerate((-1, 0, 1)):
        there = np.clip(rows + step, first, last)
        pixels = np.round(seen["observation.image"][:, place] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(pixels, frames[there])
        np.testing.assert_array_equal(seen["observation.image_is_pad"][:, place], there != rows + step)
    np.testing.assert_array_equal(seen["action"][:, 0].reshape(actions.shape), actions)
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
        # And back: test episodes are drawn, so that numbers and rows are in different orders.
        drawn = import_dataset(
            "lerobot", tmp_path / "recorded", tmp_path / "drawn", workers=1, test_fraction=0.4, seed=1
        )
        lerobot("read", drawn, tmp_path / "seen.npz")
        seen = np.load(tmp_path / "seen.npz")
        ids = np.concatenate([load_episodes(drawn, split).episode_ids for split in ("train", "test")])
        assert ids.tolist() != sorted(ids)
        np.testing.assert_array_equal(seen["episode_index"], np.repeat(ids, truth["lengths"][ids]))
        ends = np.cumsum(truth["lengths"])
        rows = np.concatenate([np.arange(ends[one] - truth["lengths"][one], ends[one]) for one in ids])
        np.testing.assert_array_equal(seen["action"][:, 0], truth["actions"][rows])
        pixels = np.round(seen["observation.image"][:, 1] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(pixels, truth["frames"][rows])
    else:  # videos are lossy; the square's place tells which frame it is
        assert difference.mean() < 6
        bright = [np.flatnonzero(pixels[:, 16, 0] > 120)[0] for pixels in found]
        expected = [4 * row for length in truth["lengths"] for row in range(length)]
        np.testing.assert_allclose(bright, expected, atol=1)
