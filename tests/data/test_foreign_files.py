"""What strangers' files hold, and what operating systems and spreadsheets do to them: read right, or refused."""

import json
import shutil

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lewm_hf import LeWMImageProcessor
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.importers.csv_table import column_names, read_table
from lewm_hf.data.importers.formats import open_source
from lewm_hf.data.importers.names import below, fill, natural_order, visible

from .importers import foreign

EASY = {"workers": 1, "test_fraction": 0}


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows((4, 3, 5))


def actions(out, cache) -> np.ndarray:
    return load_episodes(out, cache_dir=cache).actions


def opened(format, path, text="", tmp_path=None):
    mapping = None
    if text:
        mapping = tmp_path / "m.yaml"
        mapping.write_text(text)
    return open_source(format, path, mapping, None)


# --- LeRobot: names and patterns of strangers


@pytest.mark.parametrize(
    "name", ["../secret", "a/../../secret", "/etc/passwd", "C:/secret", "C:secret", "\\\\host\\x", "..\\x", "", "a\0b"]
)
def test_names_that_leave_the_folder_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="does not lead to a file below"):
        below(tmp_path, name)


def test_names_below_the_folder(tmp_path):
    for name in ("a", "a/b.parquet", "data/chunk-000/...x", "a..b/c"):
        assert below(tmp_path, name) == tmp_path / name


@given(chunk=st.integers(0, 10**6), width=st.integers(1, 20), zero=st.booleans(), text=st.text("abc-_/.", max_size=8))
def test_patterns_are_filled_like_format_does(chunk, width, zero, text):
    pattern = f"{text}{{chunk:{'0' if zero else ''}{width}d}}-{{key}}/{{chunk}}{text}"
    assert fill(pattern, {"chunk": chunk, "key": "a{b"}) == pattern.format(chunk=chunk, key="a{b")


@pytest.mark.parametrize(
    "pattern",
    ["{chunk.__class__}", "{chunk[0]}", "{chunk!r}", "{chunk:999999999d}", "{chunk:21d}", "{other}", "{0}", "{}",
     "{chunk:{chunk}d}", "{chunk", "chunk}", "{{chunk}}", "{chunk:x}", "{key:03d}", "{chunk:>9}"],
)  # fmt: skip
def test_other_patterns_are_refused(pattern):
    with pytest.raises(ValueError):
        fill(pattern, {"chunk": 3, "key": "top"})


