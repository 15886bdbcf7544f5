"""Lance tables, written by Lance's own library, against the arrays that are in them."""

import io
import pickle
import shutil
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.importers.formats import FORMATS, open_source
from lewm_hf.data.importers.mapping import ColumnMapping
from lewm_hf.hub.convert.action_statistics import measure_actions

from . import foreign

lance = pytest.importorskip("lance")

EASY = {"workers": 1, "episodes_per_file": 2, "test_fraction": 0.3}


def jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=95)
    return file.getvalue()


def vectors(values: np.ndarray) -> pa.Array:
    flat = pa.array(values.astype(np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def write_lance(path, rows, encode=foreign.png, blobs=False, order=None):
    """stable-worldmodel's columns: a row per frame, encoded pictures, vectors of single precision."""
    action = rows.action.copy()
    action[rows.offsets + rows.lengths - 1] = np.nan
    kind, metadata = (pa.large_binary(), {"lance-encoding:blob": "true"}) if blobs else (pa.binary(), None)
    columns = {
        pa.field("episode_idx", pa.int32()): pa.array(rows.episode.astype(np.int32)),
        pa.field("step_idx", pa.int32()): pa.array(rows.frame.astype(np.int32)),
        pa.field("pixels", kind, metadata=metadata): pa.array([encode(frame) for frame in rows.pixels], kind),
        pa.field("action", pa.list_(pa.float32(), 2)): vectors(action),
        pa.field("proprio", pa.list_(pa.float32(), 2)): vectors(rows.state),
        pa.field("pos_agent", pa.list_(pa.float32(), 2)): vectors(rows.state),
        pa.field("note", pa.string()): pa.array(["as it was"] * len(rows.pixels)),
    }
    table = pa.table(list(columns.values()), schema=pa.schema(list(columns)))
    table = table if order is None else table.take(pa.array(order))
    lance.write_dataset(table, str(path), max_rows_per_file=20, data_storage_version="2.0" if blobs else None)
    return path


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows()


@pytest.fixture(scope="module")
def room(rows, tmp_path_factory):
    return write_lance(tmp_path_factory.mktemp("lance") / "tworoom.lance", rows)


def test_its_import_is_that_of_the_same_rows_in_hdf5(room, rows, tmp_path):
    file = foreign.write_hdf5(
        tmp_path / "room.h5", rows, proprio=rows.state.astype(np.float32), pos_agent=rows.state.astype(np.float32)
    )
    from_hdf5 = import_dataset("hdf5", file, tmp_path / "hdf5", env="two_room", **EASY)
    from_lance = import_dataset("lance", room, tmp_path / "lance", env="two_room", **EASY)
    names = sorted(path.relative_to(from_hdf5).as_posix() for path in from_hdf5.glob("data/*/*.parquet"))
    assert names == sorted(path.relative_to(from_lance).as_posix() for path in from_lance.glob("data/*/*.parquet"))
    for name in names:
        here, there = (pq.read_table(folder / name) for folder in (from_hdf5, from_lance))
        assert "sim.state" in here.column_names and here.schema.equals(there.schema)
        assert repr(here.to_pylist()) == repr(there.to_pylist())  # in which a missing action equals another


@pytest.mark.parametrize("blobs", [False, True])
def test_pictures_are_what_pillow_makes_of_the_stored_files(blobs, rows, tmp_path):
    source = open_source("lance", write_lance(tmp_path / "a.lance", rows, jpeg, blobs), ColumnMapping(fps=10.0), None)
    for episode in (0, 3):
        start = rows.offsets[episode]
        source = pickle.loads(pickle.dumps(source))  # as it goes to other processes, open or not
        expected = [
            np.asarray(Image.open(io.BytesIO(jpeg(frame)))) for frame in rows.pixels[start:][: rows.lengths[episode]]
        ]
        np.testing.assert_allclose(list(source.frames(episode)), expected, atol=2)  # two decoders of JPEG
        np.testing.assert_array_equal(
            source.column("action", episode)[:-1], rows.action[start:][: rows.lengths[episode] - 1]
        )
    assert source.mapping.observation == ("proprio",)


def test_a_folder_with_one_table_trains_by_its_path(room, rows, tmp_path):
    shutil.copytree(room, tmp_path / "set" / room.name)
    side = pa.table({"episode_idx": np.arange(len(rows.lengths))})
    lance.write_dataset(side, str(tmp_path / "set" / "tworoom_episodes.lance"))
    assert next(name for name, format in FORMATS.items() if format.recognizes(tmp_path / "set")) == "lance"
    train = load_episodes(tmp_path / "set", "train", fps=10, cache_dir=tmp_path / "cache")
    test = load_episodes(tmp_path / "set", "test", fps=10, cache_dir=tmp_path / "cache")
    assert sorted([*train.episode_ids, *test.episode_ids]) == list(range(len(rows.lengths)))
    np.testing.assert_array_equal(train.frames([0])[0], rows.pixels[rows.offsets[train.episode_ids[0]]])


def test_what_cannot_be_read_is_one_line_and_nothing_is_written(room, rows, tmp_path, monkeypatch):
    def refused(match, source, kind=ValueError, **given):
        with pytest.raises(kind, match=match) as caught:
            import_dataset("lance", source, tmp_path / "out", **{"env": "two_room", **EASY, **given})
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

    shuffled = np.random.default_rng(0).permutation(len(rows.pixels))
    refused("contradicts|distinct", write_lance(tmp_path / "shuffled.lance", rows, order=shuffled))
    swapped = np.arange(len(rows.pixels))
    swapped[[1, 2]] = 2, 1
    refused("row 1 of .* has step_idx=2, expected 1", write_lance(tmp_path / "swapped.lance", rows, order=swapped))
    refused("there is no Lance table", tmp_path / "nowhere", FileNotFoundError)
    both = tmp_path / "both"
    for name in ("a.lance", "b.lance"):
        shutil.copytree(room, both / name)
    refused(r"several Lance tables \(a.lance, b.lance\): give the folder of one", both)
    refused("column 'proprio' .* expected encoded pictures", room, mapping=ColumnMapping(image="proprio"))
    refused("no column 'pixel'", room, mapping=ColumnMapping(image="pixel"))
    for name in [name for name in sys.modules if name == "lance" or name.endswith("importers.lance")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lance", None)
    refused(r"'lance' is missing: install it with `pip install 'lewm-hf\[lance\]'`", room, ImportError)
    # A folder of that name below the working directory, which Python takes for a package.
    monkeypatch.setitem(sys.modules, "lance", types.ModuleType("lance"))
    refused(r"'lance' is not pylance: install it with `pip install 'lewm-hf\[lance\]'`", room, ImportError)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_a_newer_lance(path):
    """Sets the highest of the flags in which a manifest says what its readers have to know."""
    raw = path.read_bytes()
    (at,) = struct.unpack("<Q", raw[-16:-8])  # a footer: where the message is, the format's version, and LANC
    (length,) = struct.unpack("<I", raw[at : at + 4])
    message = raw[at + 4 : at + 4 + length] + bytes([9 << 3] + [0x80] * 8 + [1])
    path.write_bytes(raw[:at] + struct.pack("<I", len(message)) + message + raw[at + 4 + length :])


def linked_to_itself(path):
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("files", "change", "kind", "match"),
    [
        ("data/*", cut, ValueError, "is damaged .*: copy or download it again"),
        ("_versions/*.manifest", cut, ValueError, "is damaged .*: copy or download it again"),
        ("data/*", linked_to_itself, OSError, r"data/\S+ cannot be read \(Too many levels of symbolic links\)"),
        ("_versions/*.manifest", Path.unlink, FileNotFoundError, "is no Lance table, _versions holds no manifest"),
        ("data/*", Path.unlink, FileNotFoundError, r"lacks data/\S+\.lance: copy the whole folder"),
        ("_versions/*.manifest", of_a_newer_lance, ValueError, "written by a newer Lance than pylance"),
    ],
)
def test_why_a_table_cannot_be_read_is_told(room, tmp_path, files, change, kind, match):
    table = shutil.copytree(room, tmp_path / "a.lance")
    open_source("lance", table, ColumnMapping(fps=10.0), None)
    for path in list(table.glob(files)):
        change(path)
    with pytest.raises(kind, match=match) as caught:
        open_source("lance", table, ColumnMapping(fps=10.0), None)
    assert str(table) in str(caught.value) and "\n" not in str(caught.value)


def test_a_panic_is_a_line_too(room, tmp_path):
    """Lance's own library panics on some of the broken manifests, which no `except Exception` sees."""
    table = shutil.copytree(room, tmp_path / "a.lance")
    (manifest,) = table.glob("_versions/*.manifest")
    raw = manifest.read_bytes()
    (at,) = struct.unpack("<Q", raw[-16:-8])
    manifest.write_bytes(raw[:at] + struct.pack("<I", 10**9) + raw[at + 4 :])
    with pytest.raises(ValueError, match="a.lance is damaged"):
        open_source("lance", table, ColumnMapping(fps=10.0), None)


def test_a_column_that_lance_does_not_find_is_no_damage(tmp_path):
    """It writes names in backticks, and then takes the ticks for quotes."""
    columns = {"episode_idx": [0, 0], "pixels": [b"", b""], "action": [0.0, 1.0], "`odd`": [0.0, 1.0]}
    lance.write_dataset(pa.table(columns), str(tmp_path / "a.lance"))
    source = open_source("lance", tmp_path / "a.lance", ColumnMapping(fps=10.0, observation=("`odd`",)), None)
    with pytest.raises(ValueError, match="finds no column '`odd`' in .*a.lance, which has .*: rename or map another"):
        source.column("`odd`", 0)


def test_a_source_stays_with_the_version_that_it_opened(rows, tmp_path):
    table = write_lance(tmp_path / "a.lance", rows)
    source = open_source("lance", table, ColumnMapping(fps=10.0), None)
    expected = list(source.frames(0))
    dark = foreign.make_rows()
    dark.pixels[:] = 0
    lance.write_dataset(
        lance.dataset(str(write_lance(tmp_path / "b.lance", dark))).to_table(), str(table), mode="overwrite"
    )
    np.testing.assert_array_equal(list(pickle.loads(pickle.dumps(source)).frames(0)), expected)


def test_a_picture_that_is_none_is_named_by_its_row(rows, tmp_path):
    def encode(frame):
        return b"no picture" if np.array_equal(frame, rows.pixels[8]) else foreign.png(frame)

    source = open_source("lance", write_lance(tmp_path / "a.lance", rows, encode), ColumnMapping(fps=10.0), None)
    with pytest.raises(ValueError, match="row 8 of .*a.lance"):
        list(source.frames(1))


def test_actions_for_a_converted_checkpoint_are_measured_on_it(room, rows):
    found = measure_actions(room)
    known = np.delete(rows.action, rows.offsets + rows.lengths - 1, axis=0).astype(np.float64)
    np.testing.assert_allclose((found.mean, found.std), (known.mean(0), known.std(0)), rtol=1e-12)
    assert (found.rows, found.counted, found.dataset) == (len(rows.action), len(known), "tworoom.lance")
