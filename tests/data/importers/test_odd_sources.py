"""Sources as they come from other programs: times with units, missing lists, empty episodes, odd columns."""

import datetime
import json
import logging

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.importers.mapping import ColumnMapping
from lewm_hf.data.storage.parquet import vectors

from . import foreign
from .test_table import write

LENGTHS = (4, 6, 5)
KEYS = {"image_key": "camera", "action_key": "command", "episode_key": "take"}


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows(LENGTHS)


def load(folder, tmp_path, **more):
    return load_episodes(folder, cache_dir=tmp_path / "cache", **{**KEYS, **more})


def one_line(error):
    return "\n" not in str(error.value)


START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "stamps",
    [
        lambda seconds: [START + datetime.timedelta(seconds=second) for second in seconds],
        lambda seconds: pa.array([round(second * 1e9) + 1_700_000_000_000_000_000 for second in seconds]).cast(
            pa.timestamp("ns")
        ),
        lambda seconds: pa.array([round(second * 1e3) for second in seconds]).cast(pa.duration("ms")),
        lambda seconds: list(seconds),
    ],
)
def test_times_with_units_tell_the_frames_per_second(stamps, rows, tmp_path):
    folder = write(tmp_path / "set", rows)
    table = pq.read_table(folder / "rows.parquet")
    pq.write_table(table.append_column("timestamp", pa.array(stamps(rows.frame * 0.04))), folder / "rows.parquet")
    assert load(folder, tmp_path).fps == 25


@pytest.mark.parametrize("step", [40, 40_000_000, 1])
def test_times_of_an_unknown_unit_are_refused_unless_the_rate_is_said(step, rows, tmp_path):
    """Whole numbers could be milliseconds, nanoseconds or seconds."""
    folder = write(tmp_path / "set", rows, timestamp=(rows.frame * step).tolist())
    with pytest.raises(ValueError, match="timestamp of .* grows by .* from a row to the next .*: give fps") as error:
        load(folder, tmp_path)
    assert f"{step:g}" in str(error.value) and one_line(error)
    assert load(folder, tmp_path, fps=25.0).fps == 25


def test_rows_without_a_frame_index_come_in_the_order_of_their_times(rows, tmp_path):
    order = [1, 0, *range(2, 15)]
    folder = write(tmp_path / "set", rows, order, timestamp=(rows.frame[order] / 10).tolist())
    table = pq.read_table(folder / "rows.parquet").drop(["n"])
    pq.write_table(table, folder / "rows.parquet")
    with pytest.raises(ValueError, match="row 1 of .* has a timestamp that is not later") as error:
        load(folder, tmp_path, fps=10.0)
    assert one_line(error)


def test_a_missing_list_is_a_missing_action(rows, tmp_path):
    """Many programs write nothing where no action was taken, others NaN: only an episode's last may be missing."""
    ends = np.cumsum(LENGTHS) - 1
    actions = [None if row in ends else rows.action[row].tolist() for row in range(sum(LENGTHS))]
    loaded = load(write(tmp_path / "set", rows, command=actions), tmp_path, fps=10.0)
    last = loaded.offsets + loaded.lengths - 1
    assert np.isnan(loaded.actions[last]).all() and np.isfinite(np.delete(loaded.actions, last, 0)).all()
    actions[6] = None
    with pytest.raises(ValueError, match=r"episode 1, frame 2 of .* has action=\[nan nan\]") as error:
        load(write(tmp_path / "broken", rows, command=actions), tmp_path, fps=10.0)
    assert one_line(error)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
def test_vectors_of_every_kind_of_list(kind):
    given = [[1.0, 2.0], None, [3.0, None], [5.0, 6.0], None]
    expected = [[np.nan, np.nan] if row is None else [np.nan if x is None else x for x in row] for row in given]
    whole = pa.chunked_array([pa.array([None, *given[:2]], kind), pa.array([], kind), pa.array(given[2:], kind)])
    np.testing.assert_array_equal(vectors(whole[1:]), expected)
    if not pa.types.is_fixed_size_list(kind):
        with pytest.raises(ValueError, match="row 2 has 1 entries, the rows before have 2"):
            vectors(pa.chunked_array([pa.array([[1.0, 2.0], None, [3.0]], kind)]))


def test_what_tells_episodes_apart_is_a_number_or_a_name(rows, tmp_path):
    folder = write(tmp_path / "set", rows, take=[[int(episode)] for episode in rows.episode])
    with pytest.raises(ValueError, match="column 'take' of .* expected a number or a name") as error:
        load(folder, tmp_path, fps=10.0)
    assert one_line(error)


