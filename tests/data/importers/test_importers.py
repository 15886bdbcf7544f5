"""Importers against the arrays that their sources were written from."""

import hashlib
import json
import logging
import multiprocessing
import shutil
import sys
import time

import datasets
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from lewm_hf import LeWMConfig, LeWMModel
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset, written
from lewm_hf.data.importers import run as convert
from lewm_hf.data.importers.mapping import ColumnMapping, read_mapping
from lewm_hf.data.storage.dataset_card import data_stats
from lewm_hf.data.storage.encoding import decode
from lewm_hf.data.windows import WindowDataset

from . import foreign

EASY = {"workers": 1, "episodes_per_file": 2, "test_fraction": 0.3}


def content(directory) -> dict[str, str]:
    return {
        file.relative_to(directory).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


def mapping(path, text: str):
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows()


@pytest.fixture(scope="module")
def room_file(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("hdf5") / "tworoom.h5"
    return foreign.write_hdf5(path, rows, pos_agent=rows.state.astype(np.float32), proprio=rows.state)


@pytest.fixture(scope="module")
def imported_room(room_file):
    return import_dataset("hdf5", room_file, room_file.parent / "out", env="two_room", **EASY)


def check_rows(out, rows, tmp_path, *, state=True, observation=True, last_action=False, lossless=True):
    """Every number and pixel of both splits, found by episode, equals the source's; counts are the source's."""
    # `load_dataset(directory)` tells cached data sets apart by the directory's name alone: one cache for each.
    seen, cache = [], tmp_path / "cache"
    for split in ("train", "test"):
        episodes = load_episodes(out, split, cache_dir=cache)
        for position, episode in enumerate(episodes.episode_ids):
            seen.append(episode)
            here = slice(episodes.offsets[position], episodes.offsets[position] + episodes.lengths[position])
            there = slice(rows.offsets[episode], rows.offsets[episode] + rows.lengths[episode])
            expected = rows.action[there].copy()
            if not last_action:
                expected[-1] = np.nan
            np.testing.assert_array_equal(episodes.actions[here], expected)
            if lossless:
                frames = episodes.frames(np.arange(here.start, here.stop))
                np.testing.assert_array_equal(frames, rows.pixels[there])
            if state:
                np.testing.assert_array_equal(episodes.states[here], rows.state[there].astype(state))
    assert sorted(seen) == list(range(len(rows.lengths)))
    loaded = datasets.load_dataset(str(out), cache_dir=str(cache))
    assert set(loaded) == {"train", "test"}
    assert sum(part.num_rows for part in loaded.values()) == len(rows.pixels)
    assert sorted([*loaded["train"]["index"], *loaded["test"]["index"]]) == list(range(len(rows.pixels)))
    if observation:
        first = loaded["test"][0]
        source = rows.offsets[first["episode_index"]] + first["frame_index"]
        np.testing.assert_array_equal(first["observation.state"], rows.state[source].astype(np.float32))
    return data_stats(out)


def test_released_layout_with_blosc(imported_room, room_file, rows, tmp_path):
    with h5py.File(room_file) as file:
        stored = file["pixels"].id.get_chunk_info(0)
        assert stored.filter_mask == 0 and stored.size < rows.pixels.nbytes, "the source is compressed"
    facts = check_rows(imported_room, rows, tmp_path, state=np.float32)
    assert (facts.episodes, facts.rows) == (len(rows.lengths), len(rows.pixels))
    card = (imported_room / "README.md").read_text()
    description = json.loads((imported_room / "episodes.json").read_text())
    assert description["collector"]["source"] == "tworoom.h5" and description["env"] == "lewm/TwoRoom-v0"
    assert len(description["collector"]["sha256"]["actions"]) == 64
    for text in (card, json.dumps(description)):
        assert str(imported_room.parent) not in text and "tworoom.h5" in text
    assert "next.success" not in card.partition("## Columns")[2] and "`sim.state`" in card


@pytest.mark.parametrize(
    ("env", "columns"),
    [
        ("push_t", {"state": 7, "proprio": 4}),
        ("reacher", {"qpos": 2, "qvel": 2, "observation": 6, "finger_pos": 2, "success": None, "reward": None}),
        ("cube", {"qpos": 21, "qvel": 20, "observation": 28, "privileged_block_0_pos": 3}),
    ],
)
def test_columns_of_the_other_released_files(env, columns, tmp_path):
    rows, rng = foreign.make_rows((4, 6, 5)), np.random.default_rng(1)
    rows.action = rng.uniform(-1, 1, (15, 5 if env == "cube" else 2)).astype(np.float32)
    values = {name: np.full(15, np.nan) if n is None else rng.normal(size=(15, n)) for name, n in columns.items()}
    rows.state = values["state"] if env == "push_t" else np.hstack([values["qpos"], values["qvel"]])
    push_t = env == "push_t"  # whose file has an action in every row, and another name for the episode
    column = "episode_idx" if push_t else "ep_idx"
    path = foreign.write_hdf5(tmp_path / "x.h5", rows, column, last_action=push_t, **values)
    out = import_dataset("hdf5", path, tmp_path / "out", env=env, **EASY)
    check_rows(out, rows, tmp_path, state=np.float64, observation=False, last_action=push_t)


def test_without_an_environment_nothing_is_restored(room_file, rows, tmp_path):
    with pytest.raises(ValueError, match="frames per second .* give the environment, or fps"):
        import_dataset("hdf5", room_file, tmp_path / "out", **EASY)
    assert not (tmp_path / "out").exists()
    yaml = mapping(tmp_path / "m.yaml", "fps: 5\ncolumns:\n  observation: [proprio, pos_agent]\n")
    out = import_dataset("hdf5", room_file, tmp_path / "out", mapping=yaml, **EASY)
    check_rows(out, rows, tmp_path, state=False, observation=False)
    table = pq.read_table(next(out.glob("data/chunk-000/*.parquet")))
    assert "sim.state" not in table.column_names and table.schema.field("observation.state").type.list_size == 4
    np.testing.assert_allclose(table["timestamp"].to_numpy(), table["frame_index"].to_numpy() / 5, rtol=1e-6)


def test_goals_make_success_known(tmp_path):
    rows = foreign.make_rows((6, 9))
    target = np.repeat(rows.state[rows.offsets + rows.lengths - 1], rows.lengths, 0)
    path = foreign.write_hdf5(tmp_path / "x.h5", rows, pos_agent=rows.state, pos_target=target)
    out = import_dataset("hdf5", path, tmp_path / "out", env="two_room", **EASY)
    table = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache")).to_pandas()
    inside = np.linalg.norm(np.stack(table["sim.state"]) - np.stack(table["sim.goal"]), axis=1) < 16
    np.testing.assert_array_equal(table["next.success"], np.append(inside[1:], inside[-1]))
    assert data_stats(out).successful_episodes == 1


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("video", [False, True])
def test_lerobot(version, video, rows, tmp_path):
    if video:
        pytest.importorskip("av")
    source = foreign.write_lerobot(tmp_path / "source", rows, version, video)
    yaml = mapping(tmp_path / "m.yaml", "fps: 10\naction_dim: 2\ncolumns:\n  state: observation.state\n")
    out = import_dataset("lerobot", source, tmp_path / "out", mapping=yaml, env="two_room", **EASY)
    facts = check_rows(out, rows, tmp_path, state=np.float32, last_action=True)
    assert facts.successful_episodes == 1  # next.success of every last row, kept where it stands
    hashes = json.loads((out / "episodes.json").read_text())["collector"]["sha256"]
    assert hashes["meta/info.json"] == hashlib.sha256((source / "meta/info.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("single", [False, True])
def test_mp4_and_csv(single, rows, tmp_path):
    pytest.importorskip("av")
    source = foreign.write_mp4csv(tmp_path / "source", rows, single)
    out = import_dataset("mp4csv", source, tmp_path / "out", env="two_room", **EASY)
    check_rows(out, rows, tmp_path, state=np.float64)


def test_it_trains(imported_room, tiny_config, arrow_cache):
    episodes = load_episodes(imported_room, "train", cache_dir=arrow_cache)
    mean, std = episodes.action_statistics()
    config = LeWMConfig(**{**tiny_config.to_dict(), "frameskip": 1, "action_mean": mean, "action_std": std})
    torch.manual_seed(0)
    model = LeWMModel(config).train()
    batch = WindowDataset(episodes, config).batch(range(16))
    pixels = batch["pixel_values"].permute(0, 1, 4, 2, 3) / 255.0
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for step in range(12):
        loss = model(pixels, batch["actions"], model.sigreg.directions(0, step)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_rows_with_blocks_of_actions(rows, tmp_path):
    """A source that keeps every fifth step has five actions in a row, and a fifth of the frames per second."""
    blocks = np.random.default_rng(3).uniform(-1, 1, (len(rows.pixels), 10)).astype(np.float32)
    blocks[rows.offsets + rows.lengths - 1] = np.nan
    source = foreign.write_hdf5(tmp_path / "five.h5", rows, action=blocks, pos_agent=rows.state, proprio=rows.state)
    every = mapping(tmp_path / "m.yaml", "every: 5\naction_dim: 2\n")
    out = import_dataset("hdf5", source, tmp_path / "out", env="two_room", mapping=every, **EASY)
    parts = [load_episodes(out, split) for split in ("train", "test")]
    assert [(part.every, part.action_dim, part.fps) for part in parts] == [(5, 2, 2.0)] * 2
    known = blocks[np.isfinite(blocks).all(1)].reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(parts[0].action_statistics(), [known.mean(0), known.std(0)], rtol=1e-9)


@pytest.mark.parametrize(("fit", "expected"), [("crop", (slice(4, 32), 28)), ("pad", (None, 36))])
def test_frames_are_made_square_on_demand(fit, expected, tmp_path, arrow_cache):
    rows = foreign.make_rows((4, 5), size=28, width=36)
    path = foreign.write_hdf5(tmp_path / "x.h5", rows)
    plain, fitted = mapping(tmp_path / "a.yaml", "fps: 10"), mapping(tmp_path / "b.yaml", f"fps: 10\nfit: {fit}")
    with pytest.raises(ValueError, match="36x28 pixels, expected .*fit: crop"):
        import_dataset("hdf5", path, tmp_path / "out", mapping=plain, **EASY)
    assert not (tmp_path / "out").exists()
    out = import_dataset("hdf5", path, tmp_path / "out", mapping=fitted, **EASY)
    train = load_episodes(out, "train", cache_dir=arrow_cache)
    source = rows.pixels[rows.offsets[train.episode_ids[0]]]
    columns, side = expected
    if columns:
        want = source[:, columns]
    else:
        want = np.zeros((side, side, 3), np.uint8)
        want[4:32] = source
    np.testing.assert_array_equal(train.frames([0])[0], want)
    small = import_dataset("hdf5", path, tmp_path / "small", mapping=fitted, image_size=16, **EASY)
    assert load_episodes(small, "train", cache_dir=arrow_cache).frames([0]).shape == (1, 16, 16, 3)


def test_bytes_do_not_depend_on_workers(imported_room, room_file, tmp_path):
    out = import_dataset("hdf5", room_file, tmp_path / "out", env="two_room", **{**EASY, "workers": 2})
    assert content(out) == content(imported_room)


def test_killed_and_run_again_it_ends_with_the_same_bytes(imported_room, room_file, tmp_path):
    out = tmp_path / "out"

    def slowly():
        decode = written.decode
        written.decode = lambda data: time.sleep(0.02) or decode(data)
        import_dataset("hdf5", room_file, out, env="two_room", **EASY)

    process = multiprocessing.get_context("fork").Process(target=slowly)
    process.start()
    deadline = time.monotonic() + 300
    while not list(out.glob("data/chunk-000/*.parquet")) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.join()
    finished = {file.name: file.stat().st_mtime_ns for file in out.glob("data/chunk-000/*.parquet")}
    assert 0 < len(finished) < len(list((imported_room / "data").rglob("*.parquet")))
    (out / "data/chunk-000/.file-001.parquet.1.tmp").write_bytes(b"half")
    import_dataset("hdf5", room_file, out, env="two_room", **EASY)
    assert content(out) == content(imported_room)
    for name in list(finished):
        assert (out / "data/chunk-000" / name).stat().st_mtime_ns == finished[name], (
            "finished files are not written again"
        )


def test_a_finished_import_is_left_alone_and_other_arguments_refused(imported_room, room_file, rows, tmp_path, caplog):
    before = content(imported_room)
    with caplog.at_level(logging.INFO):
        import_dataset("hdf5", room_file, imported_room, env="two_room", **EASY)
    assert "nothing to do" in caplog.text
    with pytest.raises(ValueError, match="seed=0, not 1"):
        import_dataset("hdf5", room_file, imported_room, env="two_room", seed=1, **EASY)
    rows.action = -rows.action
    other = foreign.write_hdf5(tmp_path / "tworoom.h5", rows, pos_agent=rows.state.astype("f4"), proprio=rows.state)
    rows.action = -rows.action
    with pytest.raises(ValueError, match="sha256"):
        import_dataset("hdf5", other, imported_room, env="two_room", **EASY)
    assert content(imported_room) == before


def test_an_episode_with_nan_inside(rows, tmp_path):
    action = rows.action.copy()
    action[rows.offsets[3] + 2, 1] = np.nan
    action[rows.offsets[5]] = np.inf
    path = foreign.write_hdf5(tmp_path / "x.h5", rows, action=action, pos_agent=rows.state)
    with pytest.raises(ValueError, match=r"episode 3, frame 2 of .* has action=.*skip_episodes: \[3, 5\]") as error:
        import_dataset("hdf5", path, tmp_path / "out", env="two_room", **EASY)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
    yaml = mapping(tmp_path / "m.yaml", "skip_episodes: [3, 5]")
    out = import_dataset("hdf5", path, tmp_path / "out", mapping=yaml, env="two_room", **EASY)
    assert data_stats(out).episodes == 5
    assert json.loads((out / "episodes.json").read_text())["collector"]["skipped_episodes"] == 2


def _truncate(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def _edit(**values):
    def change(path):
        with h5py.File(path, "r+") as file:
            for name, value in values.items():
                del file[name]
                if value is not None:
                    file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_truncate, "truncated or no HDF5 file"),
        (lambda path: path.write_bytes(b"nothing"), "truncated or no HDF5 file"),
        (lambda path: path.unlink(), "there is no file"),
        (_edit(action=np.zeros((49, 2))), r"'action' .* is \(49, 2\) .* expected numbers \(50, n\)"),
        (_edit(pixels=np.zeros((50, 3, 8, 8), np.uint8)), r"expected \(rows, height, width, 3\) uint8"),
        (_edit(action=None), "which column .* is the action"),
        (_edit(ep_len=np.array([7, 12, 3, 9, 5, 8, 5])), r"sum\(ep_len\)=49, but holds 50"),
        (_edit(ep_offset=np.arange(7)), "ep_offset .* does not follow"),
        (_edit(ep_idx=np.zeros(50, int)), "'ep_idx' .* contradicts"),
        (_edit(step_idx=np.zeros(50, int)), "step_idx=0, expected 1"),
        (_edit(pos_agent=np.zeros((50, 3))), "states of .* have 3 dimensions, two_room has 2"),
        (_edit(action=np.zeros((50, 5))), "actions of .* have 5 dimensions, two_room has 2"),
    ],
)
def test_bad_hdf5_is_refused_before_any_file_is_touched(change, message, room_file, tmp_path):
    path = shutil.copy(room_file, tmp_path / "x.h5")
    change(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        import_dataset("hdf5", path, tmp_path / "out", env="two_room", **EASY)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_damaged_chunk_keeps_what_was_finished(tmp_path):
    """The frames of the last episodes cannot be decompressed: files before are whole and usable."""
    rows = foreign.make_rows((60, 60, 60, 60, 60), size=16)
    path = foreign.write_hdf5(tmp_path / "x.h5", rows, pos_agent=rows.state)
    with h5py.File(path, "r") as file:
        chunk = file["pixels"].id.get_chunk_info(2)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    arguments = {"env": "two_room", "workers": 1, "episodes_per_file": 1, "test_fraction": 0}
    with pytest.raises(ValueError, match=r"rows \d+ to \d+ of 'pixels' .* cannot be read"):
        import_dataset("hdf5", path, tmp_path / "out", **arguments)
    finished = sorted((tmp_path / "out/data").rglob("*.parquet"))
    assert [pq.read_table(file)["episode_index"][0].as_py() for file in finished] == [0, 1, 2]
    first = pq.read_table(finished[0], columns=["observation.image"])["observation.image"][5].as_py()
    np.testing.assert_array_equal(decode(first["bytes"]), rows.pixels[5])


def test_a_file_that_differs_from_what_was_written_does_not_appear(room_file, tmp_path, monkeypatch):
    class Forgetful(convert.FrameEncoder):
        def __call__(self, frame):
            return super().__call__(frame // 2)

    monkeypatch.setattr(convert, "FrameEncoder", Forgetful)
    with pytest.raises(OSError, match="does not hold what was written .observation.image at row 0"):
        import_dataset("hdf5", room_file, tmp_path / "out", env="two_room", **EASY)
    assert not [path for path in (tmp_path / "out/data").rglob("*") if path.is_file()]


def _info(**values):
    def change(path):
        info = json.loads((path / "meta/info.json").read_text())
        (path / "meta/info.json").write_text(json.dumps({**info, **values}))

    return change


def _drop(pattern):
    return lambda path: next(iter(sorted(path.glob(pattern)))).unlink()


def _cut(pattern):
    return lambda path: _truncate(sorted(path.glob(pattern))[0])


def _wide_action(path):
    file = sorted(path.glob("data/*/*"))[2]
    table = pq.read_table(file)
    at = table.column_names.index("action")
    pq.write_table(table.set_column(at, "action", [[[0.0, 0.0, 0.0]] * len(table)]), file)


@pytest.mark.parametrize(
    ("change", "text", "message"),
    [
        (_info(fps=30), "", "30 frames per second, two_room has 10"),
        (_info(), "fps: 20", "10 frames per second, the mapping says fps: 20"),
        (_info(), "action_dim: 7", "2 dimensions, the mapping says action_dim: 7"),
        (_info(), "action_dim: 2\nevery: 2", "2 dimensions, the mapping says action_dim: 2 and every: 2"),
        (_info(), "every: 2\nfps: 10", "the actions of .* have 2 dimensions, two_room has 4"),
        (_info(), "columns: {action: joint}", "no column 'joint' for the action"),
        (_info(), "columns: {state: observation.images.top}", "no column|expected numbers|struct"),
        (_info(total_frames=51), "", "total_frames=51, but holds 50"),
        (_info(total_episodes=8), "", "total_episodes=8, but holds 7"),
        (_info(codebase_version="v1.6"), "", "version 'v1.6', expected one of v2.0"),
        (_drop("data/*/*2.parquet"), "", "there is no .*episode_000002.parquet"),
        (_cut("data/*/*.parquet"), "", "truncated or no Parquet file"),
        (_wide_action, "", "action.* has 3 values, meta/info.json says shape"),
        (_info(), "skip_episodes: [7]", "skip_episodes has 7"),
    ],
)
def test_bad_lerobot(change, text, message, rows, tmp_path):
    source = foreign.write_lerobot(tmp_path / "source", rows)
    change(source)
    yaml = mapping(tmp_path / "m.yaml", text)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        import_dataset("lerobot", source, tmp_path / "out", mapping=yaml, env="two_room", **EASY)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_videos_without_av_name_the_extra(rows, tmp_path, monkeypatch):
    pytest.importorskip("av")
    source = foreign.write_lerobot(tmp_path / "source", rows, video=True)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "lewm_hf.data.importers.video", raising=False)
    with pytest.raises(ImportError, match=r"'av' is missing: .*lewm-hf\[video\]"):
        import_dataset("lerobot", source, tmp_path / "out", env="two_room", **EASY)


def _line(number, text):
    def change(path):
        file = path / "walk_000.csv"
        lines = file.read_text().splitlines()
        lines[number : number + 1] = text
        file.write_text("\n".join(lines))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_line(2, []), "7 frames, but its CSV file 6 rows"),
        (_line(2, ["1,x,3,4"]), "line 3: action_1='x' is not a number"),
        (_line(2, ["1,2,3"]), "line 3: 3 values, expected 4"),
        (_line(2, ["1,,3,4"]), "episode 0, frame 1 .* has action"),
        (_line(0, ["a,b,c,d"]), "walk_001.csv has the columns"),
        (_drop("*1.csv"), "has no walk_001.csv beside it"),
        (_drop("*1.mp4"), "walk_001.csv has no video"),
        (_cut("*.mp4"), "damaged or no video|does not hold"),
    ],
)
def test_bad_mp4_and_csv(change, message, rows, tmp_path):
    pytest.importorskip("av")
    source = foreign.write_mp4csv(tmp_path / "source", foreign.make_rows((7, 3)))
    change(source)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        import_dataset("mp4csv", source, tmp_path / "out", env="two_room", **EASY)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fsp: 10", "unknown entry 'fsp'"),
        ("columns: {acton: a}", "unknown entry 'acton'"),
        ("fps: fast", "fps: 'fast', expected a number"),
        ("fps: -1", "expected a number above 0"),
        ("fit: squash", "expected one of crop, pad, stretch"),
        ("every: 0", "every: 0, expected a whole number above 0"),
        ("skip_episodes: 3", "expected a list"),
        ("columns: {success: [a, b]}", "expected the name of a column"),
        ("columns: {action: 3}", "a column's name, or a list"),
        ("[1, 2]", "must hold entries"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_bad_mappings(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        read_mapping(mapping(tmp_path / "m.yaml", text))
    assert "\n" not in str(error.value)


def test_mappings(tmp_path):
    text = "fps: 10\nfit: crop\nskip_episodes: [3, 1]\ncolumns: {action: a, state: [q, v], image: cam}"
    assert read_mapping(mapping(tmp_path / "m.yaml", text)) == ColumnMapping(
        image="cam", action=("a",), state=("q", "v"), fps=10.0, fit="crop", skip_episodes=(1, 3)
    )
    assert read_mapping(None) == ColumnMapping()
    with pytest.raises(FileNotFoundError, match="there is no mapping"):
        read_mapping(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "zarr"}, "unknown format 'zarr': use one of hdf5, lance, lerobot, mp4csv, robomimic, table"),
        ({"env": "maze"}, "unknown environment 'maze'"),
        ({"image_size": 64}, "28x28 pixels, expected 64x64"),
        ({"test_fraction": 1.0}, "test_fraction=1.0"),
        ({"image_format": "jpeg"}, "image_format='jpeg'"),
        ({"workers": 0}, "workers=0"),
        ({"workers": True}, "workers=True must be a whole number"),
        ({"seed": np.float32(1.5)}, "seed=np.float32\\(1.5\\) must be a whole number"),
    ],
)
def test_impossible_arguments(changed, message, room_file, tmp_path):
    arguments = {"format": "hdf5", "source": room_file, "out": tmp_path / "out", "env": "two_room", **EASY, **changed}
    with pytest.raises(ValueError, match=message):
        import_dataset(**arguments)
    assert not (tmp_path / "out").exists()