def edit(path, **values):
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data_path": "../{episode_index}.parquet"}, "data_path=.* below the folder"),
        ({"data_path": "/data/{episode_index}.parquet"}, "data_path=.* below the folder"),
        ({"data_path": "{episode_index.real:06d}.parquet"}, "data_path=.* below the folder"),
        ({"data_path": "{episode_index:0999999999d}.parquet"}, "data_path=.* below the folder"),
        ({"data_path": 3}, "data_path=3, expected str"),
        ({"chunks_size": 0}, "chunks_size=0"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"fps": "10"}, "fps='10', expected int or float"),
        ({"fps": -1}, "fps=-1"),
        ({"features": []}, "features=.*, expected dict"),
        ({"features": {"action": {"dtype": "float32", "shape": [1e12]}}}, "describes 'action'"),
        ({"features": {"action": 3}}, "describes 'action'"),
        ({"total_episodes": True}, "total_episodes=True, expected int"),
        ({"total_frames": 10**12}, "total_frames=1000000000000, but holds 12"),
    ],
)
def test_metadata_of_strangers(values, message, rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    edit(source, **values)
    with pytest.raises(ValueError, match=message) as error:
        opened("lerobot", source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [-1, 0.5, "4", True, 10**12, None])
def test_absurd_lengths(length, rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    lines = (source / "meta/episodes.jsonl").read_text().splitlines()
    lines[1] = json.dumps({"episode_index": 1, "length": length})
    (source / "meta/episodes.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="an episode of .* (has length=|lacks 'length')"):
        opened("lerobot", source)


@pytest.mark.parametrize("name", ["../secret.png", "{tmp}/secret.png"])
def test_pictures_beside_lie_below_the_folder(name, rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    (tmp_path / "secret.png").write_bytes(foreign.png(rows.pixels[0]))
    file = source / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(file)
    at = table.column_names.index("observation.images.top")
    stored = [{"bytes": None, "path": name.format(tmp=tmp_path)}] * len(table)
    pq.write_table(table.set_column(at, "observation.images.top", [stored]), file)
    with pytest.raises(ValueError, match="a frame without bytes"):
        next(opened("lerobot", source).frames(0))


def test_hdf5_takes_nothing_from_other_files(rows, tmp_path):
    path = foreign.write_hdf5(tmp_path / "x.h5", rows)
    with h5py.File(path, "a") as file:
        del file["action"]
        file["action"] = h5py.ExternalLink("secret.h5", "action")
    with pytest.raises(ValueError, match="'action' of .* lies in another file"):
        opened("hdf5", path, "fps: 10", tmp_path)
    (tmp_path / "raw").write_bytes(bytes(12 * 2 * 4))
    with h5py.File(path, "a") as file:
        del file["action"]
        file.create_dataset("action", (12, 2), "f4", external=[(tmp_path / "raw", 0, 12 * 2 * 4)])
    with pytest.raises(ValueError, match="'action' of .* lies in another file"):
        opened("hdf5", path, "fps: 10", tmp_path)


# --- Order


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot_rows_go_by_their_frame_index(version, rows, tmp_path):
    sorted_source = foreign.write_lerobot(tmp_path / "sorted", rows, version, packs=((0, 1), (2,)))
    shuffled = shutil.copytree(sorted_source, tmp_path / "shuffled")
    for file in (shuffled / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), file, row_group_size=2)
    one, other = (opened("lerobot", source) for source in (sorted_source, shuffled))
    for episode in range(3):
        np.testing.assert_array_equal(one.column("action", episode), other.column("action", episode))
        np.testing.assert_array_equal(list(one.frames(episode)), list(other.frames(episode)))


@pytest.mark.parametrize("frames", [[0, 1, 1, 3], [0, 1, 2, 4], [1, 2, 3, 4]])
def test_lerobot_frames_without_gaps_or_repeats(frames, rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    file = source / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(file)
    at = table.column_names.index("frame_index")
    pq.write_table(table.set_column(at, "frame_index", [frames]), file)
    with pytest.raises(ValueError, match="episode 0 .* frame_index has gaps or repeats"):
        opened("lerobot", source)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 200)), unique=True, max_size=8))
def test_natural_order(pairs):
    from pathlib import Path

    paths = [Path(f"{letter}_{number}.mp4") for letter, number in pairs]
    assert sorted(paths, key=natural_order) == [Path(f"{letter}_{number}.mp4") for letter, number in sorted(pairs)]


# --- CSV files


def csv(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        "action_0,action_1,done\n1.5,-2e-3,true\n,,FALSE\n",
        "action_0;action_1;done\r\n1,5;-2e-3;TRUE\r\n;;FALSE\r\n",
        "action_0\taction_1\tdone\n1,5\t-0,002\tTrue\n\t\tfalse\n",
        "sep=;\naction_0;action_1;done\n1,5;-2e-3;TRUE\n;;FALSE\n",
        '"action_0","action_1","done"\n"1.5","-2e-3","true"\n"","","false"\n',
        "action_0 , action_1,done,,\n1.5,-0.002,true,,\n,,false,,\n",
    ],
)
def test_tables_of_many_programs(text, encoding, tmp_path):
    table = read_table(csv(tmp_path / "x.csv", text, encoding))
    values = table.numbers(table.members("action") + table.members("done"))
    np.testing.assert_array_equal(values, [[1.5, -0.002, 1], [np.nan, np.nan, 0]])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5), st.sampled_from(";,\t"))