def test_a_damaged_picture_is_named_by_its_row(rows, tmp_path):
    pictures = [{"bytes": foreign.png(frame), "path": None} for frame in rows.pixels]
    pictures[7]["bytes"] = b"no picture"
    with pytest.raises(ValueError, match="row 7 of .*rows.parquet|row 7 of .*set") as error:
        load(write(tmp_path / "set", rows, camera=pictures), tmp_path, fps=10.0)
    assert one_line(error)


def test_other_columns_that_cannot_be_kept_do_not_matter(rows, tmp_path):
    """A column of numbers with the name of a column that is written anyway, and lists without numbers."""
    count = len(rows.pixels)
    more = {"observation.image": [1.0] * count, "none": [[]] * count, "speed": rows.state[:, 0].tolist()}
    loaded = load(write(tmp_path / "set", rows, **more), tmp_path, fps=10.0)
    assert {"speed"} == set(loaded.column_names) & {"speed", "none"}
    np.testing.assert_array_equal(loaded.frames([0])[0], rows.pixels[loaded.offsets[0]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fps": 0.0}, "fps=0.0 must be a number above 0"),
        ({"fps": -1.0}, "fps=-1.0 must be a number above 0"),
        ({"fps": float("nan")}, "fps=nan must be a number above 0"),
        ({"fit": "zoom"}, "fit='zoom' is unknown: use one of crop, pad, stretch"),
        ({"image": ("top", "top")}, r"image names a column twice \(top, top\)"),
        ({"action": ("arm", "arm")}, r"action names a column twice \(arm, arm\)"),
        ({"keep": ("episode_index",)}, "keep names episode_index, which every data set"),
    ],
)
def test_mappings_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message) as error:
        ColumnMapping(**given)
    assert one_line(error)


def change_info(folder, change):
    file = folder / "meta/info.json"
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))


def add_column(folder, name, values):
    """A column of `values(rows)` in every file of a LeRobot data set."""
    for file in sorted(folder.glob("data/*/*.parquet")):
        table = pq.read_table(file)
        pq.write_table(table.append_column(name, values(len(table))), file)


def test_lerobot_features_that_cannot_be_kept_do_not_keep_it_from_training(rows, tmp_path):
    folder = foreign.write_lerobot(tmp_path / "set", rows)
    add_column(folder, "pose", lambda count: pa.array([[[1.0, 0.0], [0.0, 1.0]]] * count))
    add_column(folder, "nothing", lambda count: pa.nulls(count))
    add_column(folder, "observation.image", lambda count: pa.array([1.0] * count))
    add_column(folder, "grip", lambda count: pa.array(np.arange(count, dtype=float)))

    def change(info):
        shapes = {"pose": [2, 2], "nothing": [1], "absent": [1], "observation.image": [1], "grip": [1]}
        info["features"] |= {name: {"dtype": "float32", "shape": shape} for name, shape in shapes.items()}

    change_info(folder, change)
    loaded = load_episodes(folder, cache_dir=tmp_path / "cache")
    assert {"grip"} == set(loaded.column_names) & {"pose", "nothing", "absent", "grip"}
    np.testing.assert_array_equal(loaded.numbers("grip")[:4, 0], np.arange(4))


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_episodes_without_a_row_are_left_out(version, tmp_path, caplog):
    """A recording that was broken off at once stays in LeRobot's metadata."""
    source = foreign.make_rows((4, 6, 5))
    folder = foreign.write_lerobot(tmp_path / "set", source, version, packs=((0, 1, 2),))
    change_info(folder, lambda info: info.update(total_episodes=4))
    if version == "v2.1":
        with open(folder / "meta/episodes.jsonl", "a") as file:
            file.write(json.dumps({"episode_index": 3, "tasks": ["go"], "length": 0}) + "\n")
    else:
        file = folder / "meta/episodes/chunk-000/file-000.parquet"
        found = pq.read_table(file).to_pylist()
        pq.write_table(pa.Table.from_pylist([*found, {**found[-1], "episode_index": 3, "length": 0}]), file)
    with caplog.at_level(logging.WARNING):
        out = import_dataset("lerobot", folder, tmp_path / "out", workers=1, test_fraction=0)
    assert "1 episodes without a row, which are left out" in caplog.text
    loaded = [load_episodes(out, split, cache_dir=tmp_path / "cache") for split in ("train", "test")]
    assert np.concatenate([part.lengths for part in loaded]).tolist() == [4, 6, 5]


