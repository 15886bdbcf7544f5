"""A collected folder is a LeRobot data set: read as that format's description says, and as `datasets` and pandas do."""

import json
import logging
import shutil
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from earlier import as_before
from PIL import Image

from lewm_cli import main
from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.storage.dataset_card import data_stats
from lewm_hf.data.storage.layout import file_names
from lewm_hf.data.storage.lerobot_copy import write_lerobot
from lewm_hf.hub.cards.write import write_dataset_card

from ..conftest import synthetic_columns


@pytest.fixture(scope="module")
def before_dir(room_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("before") / "set"
    shutil.copytree(room_dir, folder)
    return as_before(folder)


@pytest.fixture(params=["room_dir", "copied"])
def lerobot_dir(request, room_dir, before_dir, tmp_path):
    """A folder as it is collected, and the copy that is made of an earlier version's."""
    return room_dir if request.param == "room_dir" else write_lerobot(before_dir, tmp_path / "copy", task="go there")


def declared(feature) -> datasets.features.Features:
    """The type that lerobot reads a declared column as (its `get_hf_features_from_features`)."""
    if feature["dtype"] == "image":
        return datasets.Image()
    value = datasets.Value(feature["dtype"])
    return value if feature["shape"] == [1] else datasets.Sequence(value, length=feature["shape"][0])


def as_lerobot_reads(folder: Path) -> datasets.Dataset:
    """All rows, from the files one folder down in the order of their names, cast to what is declared."""
    info = json.loads((folder / "meta/info.json").read_text())
    features = datasets.Features({name: declared(feature) for name, feature in info["features"].items()})
    tables = [pq.read_table(path) for path in sorted((folder / "data").glob("*/*.parquet"))]
    for table in tables:
        assert set(table.column_names) == set(features)
        for name, feature in features.items():
            assert table.schema.field(name).type == feature_type(feature), name
    table = pa.concat_tables([table.select(list(features)) for table in tables])
    return datasets.Dataset(table.replace_schema_metadata(None).cast(features.arrow_schema))


def feature_type(feature) -> pa.DataType:
    return datasets.Features({"x": feature}).arrow_schema.field("x").type


def test_the_rows_are_those_that_lerobot_would_read(lerobot_dir, room_dir):
    rows = as_lerobot_reads(lerobot_dir)
    info = json.loads((lerobot_dir / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and type(info["fps"]) is int
    assert info["splits"] == {"train": "0:16", "test": "16:20"}
    assert info["features"]["observation.image"]["shape"] == [32, 32, 3]
    for name in ("episode_index", "frame_index", "index", "task_index"):
        assert info["features"][name]["dtype"] == "int64"
    np.testing.assert_array_equal(rows["index"][:], np.arange(info["total_frames"]))
    np.testing.assert_allclose(rows["timestamp"][:], np.array(rows["frame_index"][:]) / info["fps"], rtol=1e-6)
    ours = [load_episodes(room_dir, split) for split in ("train", "test")]
    np.testing.assert_array_equal(
        np.array(rows["action"][:], np.float32), np.concatenate([part.actions for part in ours])
    )
    frames = np.concatenate([part.frames(range(part.num_rows)) for part in ours])
    for row in (0, 7, len(frames) - 1):
        picture = rows[row]["observation.image"]
        assert picture.mode == "RGB", "nobody converts it"
        np.testing.assert_array_equal(np.asarray(picture), frames[row])


def test_metadata_leads_to_every_row(lerobot_dir):
    info = json.loads((lerobot_dir / "meta/info.json").read_text())
    files = sorted((lerobot_dir / "data").glob("*/*.parquet"))  # the order that lerobot concatenates in
    rows = pd.concat([pq.read_table(path, columns=["episode_index", "frame_index", "index"]).to_pandas()
                      for path in files])  # fmt: skip
    np.testing.assert_array_equal(rows["index"], np.arange(info["total_frames"]))
    episodes = pq.read_table(lerobot_dir / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["episode_index"] for row in episodes] == list(range(20)) == list(range(info["total_episodes"]))
    tasks = pd.read_parquet(lerobot_dir / "meta/tasks.parquet")
    assert tasks.index.name == "task" and list(tasks["task_index"]) == [0]
    for row in episodes:
        part = rows[row["dataset_from_index"] : row["dataset_to_index"]]
        assert (part["episode_index"] == row["episode_index"]).all() and row["tasks"] == [tasks.index[0]]
        np.testing.assert_array_equal(part["frame_index"], np.arange(row["length"]))
        where = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        inside = pq.read_table(lerobot_dir / info["data_path"].format(**where), columns=["episode_index"])
        assert row["episode_index"] in inside[0].to_pylist()


def test_the_task_in_words_is_what_the_collector_says(room_dir, before_dir, tmp_path, capsys):
    """By default the environment's name, as before the option was; files are the same but for it and their key."""
    small = ["two_room", "--episodes", "3", "--image-size", "16", "--max-steps", "6", "--workers", "1", "--out"]
    words = ["--task-sentence", "go through the door"]
    assert main(["collect", *small, str(tmp_path / "plain")]) == 0
    assert main(["collect", *small, str(tmp_path / "said"), *words]) == 0

    def told(folder):
        info = json.loads((folder / "meta/info.json").read_text())
        (episodes,) = (folder / "meta/episodes").rglob("*.parquet")
        found = {name for row in pq.read_table(episodes, columns=["tasks"]).to_pylist() for name in row["tasks"]}
        return info["total_tasks"], list(pd.read_parquet(folder / "meta/tasks.parquet").index), found

    assert told(tmp_path / "said") == (1, ["go through the door"], {"go through the door"})
    name = "reach the goal (lewm/TwoRoom-v0)"
    assert told(tmp_path / "plain") == told(room_dir) == (1, [name], {name})
    assert "task_sentence" not in (room_dir / "episodes.json").read_text()
    said, plain = (
        [str(pq.read_table(path).to_pylist()) for path in sorted((tmp_path / name / "data").rglob("*.parquet"))]
        for name in ("said", "plain")
    )
    assert said == plain
    data_stats(tmp_path / "said")
    copied = write_lerobot(tmp_path / "said", tmp_path / "copied")
    assert told(copied) == told(tmp_path / "said") != told(write_lerobot(before_dir, tmp_path / "old"))
    capsys.readouterr()
    for other in ([], ["--task-sentence", "stay"]):
        assert main(["collect", *small, str(tmp_path / "said"), *other]) == 2
        assert "was collected with task_sentence='go through the door', not" in capsys.readouterr().err
    assert main(["collect", *small, str(tmp_path / "new"), "--task-sentence", " "]) == 2
    assert "task_sentence=' ' must be one line of words" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


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


def test_vectors_of_one_number_are_numbers(tmp_path):
    columns = synthetic_columns([4, 6, 5], action_dim=1)
    columns["angle"] = np.arange(15.0).tolist()
    table = datasets.Dataset.from_dict(columns).cast_column("observation.image", datasets.Image())
    (tmp_path / "table").mkdir()
    table.to_parquet(str(tmp_path / "table" / "rows.parquet"))
    mapping = tmp_path / "m.yaml"
    mapping.write_text("fps: 5\ncolumns: {observation: angle}\nfit: stretch")
    out = import_dataset("table", tmp_path / "table", tmp_path / "set", mapping=mapping, image_size=8, workers=1)
    rows = as_lerobot_reads(out)
    info = json.loads((out / "meta/info.json").read_text())
    assert [info["features"][name]["shape"] for name in ("action", "observation.state")] == [[1], [1]]
    parts = [load_episodes(out, split, cache_dir=tmp_path) for split in ("train", "test")]
    assert parts[0].actions.shape == (parts[0].num_rows, 1) == parts[0].observations.shape
    for name, values in (("action", "actions"), ("observation.state", "observations")):
        ours = np.concatenate([getattr(part, values)[:, 0] for part in parts])
        np.testing.assert_array_equal(np.array(rows[name][:], np.float32), ours)
    data_stats(out)
    before = load_episodes(as_before(out), cache_dir=tmp_path)  # lists of one
    np.testing.assert_array_equal(before.actions, parts[0].actions)


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
    assert "- LeRobot\n" in (lerobot_dir / "README.md").read_text()


def test_what_was_imported_is_one_too(room_dir, tmp_path, caplog):
    """Test episodes are drawn, so that no stretch of numbers tells the splits; numbers with gaps are refused there."""
    plain = {"workers": 1, "test_fraction": 0.3, "episodes_per_file": 7}
    out = import_dataset("lerobot", room_dir, tmp_path / "whole", mapping=None, **plain)
    rows = as_lerobot_reads(out)
    assert Image.Image.convert(rows[3]["observation.image"], "RGB").size == (32, 32)
    assert json.loads((out / "meta/info.json").read_text())["splits"] in (
        {"train": "0:20"}, {"train": "0:16", "test": "16:20"},
    )  # fmt: skip
    skip = tmp_path / "m.yaml"
    skip.write_text("skip_episodes: [2]")
    with caplog.at_level(logging.INFO):
        out = import_dataset("lerobot", room_dir, tmp_path / "gaps", mapping=skip, **plain)
    assert "is not a LeRobot data set: its episodes are not numbered from 0 without gaps" in caplog.text
    assert not (out / "meta").exists() and "LeRobot" not in (out / "README.md").read_text()
    copied = as_lerobot_reads(write_lerobot(out, tmp_path / "copied"))
    assert sorted(set(copied["episode_index"][:])) == list(range(19))


def test_frames_per_second_that_lerobot_cannot_say(tmp_path, room_dir, caplog):
    """Ten frames a second, every fourth of them."""
    with caplog.at_level(logging.INFO):
        out = collect("two_room", tmp_path / "set", 2, image_size=16, workers=1, max_steps=12, every=4)
    assert "is not a LeRobot data set: it has 2.5 frames per second, but LeRobot knows whole numbers" in caplog.text
    assert not (out / "meta").exists() and "LeRobot" not in (out / "README.md").read_text()
    assert len(load_episodes(out)) == 1
    with pytest.raises(ValueError, match="2.5 frames per second"):
        write_lerobot(out, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_an_earlier_version_is_read_as_before(before_dir, room_dir, tmp_path, caplog):
    for split in ("train", "test"):
        before, now = (load_episodes(folder, split, cache_dir=tmp_path) for folder in (before_dir, room_dir))
        np.testing.assert_array_equal(before.actions, now.actions)
        np.testing.assert_array_equal(before.frames(range(before.num_rows)), now.frames(range(now.num_rows)))
        np.testing.assert_array_equal(before.states, now.states)
    write_dataset_card(before_dir)
    data_stats(before_dir)
    assert "LeRobot" not in (before_dir / "README.md").read_text()
    loaded = datasets.load_dataset(str(before_dir), cache_dir=str(tmp_path / "cache"))
    assert loaded["test"].num_rows == now.num_rows
    content = {path: path.read_bytes() for path in before_dir.rglob("*.parquet")}
    same = {"seed": 7, "image_size": 32, "episodes_per_file": 3, "workers": 1, "test_fraction": 0.2}
    with caplog.at_level(logging.INFO):
        collect("two_room", before_dir, 20, **same)
    assert "nothing to do" in caplog.text
    unfinished = tmp_path / "unfinished"
    shutil.copytree(before_dir, unfinished)
    next((unfinished / "data").glob("train-*")).unlink()
    with pytest.raises(ValueError, match="was begun by lewm-hf .* finish it with that version, or give another"):
        collect("two_room", unfinished, 20, **same)
    assert content == {path: path.read_bytes() for path in before_dir.rglob("*.parquet")}


def test_files_beyond_a_chunk(tmp_path):
    names = file_names({"train": 1002, "test": 2})
    assert names["train"][999:] == [f"data/chunk-{c:03d}/file-{f:03d}.parquet" for c, f in ((0, 999), (1, 0), (1, 1))]
    assert names["test"] == ["data/chunk-002/file-000.parquet", "data/chunk-002/file-001.parquet"]
    every = names["train"] + names["test"]
    assert every == sorted(every), "the order that lerobot reads them in is that of the rows"


def test_what_lerobot_cannot_hold_is_refused(room_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="not a data set of this package"):
        write_lerobot(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match="is not empty"):
        write_lerobot(room_dir, room_dir)
    copy = tmp_path / "copy"
    shutil.copytree(room_dir, copy)
    (copy / "meta/tasks.parquet").unlink()
    with pytest.raises(ValueError, match="lacks meta/tasks.parquet"):
        data_stats(copy)
    (copy / "meta/info.json").write_text("{}")
    with pytest.raises(ValueError, match="is damaged .* delete the folder meta"):
        data_stats(copy)
