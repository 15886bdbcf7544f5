"""Tables of `datasets` with columns of any name, against the arrays that they were made of."""

import datasets
import numpy as np
import pytest

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.importers.mapping import ColumnMapping

from . import foreign

KEYS = ColumnMapping(image="camera", action=("command",), episode="take", frame="n", fps=5.0)


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows((4, 6, 5))


def write(folder, rows, order=None, **changed):
    order = np.arange(len(rows.pixels)) if order is None else order
    columns = {
        "camera": [{"bytes": foreign.png(rows.pixels[row]), "path": None} for row in order],
        "command": rows.action[order].tolist(),
        "take": [f"take {rows.episode[row]}" for row in order],
        "n": rows.frame[order].tolist(),
        **changed,
    }
    table = datasets.Dataset.from_dict(columns).cast_column("camera", datasets.Image())
    folder.mkdir(parents=True)
    table.to_parquet(folder / "rows.parquet")
    return folder


def test_rows_of_any_order_and_names(rows, tmp_path):
    folder = write(tmp_path / "set", rows, np.random.default_rng(0).permutation(len(rows.pixels)))
    out = import_dataset("table", folder, tmp_path / "out", mapping=KEYS, test_fraction=0, workers=1)
    parts = [load_episodes(out, split, cache_dir=tmp_path / "cache") for split in ("train", "test")]
    np.testing.assert_array_equal(np.concatenate([part.lengths for part in parts]), rows.lengths)
    np.testing.assert_array_equal(np.concatenate([part.actions for part in parts]), rows.action)
    frames = np.concatenate([part.frames(range(part.num_rows)) for part in parts])
    np.testing.assert_array_equal(frames, rows.pixels)


def test_tables_that_contradict_themselves(rows, tmp_path):
    for number, (changed, message) in enumerate(
        [
            ({"n": [0] * 15}, "does not have the frames 0 to 3, each once"),
            ({"command": [[1.0]] * 14 + [[1.0, 2.0]]}, "vectors of different sizes"),
            ({"command": ["left"] * 15}, "expected numbers"),
            ({"take": [None] * 15}, "rows without take"),
        ]
    ):
        folder = write(tmp_path / str(number), rows, **changed)
        with pytest.raises(ValueError, match=message) as error:
            import_dataset("table", folder, tmp_path / "out", mapping=KEYS)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no column 'episode_index' that tells episodes apart"):
        import_dataset("table", folder, tmp_path / "out", mapping=ColumnMapping(image="camera", action=("command",)))
    assert not (tmp_path / "out").exists()


def test_a_table_trains_by_the_names_of_its_columns(rows, tmp_path):
    """A Parquet file in any order, a folder that sets its own episodes apart, and what the errors name."""
    order = np.random.default_rng(1).permutation(len(rows.pixels))
    file = write(tmp_path / "one", rows, order, speed=rows.state[order, 0].tolist()) / "rows.parquet"
    keys = {"image_key": "camera", "action_key": "command", "episode_key": "take", "fps": 5.0}
    with pytest.raises(ValueError, match="no column 'episode_index' that tells episodes apart: .* or episode_key"):
        load_episodes(file, cache_dir=tmp_path / "cache", image_key="camera", action_key="command")
    with pytest.raises(ValueError, match="nothing tells the frames per second .* in a recipe"):
        unknown = {name: value for name, value in keys.items() if name != "fps"}
        load_episodes(write(tmp_path / "in order", rows), cache_dir=tmp_path / "cache", **unknown)
    folder = tmp_path / "split"
    for split, episodes in (("train", (0, 2)), ("test", (1,))):
        members = np.flatnonzero(np.isin(rows.episode, episodes))
        part = write(tmp_path / f"{split} part", rows, members, speed=rows.state[members, 0].tolist())
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (part / "rows.parquet").rename(folder / "data" / f"{split}-00000-of-00001.parquet")
    parts = {split: load_episodes(folder, split, cache_dir=tmp_path / "cache", **keys) for split in ("train", "test")}
    for split, episodes in (("train", (0, 2)), ("test", (1,))):
        members = np.isin(rows.episode, episodes)
        np.testing.assert_array_equal(parts[split].actions, rows.action[members])
        np.testing.assert_array_equal(parts[split].numbers("speed")[:, 0], rows.state[members, 0])
        np.testing.assert_array_equal(parts[split].frames(range(int(members.sum()))), rows.pixels[members])