def test_features_of_no_kind_are_refused(rows, tmp_path):
    folder = foreign.write_lerobot(tmp_path / "set", rows)
    change_info(folder, lambda info: info["features"].update(odd={"dtype": None, "shape": [1]}))
    with pytest.raises(ValueError, match="describes 'odd' as .* expected dtype, shape and names") as error:
        load_episodes(folder, cache_dir=tmp_path / "cache")
    assert one_line(error)


def test_json_with_a_byte_order_mark(rows, tmp_path):
    folder = foreign.write_lerobot(tmp_path / "set", rows)
    for file in (folder / "meta/info.json", folder / "meta/episodes.jsonl"):
        file.write_text(file.read_text(), encoding="utf-8-sig")
    assert len(load_episodes(folder, cache_dir=tmp_path / "cache")) == 2


def test_hdf5_of_another_layout_says_what_it_is(rows, tmp_path):
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        file["walks/first/actions"] = np.zeros((3, 2))
    with pytest.raises(ValueError, match="no columns at its top, but walks: this layout has") as error:
        load_episodes(tmp_path / "demos.hdf5", cache_dir=tmp_path / "cache")
    assert one_line(error)
    file = foreign.write_hdf5(tmp_path / "set.h5", rows, ep_len=15)
    with pytest.raises(ValueError, match=r"column 'ep_len' of .* is \(\) int64, expected \(episodes,\)") as error:
        load_episodes(file, cache_dir=tmp_path / "cache", fps=10.0)
    assert one_line(error)


def test_hdf5_with_links_and_columns_of_no_numbers(rows, tmp_path):
    path = foreign.write_hdf5(tmp_path / "set.h5", rows, empty=np.zeros((15, 0)), speed=rows.state[:, 0])
    with h5py.File(path, "a") as file:
        file["gone"] = h5py.SoftLink("/nowhere")
    loaded = load_episodes(path, cache_dir=tmp_path / "cache", fps=10.0)
    assert {"speed"} == set(loaded.column_names) & {"empty", "gone", "speed"}
    with pytest.raises(ValueError, match="action of .* has no numbers in episode 0") as error:
        load_episodes(path, cache_dir=tmp_path / "cache", fps=10.0, action_key="empty")
    assert one_line(error)


def every_row(folder, tmp_path, **more):
    """Actions and frames of both splits in the order of the source, as long as it is drawn without a shuffle."""
    parts = [load(folder, tmp_path, split=split, **more) for split in ("train", "test")]
    return {tuple(frame.ravel()): tuple(action) for part in parts
            for frame, action in zip(part.frames(range(part.num_rows)), part.actions, strict=True)}  # fmt: skip


def as_written(rows):
    return {tuple(frame.ravel()): tuple(action) for frame, action in zip(rows.pixels, rows.action, strict=True)}


def test_a_column_called_frame_may_hold_pictures_or_names(rows, tmp_path):
    """Only numbers put rows in order by themselves."""
    folder = write(tmp_path / "names", rows, frame=[f"shot_{row:03d}.png" for row in range(15)])
    assert every_row(folder, tmp_path, fps=10.0) == as_written(rows)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    takes = [f"take {episode}" for episode in rows.episode]
    for kind, frames in (
        ("bytes", [foreign.png(frame) for frame in rows.pixels]),
        ("struct", [{"bytes": foreign.png(frame), "path": None} for frame in rows.pixels]),
    ):
        pq.write_table(pa.table({"frame": frames, "command": rows.action.tolist(), "take": takes}),
                       pictures / f"{kind}.parquet")  # fmt: skip
        assert every_row(pictures / f"{kind}.parquet", tmp_path, fps=10.0, image_key="frame") == as_written(rows)
    with pytest.raises(ValueError, match="no column of numbers 'take' for the frame: there are n") as error:
        import_dataset("table", write(tmp_path / "again", rows), tmp_path / "out", mapping=ColumnMapping(
            image="camera", action=("command",), episode="take", frame="take", fps=10.0))  # fmt: skip
    assert one_line(error)


@pytest.mark.parametrize("name", ["run[1] übung", "csv", "imagefolder"])
def test_folders_whose_names_mean_something_to_datasets(name, rows, tmp_path, monkeypatch):
    """Brackets are a pattern to it, and `csv` a kind of file; macOS leaves files beside others."""
    folder = write(tmp_path / name, rows)
    (folder / "._rows.parquet").write_bytes(b"Mac OS X")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # what is kept of the first time is no data of the next
        assert every_row(name, tmp_path, fps=10.0) == as_written(rows)


