"""The LeRobot form of a data set, against what the format's description says and what this package's importer reads."""

import json

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.storage.lerobot import write_lerobot


@pytest.fixture(scope="module")
def lerobot_dir(room_dir, tmp_path_factory):
    return write_lerobot(room_dir, tmp_path_factory.mktemp("lerobot") / "set", task="go there")


def test_every_column_is_declared_with_its_type(lerobot_dir):
    info = json.loads((lerobot_dir / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and type(info["fps"]) is int and info["splits"] == {
        "train": "0:16", "test": "16:20",
    }  # fmt: skip
    for path in (lerobot_dir / "data").glob("*/*.parquet"):
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        assert set(schema.names) == set(info["features"])
        for name, feature in info["features"].items():
            kind = schema.field(name).type
            if feature["dtype"] == "image":
                assert {field.name for field in kind} == {"bytes", "path"} and feature["shape"] == [32, 32, 3]
                continue
            if feature["shape"] != [1]:
                assert kind.list_size == feature["shape"][0]
                kind = kind.value_type
            named = {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
            assert named == feature["dtype"], name
        for name in ("episode_index", "frame_index", "index", "task_index"):
            assert info["features"][name]["dtype"] == "int64"
        for group in range(file.num_row_groups):
            assert len(set(file.read_row_group(group, columns=["episode_index"])[0].to_pylist())) == 1


def test_metadata_leads_to_every_row(lerobot_dir, room_dir):
    info = json.loads((lerobot_dir / "meta/info.json").read_text())
    files = sorted((lerobot_dir / "data").glob("*/*.parquet"))  # the order that lerobot concatenates in
    rows = pd.concat([pq.read_table(path, columns=["episode_index", "frame_index", "index"]).to_pandas()
                      for path in files])  # fmt: skip
    np.testing.assert_array_equal(rows["index"], np.arange(info["total_frames"]))
    episodes = pq.read_table(lerobot_dir / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["episode_index"] for row in episodes] == list(range(20)) == list(range(info["total_episodes"]))
    for row in episodes:
        part = rows[row["dataset_from_index"] : row["dataset_to_index"]]
        assert (part["episode_index"] == row["episode_index"]).all() and row["tasks"] == ["go there"]
        np.testing.assert_array_equal(part["frame_index"], np.arange(row["length"]))
        where = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        inside = pq.read_table(lerobot_dir / info["data_path"].format(**where), columns=["episode_index"])
        assert row["episode_index"] in inside[0].to_pylist()
    tasks = pd.read_parquet(lerobot_dir / "meta/tasks.parquet")
    assert tasks.index.name == "task" and tasks.loc["go there", "task_index"] == 0


def test_statistics_are_those_of_the_rows(lerobot_dir, room_dir):
    stats = json.loads((lerobot_dir / "meta/stats.json").read_text())
    actions = np.concatenate([load_episodes(room_dir, split).actions for split in ("train", "test")]).astype(float)
    known = actions[np.isfinite(actions).all(1)]
    for name, value in {
        "min": known.min(0), "max": known.max(0), "mean": known.mean(0), "std": known.std(0), "count": [len(known)],
        "q01": np.percentile(known, 1, axis=0), "q50": np.median(known, 0), "q99": np.percentile(known, 99, axis=0),
    }.items():  # fmt: skip
        np.testing.assert_allclose(stats["action"][name], value, rtol=1e-6)
    image = stats["observation.image"]
    assert np.shape(image["mean"]) == (3, 1, 1) and 0 <= np.min(image["min"]) <= np.max(image["max"]) <= 1


def test_it_comes_back_bit_for_bit_and_loads_with_datasets(lerobot_dir, room_dir, tmp_path):
    mapping = tmp_path / "m.yaml"
    mapping.write_text("columns: {state: sim.state, goal: sim.goal}")
    back = import_dataset(
        "lerobot", lerobot_dir, tmp_path / "back", mapping=mapping, env="two_room", test_fraction=0, workers=1
    )
    here, there = ([load_episodes(folder, split) for split in ("train", "test")] for folder in (room_dir, back))
    for values in (lambda part: part.actions, lambda part: part.states, lambda part: part.frames(range(part.num_rows))):
        one, other = (np.concatenate([values(part) for part in parts]) for parts in (here, there))
        np.testing.assert_array_equal(one, other)
    start = len(one)
    loaded = datasets.load_dataset(str(lerobot_dir), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "test"} and sum(part.num_rows for part in loaded.values()) == start
    assert {picture.mode for picture in loaded["test"]["observation.image"][:5]} == {"RGB"}, "whatever reads it"
    assert "LeRobot" in (lerobot_dir / "README.md").read_text()


def test_what_lerobot_cannot_hold_is_refused(room_dir, lerobot_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="no data set of this package"):
        write_lerobot(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match="is not empty"):
        write_lerobot(room_dir, lerobot_dir)
    described = json.loads((room_dir / "episodes.json").read_text())
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "data").symlink_to(room_dir / "data")
    (slow / "episodes.json").write_text(json.dumps({**described, "fps": 7.5}))
    with pytest.raises(ValueError, match="7.5 frames per second"):
        write_lerobot(slow, tmp_path / "out")
    assert not (tmp_path / "out").exists()