@example([1e22, -5e-324], ";")
def test_numbers_survive_any_separator(values, delimiter):
    import tempfile
    from pathlib import Path

    texts = [repr(value).replace(".", "," if delimiter != "," else ".") for value in values]
    with tempfile.TemporaryDirectory() as folder:
        path = csv(Path(folder) / "x.csv", "\n".join([f"a{delimiter}b", *(f"{text}{delimiter}1" for text in texts)]))
        np.testing.assert_array_equal(read_table(path).numbers(["a"])[:, 0], values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("action_0,action_0\n1,9\n", "column 'action_0' 2 times"),
        ("action, action\n1,9\n", "column 'action' 2 times"),
        ("action,,b\n1,2,3\n", "a column without a name"),
        ("action,\n1,2\n", "a column without a name"),
        ("action_0,action_2\n1,2\n", "action_0, action_2, expected .* without gaps"),
        ("action_0,action_00\n1,2\n", "without gaps or repeats"),
        ("action_2,action_3\n1,2\n", "without gaps"),
        ("action,action_0,action_1\n1,2,3\n", "'action' and action_0, action_1"),
        ("action\n1_0\n", "'1_0' is not a number"),
        ("action\n0x1A\n", "is not a number"),
        ('action,b\n"1,5",2\n', "'1,5' is not a number"),
        ("action\n", "has no rows"),
        ("", "has no rows"),
        ("action,b\n1,2\n3\n", "line 3: 1 values, expected 2"),
    ],
)
def test_tables_that_say_something_else_than_they_seem(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        table = read_table(csv(tmp_path / "x.csv", text))
        table.numbers(table.members("action"))
    assert "\n" not in str(error.value)


def test_tables_that_are_no_text(tmp_path):
    (tmp_path / "x.csv").write_bytes("größe,action\n1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text: save it as CSV UTF-8"):
        read_table(tmp_path / "x.csv")


def test_groups_in_the_order_of_their_numbers(tmp_path):
    order = np.random.default_rng(0).permutation(12)
    text = ",".join(f"action_{n}" for n in order) + "\n" + ",".join(map(str, order)) + "\n"
    table = read_table(csv(tmp_path / "x.csv", text))
    np.testing.assert_array_equal(table.numbers(table.members("action"))[0], np.arange(12))
    assert "action" in column_names(table.header)


# --- Folders of videos


@pytest.fixture(scope="module")
def films(rows, tmp_path_factory):
    pytest.importorskip("av")
    return foreign.write_mp4csv(tmp_path_factory.mktemp("films") / "films", rows)


def change_tables(folder, change):
    for file in folder.glob("*.csv"):
        header, *lines = file.read_text().splitlines()
        file.write_text("\n".join(change(header, lines)) + "\n")


def shuffled(header, lines):
    numbered = [f"{frame},{line}" for frame, line in enumerate(lines)]
    return [f"frame_index,{header}", *np.random.default_rng(0).permutation(numbered)]


def test_csv_rows_go_by_their_frame_index(films, tmp_path):
    folder = shutil.copytree(films, tmp_path / "films")
    change_tables(folder, shuffled)
    one, other = (opened("mp4csv", path) for path in (films, folder))
    for episode in range(3):
        np.testing.assert_array_equal(one.column("action", episode), other.column("action", episode))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, lines: [f"frame_index,{header}", *(f"1,{line}" for line in lines)], "frame_index=1 where 0"),
        (lambda header, lines: [f"frame,{header}", *(f"{2 * n},{line}" for n, line in enumerate(lines))], "frame=2 wh"),
        (lambda header, lines: [f"step,{header}", *(f",{line}" for line in lines)], "step=nan where 0 was expected"),
        (lambda header, lines: [f"time,{header}", *(f"{-n},{line}" for n, line in enumerate(lines))], "time=-1 after"),
        (lambda header, lines: [header.replace("action_1", "action_3"), *lines], "action_0, action_3, expected"),
        (lambda header, lines: [header, *(f"1e39,{line.split(',', 1)[1]}" for line in lines)], "action=.*finite"),
    ],
)
def test_csv_rows_that_contradict_themselves(change, message, films, tmp_path):
    folder = shutil.copytree(films, tmp_path / "films")
    change_tables(folder, change)
    with pytest.raises(ValueError, match=message) as error:
        import_dataset("mp4csv", folder, tmp_path / "out", **EASY)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_companions_of_other_programs_are_no_episodes(films, rows, tmp_path):
    folder = shutil.copytree(films, tmp_path / "films")
    for name in ("._walk_000.mp4", "._walk_000.csv", ".DS_Store", "Thumbs.db", "desktop.ini", "~$walk_000.csv",
                 ".~lock.walk_000.csv#", "__MACOSX/._walk_000.mp4"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7" + b"\xff" * 60)
    assert opened("mp4csv", folder).lengths.tolist() == rows.lengths.tolist()
    source = foreign.write_lerobot(tmp_path / "lerobot", rows, "v3.0", packs=((0, 1, 2),))
    (source / "meta/episodes/chunk-000/._file-000.parquet").write_bytes(b"\0\5\x16\7")
    assert opened("lerobot", source).lengths.tolist() == rows.lengths.tolist()
    assert visible(source.rglob("*.parquet"), source) == sorted(
        path for path in source.rglob("*.parquet") if not path.name.startswith(".")
    )


def test_films_of_a_phone_in_natural_order(rows, tmp_path):
    """Capital suffixes, QuickTime, and IMG_10 after IMG_9."""
    pytest.importorskip("av")
    for episode, name in enumerate(("IMG_9.MOV", "IMG_10.MOV", "IMG_11.MP4")):
        part = slice(rows.offsets[episode], rows.offsets[episode] + rows.lengths[episode])
        foreign.write_video(tmp_path / name, rows.pixels[part])
        csv(tmp_path / f"{name[:-4]}.csv", "action\n" + "".join(f"{episode}\n" for _ in range(rows.lengths[episode])))
    source = opened("mp4csv", tmp_path)
    assert [source.column("action", episode)[0, 0] for episode in range(3)] == [0, 1, 2]
    foreign.write_video(tmp_path / "IMG_9.mp4", rows.pixels[:4])
    with pytest.raises(ValueError, match="2 videos called 'IMG_9'"):
        opened("mp4csv", tmp_path)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_videos_are_upright(turn, mirrored, tmp_path):
    av = pytest.importorskip("av")
    from lewm_hf.data.importers.video import video_frames

    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "rgb24"
        stream.set_display_rotation(turn, hflip=mirrored)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    expected = np.rot90(frame, turn // 90)  # counterclockwise, as PyAV counts
    expected = expected[:, ::-1] if mirrored else expected
    for found in video_frames(tmp_path / "x.mp4", 3, 10):
        np.testing.assert_array_equal(found, expected)


def test_videos_turned_by_other_angles_are_refused(tmp_path):
    av = pytest.importorskip("av")
    from lewm_hf.data.importers.video import video_frames

    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height = stream.width = 32
        stream.set_display_rotation(30)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="turned by (29|30) degrees, expected quarter turns"):
        list(video_frames(tmp_path / "x.mp4", 1, 10))


# --- Imports that continue


def _actions_of(path):
    file = path / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(file)
    at = table.column_names.index("action")
    pq.write_table(table.set_column(at, "action", [np.roll(table["action"].to_pylist(), 1, 0).tolist()]), file)


def _pixels_of(path):
    file = path / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(file)
    at = table.column_names.index("observation.images.top")
    blank = [{"bytes": foreign.png(np.zeros((28, 28, 3), np.uint8)), "path": None}] * len(table)
    pq.write_table(table.set_column(at, "observation.images.top", [blank]), file)


def _film_of(path):
    foreign.write_video(path / "walk_001.mp4", np.zeros((3, 28, 28, 3), np.uint8))


def _pixels_in_hdf5(path):
    with h5py.File(path, "a") as file:
        file["pixels"][5] = 0


@pytest.mark.parametrize(
    ("format", "write", "correct"),
    [
        ("lerobot", foreign.write_lerobot, _actions_of),
        ("lerobot", foreign.write_lerobot, _pixels_of),
        ("mp4csv", foreign.write_mp4csv, _film_of),
        ("hdf5", foreign.write_hdf5, _pixels_in_hdf5),
    ],
)
def test_a_corrected_source_is_another_one(format, write, correct, rows, tmp_path):
    if format == "mp4csv":
        pytest.importorskip("av")
    source = write(tmp_path / "source", rows)
    mapping = tmp_path / "m.yaml"
    mapping.write_text("fps: 10")
    import_dataset(format, source, tmp_path / "out", mapping=mapping, **EASY)
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    import_dataset(format, source, tmp_path / "out", mapping=mapping, **EASY)
    correct(source)
    with pytest.raises(ValueError, match="has changed since it was imported into .* another directory"):
        import_dataset(format, source, tmp_path / "out", mapping=mapping, **EASY)
    assert before == {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}


def test_an_import_begun_by_another_decoder_is_not_mixed(rows, tmp_path):
    source, out = foreign.write_lerobot(tmp_path / "source", rows), tmp_path / "out"
    import_dataset("lerobot", source, out, episodes_per_file=1, **EASY)
    described = json.loads((out / "episodes.json").read_text())
    described["versions"]["pillow"] = "1.0"
    del described["splits"]
    (out / "episodes.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="begun with pillow 1.0, this is .*, which may decode otherwise"):
        import_dataset("lerobot", source, out, episodes_per_file=1, **EASY)
    described["collector"]["reading"] = 1
    (out / "episodes.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="read sources in another way"):
        import_dataset("lerobot", source, out, episodes_per_file=1, **EASY)


def test_numbers_of_numpy_are_numbers(rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    numbers = {"image_size": np.int64(28), "seed": np.int32(0), "episodes_per_file": np.uint8(2)}
    fraction = {"workers": np.int64(1), "test_fraction": np.float32(0.5)}
    out = import_dataset("lerobot", source, tmp_path / "out", **numbers, **fraction)
    assert json.loads((out / "episodes.json").read_text())["image_size"] == 28
    with pytest.raises(ValueError, match="image_size=28.5 must be a whole number"):
        import_dataset("lerobot", source, tmp_path / "other", image_size=28.5)
    processor = LeWMImageProcessor(image_size=np.int64(28), image_mean=np.array([0.1, 0.2, 0.3], np.float32))
    assert LeWMImageProcessor.from_dict(json.loads(processor.to_json_string())).image_size == 28


# --- Squares


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [None, 16])
def test_planning_repeats_what_the_import_did(fit, size, tmp_path):
    rows = foreign.make_rows((4, 5), size=28, width=36)
    path, mapping = foreign.write_hdf5(tmp_path / "x.h5", rows), tmp_path / "m.yaml"
    mapping.write_text(f"fps: 10\nfit: {fit}")
    out = import_dataset("hdf5", path, tmp_path / "out", mapping=mapping, image_size=size, **EASY)
    episodes = load_episodes(out, cache_dir=tmp_path / "cache")
    assert episodes.fit == fit
    LeWMImageProcessor(image_size=episodes.image_size, fit=episodes.fit).save_pretrained(tmp_path / "model")
    processor = LeWMImageProcessor.from_pretrained(tmp_path / "model")
    stored = processor(episodes.frames([3]))["pixel_values"]
    raw = processor(rows.pixels[3])["pixel_values"]
    gray_levels = (stored - raw).abs() * np.reshape(processor.image_std, (3, 1, 1)) * 255
    # Exact where nothing is resampled; Pillow rounds to whole gray levels where it is.
    assert gray_levels.max() <= (1e-3 if size is None and fit != "stretch" else 1.01)
    with pytest.raises(ValueError, match="36x28 pixels is not square"):
        LeWMImageProcessor(image_size=episodes.image_size)(rows.pixels[3])
    with pytest.raises(ValueError, match="fit='squash' is unknown: use None or one of crop, pad, stretch"):
        LeWMImageProcessor(fit="squash")