@pytest.mark.parametrize("kind", ["paths", "structs"])
def test_pictures_beside_a_table_are_found_and_looked_at_again(kind, rows, tmp_path):
    (tmp_path / "set/shots").mkdir(parents=True)
    for row, frame in enumerate(rows.pixels):
        (tmp_path / f"set/shots/{row}.png").write_bytes(foreign.png(frame))
    file, paths = tmp_path / "set/rows.parquet", [f"shots/{row}.png" for row in range(15)]
    cameras = {"paths": paths, "structs": [{"bytes": None, "path": path} for path in paths]}
    columns = {
        "camera": cameras[kind],
        "command": rows.action.tolist(),
        "take": [f"take {one}" for one in rows.episode],
    }
    pq.write_table(pa.table(columns), file)
    assert every_row(file, tmp_path, fps=10.0) == as_written(rows)
    changed = foreign.make_rows(LENGTHS)
    changed.pixels[4] = 255 - changed.pixels[4]
    (tmp_path / "set/shots/4.png").write_bytes(foreign.png(changed.pixels[4]))
    assert every_row(file, tmp_path, fps=10.0) == as_written(changed)
    (tmp_path / "set/shots/4.png").unlink()
    with pytest.raises(ValueError, match="row 4 of .* has no picture, and there is no shots/4.png") as error:
        load(file, tmp_path, fps=10.0)
    assert one_line(error)


def test_one_recording_is_too_few_and_nothing_was_skipped(rows, tmp_path):
    with pytest.raises(ValueError, match="has 1 episodes to import, expected at least 2: one is held out") as error:
        load(write(tmp_path / "set", rows, take=["walk"] * 15, n=list(range(15))), tmp_path, fps=10.0)
    assert one_line(error)


def test_clock_times_and_file_names_in_a_csv_are_no_numbers(rows, tmp_path):
    """Loggers write them beside the numbers; a column that holds a number counts as before."""
    pytest.importorskip("av")
    folder = foreign.write_mp4csv(tmp_path / "walks", rows, single=True)
    lines = (folder / "rows.csv").read_text().splitlines()
    frames = np.concatenate([np.arange(length) for length in LENGTHS])
    more = [f"2026-03-01T12:00:{row:02d}Z,shot_{frame:03d}.png" for row, frame in enumerate(frames)]
    (folder / "rows.csv").write_text(
        "\n".join([f"{lines[0]},timestamp,frame", *(f"{a},{b}" for a, b in zip(lines[1:], more, strict=True))])
    )
    loaded = load_episodes(folder, cache_dir=tmp_path / "cache")
    assert not {"timestamp", "frame"} & {*loaded.column_names} - {"timestamp"} and loaded.num_rows < 15
    broken = [f"{line},{frame if frame != 2 else 'two'}" for line, frame in zip(lines[1:], frames, strict=True)]
    (folder / "rows.csv").write_text("\n".join([f"{lines[0]},frame", *broken]))
    with pytest.raises(ValueError, match="line 4: frame='two' is not a number") as error:
        load_episodes(folder, cache_dir=tmp_path / "cache")
    assert one_line(error)


def test_lerobot_keeps_half_precision_and_names_what_it_has_instead_of_a_camera(rows, tmp_path):
    folder = foreign.write_lerobot(tmp_path / "set", rows)
    add_column(folder, "grip", lambda count: pa.array(np.arange(count, dtype=np.float16)))
    change_info(folder, lambda info: info["features"].update(grip={"dtype": "float16", "shape": [1]}))
    loaded = load_episodes(folder, cache_dir=tmp_path / "cache", action_key="grip")
    np.testing.assert_array_equal(loaded.actions[:4, 0], np.arange(4))
    change_info(folder, lambda info: info["features"].pop("observation.images.top"))
    with pytest.raises(ValueError, match="has no camera, but observation.state, action.*learns from pictures") as error:
        load_episodes(folder, cache_dir=tmp_path / "cache")
    assert one_line(error)


@pytest.mark.parametrize(("values", "told"), [(np.arange(15) % 4, True), (np.arange(15) % 2, False),
                                              (np.arange(15) % 4 / 2, False)])  # fmt: skip
def test_numbers_of_buttons_are_told_from_amounts(values, told, rows, tmp_path, caplog):
    folder = write(tmp_path / "set", rows, command=values.tolist())
    with caplog.at_level(logging.WARNING):
        load(folder, tmp_path, fps=10.0)
    assert ("column 'command' of " in caplog.text and "4 different ones" in caplog.text) == told
