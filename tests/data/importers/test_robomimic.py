"""Demonstrations of robomimic and LIBERO against the arrays that they were written from."""

import json
import logging

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_cli import main
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import FORMATS, import_dataset
from lewm_hf.data.importers.demonstrations import demos_of, files_of
from lewm_hf.data.importers.formats import open_source
from lewm_hf.data.importers.mapping import ColumnMapping
from lewm_hf.data.recordings import recording_format

from . import foreign

QUICK = {"workers": 1, "image_format": "png"}


@pytest.fixture(scope="module")
def demos():
    return foreign.robot_demos()


def rows_of(part, number):
    """Where an episode's rows are in a split; empty where it is in the other."""
    found = np.flatnonzero(part.episode_ids == number)
    return range(part.offsets[found[0]], part.offsets[found[0]] + part.lengths[found[0]]) if len(found) else range(0)


def both(folder):
    return {split: load_episodes(folder, split) for split in ("train", "test")}


def test_frames_actions_and_numbers_are_those_of_the_file(demos, tmp_path):
    source = foreign.write_robomimic(tmp_path / "lift.hdf5", demos, {"train": [0, 2, 3], "valid": [1]})
    out = import_dataset("robomimic", source, tmp_path / "out", mapping=ColumnMapping(keep=("*",)), **QUICK)
    parts = both(out)
    assert parts["train"].fps == 20 and parts["test"].episode_ids.tolist() == [1]
    assert parts["train"].episode_ids.tolist() == [0, 2, 3]
    for number, demo in enumerate(demos):
        part = parts["test" if number == 1 else "train"]
        rows = rows_of(part, number)
        assert len(rows) == len(demo["actions"])
        np.testing.assert_array_equal(part.frames(rows), demo["front"][:-1])
        np.testing.assert_array_equal(part.actions[rows.start : rows.stop], demo["actions"].astype(np.float32))
        # In the order of their names: robot0_eef_pos, robot0_joint_pos.
        observed = np.c_[demo["hand"], demo["joints"]][:-1].astype(np.float32)
        np.testing.assert_array_equal(part.numbers("observation.state")[rows.start : rows.stop], observed)
        for name, values in (
            ("robot0_eef_pos", demo["hand"][:-1]), ("states", demo["states"][:-1]),
            ("rewards", demo["reward"][:, None]),
        ):  # fmt: skip
            np.testing.assert_array_equal(part.numbers(name)[rows.start : rows.stop], values)
    card = (out / "README.md").read_text()
    assert "1 episodes, as the source says (mask/train, mask/valid)" in card


def test_libero_s_pictures_are_turned_and_its_actions_moved_to_the_row_that_they_leave(demos, tmp_path, caplog):
    source = foreign.write_libero(tmp_path / "drawer_demo.hdf5", demos)
    with caplog.at_level(logging.INFO):
        parts = {
            split: load_episodes(source, split, image_key="agentview_rgb", cache_dir=tmp_path / "cache")
            for split in ("train", "test")
        }
    assert "beside the pictures that they led to: moved up by a row" in caplog.text
    for number, demo in enumerate(demos):
        part = next(part for part in parts.values() if number in part.episode_ids)
        rows = rows_of(part, number)
        np.testing.assert_array_equal(part.frames(rows), demo["front"][1:])
        # After picture t + 1 of the file's first comes the action that the file has one row later.
        np.testing.assert_array_equal(part.actions[rows.start : rows.stop - 1], demo["actions"][1:].astype(np.float32))
        assert np.isnan(part.actions[rows.stop - 1]).all()
        np.testing.assert_array_equal(part.numbers("joint_states")[rows.start : rows.stop], demo["joints"][1:])
    card = next((tmp_path / "cache").rglob("README.md")).read_text()
    assert "turned upright: macros_image_convention=opengl" in card and "moved up by a row" in card


def test_what_the_joints_show_decides_before_what_the_attribute_suggests(demos, tmp_path):
    one = {"image_key": "agentview_image"}
    again = foreign.write_robomimic(tmp_path / "again.hdf5", demos)  # written anew with LIBERO's attributes
    with h5py.File(again, "a") as file:
        file["data"].attrs["macros_image_convention"] = "opencv"
    assert not np.isnan(load_episodes(again, cache_dir=tmp_path / "cache", **one).actions).any()
    with h5py.File(again, "a") as file:
        for demo in file["data"].values():
            del demo["states"]
    assert np.isnan(load_episodes(again, cache_dir=tmp_path / "cache", **one).actions).any()
    for shift, missing in ((0, 0), (1, 1)):
        source = open_source("robomimic", again, ColumnMapping(action_shift=shift), None)
        assert int(np.isnan(source.vectors(0)["action"]).any(1).sum()) == missing
        np.testing.assert_array_equal(source.vectors(0)["action"][: 6 - shift], demos[0]["actions"][shift:])
        source.close()


def test_several_cameras_ask_which_and_may_be_put_side_by_side(demos, tmp_path, capsys):
    source = foreign.write_robomimic(tmp_path / "two.hdf5", demos, cameras=("front", "wrist"))
    assert main(["import", "robomimic", str(source), str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err.strip()
    assert "has 2 cameras (agentview_image, robot0_eye_in_hand_image): choose one with `image`" in line
    assert "\n" not in line and not (tmp_path / "out").exists()
    keys = ["agentview_image", "robot0_eye_in_hand_image"]
    part = load_episodes(source, image_key=keys, fit="stretch", image_size=56, cache_dir=tmp_path / "cache")
    assert part.cameras == keys
    with pytest.raises(ValueError, match="'front' of .* is no camera: there are agentview_image, robot0_eye_in"):
        load_episodes(source, image_key="front", cache_dir=tmp_path / "cache")


def test_files_of_a_folder_follow_each_other_in_natural_order(tmp_path):
    made = {name: foreign.robot_demos((5, 6), seed=seed) for seed, name in enumerate(("task_10", "task_2"))}
    (tmp_path / "suite").mkdir()
    for name, demos in made.items():
        masks = {"train": [0], "valid": [1]} if name == "task_2" else None
        foreign.write_robomimic(tmp_path / "suite" / f"{name}.hdf5", demos, masks)
    assert recording_format(tmp_path / "suite") == "robomimic"
    parts = both(import_dataset("robomimic", tmp_path / "suite", tmp_path / "out", **QUICK))
    assert parts["test"].episode_ids.tolist() == [1] and parts["train"].episode_ids.tolist() == [0, 2, 3]
    order = [*made["task_2"], *made["task_10"]]
    for number in (0, 2, 3):
        rows = rows_of(parts["train"], number)
        np.testing.assert_array_equal(parts["train"].frames(rows), order[number]["front"][:-1])


@pytest.mark.parametrize(
    ("masks", "train", "test"),
    [
        ({"valid": [0, 2]}, [1, 3], [0, 2]),
        ({"train": [0, 2]}, [0, 2], [1, 3]),
        ({"train": [0, 3], "valid": [2]}, [0, 3], [2]),
        ({"better": [0], "20_percent_valid": [1]}, None, None),
    ],
)
def test_masks_are_the_split(masks, train, test, demos, tmp_path, caplog):
    source = foreign.write_robomimic(tmp_path / "lift.hdf5", demos, masks)
    parts = both(import_dataset("robomimic", source, tmp_path / "out", test_fraction=0.5, **QUICK))
    found = [parts[split].episode_ids.tolist() for split in ("train", "test")]
    if train is None:
        assert sorted(found[0] + found[1]) == [0, 1, 2, 3] and len(found[1]) == 2
    else:
        assert found == [train, test]
    left_out = "1 demonstrations of" in caplog.text and "left out" in caplog.text
    assert left_out == (masks == {"train": [0, 3], "valid": [2]})


@settings(max_examples=25, deadline=None)
@given(numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=12, unique=True))
def test_demonstrations_come_by_number(numbers, tmp_path_factory):
    path = tmp_path_factory.mktemp("numbers") / "demos.hdf5"
    with h5py.File(path, "w") as file:
        for number in numbers:
            file[f"data/demo_{number}/actions"] = np.zeros((1, 2))
    (file,) = files_of(path)
    assert [demo.name for demo in demos_of(file)] == [f"demo_{number}" for number in sorted(numbers)]
    file.close()


def without(name):
    def change(file):
        del file["data/demo_2"][name]

    return change


def replaced(name, values):
    def change(file):
        del file["data/demo_2"][name]
        file["data/demo_2"][name] = values

    return change


def said(name, value, demo=None):
    def change(file):
        (file["data"] if demo is None else file["data"][demo]).attrs[name] = value

    return change


def emptied(file):
    for name in list(file["data/demo_2"]):
        del file["data/demo_2"][name]


def without_pictures(file):
    for demo in file["data"].values():
        del demo["obs/agentview_image"]


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("actions"), "demo_2 of .*lift.hdf5 has no 'actions', .* leave it out with `skip_episodes: \\[2\\]`"),
        (emptied, "demo_2 of .* has no 'actions', .*: expected it for the action, there are no data sets"),
        (without("obs/agentview_image"), "demo_2 of .* has no 'agentview_image', .* expected it for the image"),
        (without("obs/robot0_eef_pos"), "demo_2 of .* has no 'robot0_eef_pos'"),
        (replaced("actions", np.zeros((5, 7))), "'robot0_eef_pos' of demo_2 of .* has 7 rows, but 'actions' 5"),
        (replaced("obs/agentview_image", np.zeros((6, 8, 8, 3), np.uint8)), "has 6 rows, but 'actions' 7: expected"),
        (replaced("obs/agentview_image", np.zeros((7, 8, 8, 3))), r"\(7, 8, 8, 3\) float64, expected .* uint8 for"),
        (replaced("obs/agentview_image", np.zeros((7, 3, 8, 8), np.uint8)), r"\(7, 3, 8, 8\) uint8, expected \(rows"),
        (replaced("actions", np.array([b"left"] * 7)), "'actions' of demo_2 of .* is .*, expected numbers"),
        (replaced("actions", 3.0), "'actions' of demo_2 of .* is .*, expected numbers"),
        (linked("data/demo_2", h5py.SoftLink("/gone")), "data/demo_2 of .* is no group, or a link to nothing"),
        (linked("data/demo_2/actions", h5py.SoftLink("/gone")), "demo_2 of .* has no 'actions', or a link to nothing"),
        (linked("data/demo_2/actions", h5py.SoftLink("actions")), "data/demo_2/actions' of .* cannot be read"),
        (linked("data/demo_2", h5py.ExternalLink("b.hdf5", "/data")), "data/demo_2' of .* lies in another file"),
        (linked("data/demo_2/obs", h5py.ExternalLink("b.hdf5", "/")), "data/demo_2/obs' of .* lies in another file"),
        (without_pictures, r"demo_0 of .* has no pictures: obs has robot0_eef_pos \(6, 3\) float64, .*states_to_obs"),
        (said("num_samples", 9, "demo_2"), "says num_samples of demo_2=9, but holds 7"),
        (said("env_args", "{"), "nothing tells the frames per second of .*: give the environment, or fps in a mapping"),
        (said("env_args", json.dumps({"env_kwargs": {"control_freq": -3}})), "control_freq=-3, expected a number"),
        (linked("mask/valid", np.array([b"demo_7"])), "mask/valid of .* lists 'demo_7', which is not in its data"),
        (linked("mask/valid", np.array([b"demo_0"])), "demo_0 of .* is in mask/train and in mask/valid"),
        (linked("mask/valid", np.arange(2)), r"mask/valid of .* is \(2,\) int64, expected a list of names"),
        (linked("data", h5py.SoftLink("/gone")), "lift.hdf5 has no group 'data', but data, mask: expected data/demo_0"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_in_one_line(change, message, demos, tmp_path, capsys):
    source = foreign.write_robomimic(tmp_path / "lift.hdf5", demos, {"train": [0, 1, 2], "valid": [3]})
    with h5py.File(source, "a") as file:
        change(file)
    with pytest.raises(ValueError, match=message) as error:
        import_dataset("robomimic", source, tmp_path / "out", **QUICK)
    assert "\n" not in str(error.value)
    assert main(["import", "robomimic", str(source), str(tmp_path / "out")]) == 2
    assert str(error.value) in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_demonstration_that_is_broken_or_has_no_row_can_be_left_out(demos, tmp_path, caplog):
    source = foreign.write_robomimic(tmp_path / "lift.hdf5", demos)
    with h5py.File(source, "a") as file:
        without("actions")(file)
        for name in ("actions", "obs/agentview_image", "obs/robot0_eef_pos", "obs/robot0_joint_pos"):
            values = file["data/demo_0"][name][:0]
            del file["data/demo_0"][name]
            file["data/demo_0"][name] = values
        file["data/demo_0"].attrs["num_samples"] = 0
    parts = both(
        import_dataset("robomimic", source, tmp_path / "out", mapping=ColumnMapping(skip_episodes=(2,)), **QUICK)
    )
    assert sorted(id for part in parts.values() for id in part.episode_ids) == [1, 3]
    assert "has 1 episodes without a row, which are left out" in caplog.text


def test_columns_are_chosen_and_what_demonstrations_differ_in_is_not_kept(demos, tmp_path, caplog):
    wide = [np.zeros((len(demo["actions"]), 3 + number)) for number, demo in enumerate(demos)]
    absolute = [demo["actions"] + 1 for demo in demos]
    source = foreign.write_robomimic(
        tmp_path / "lift.hdf5", demos, None, datagen=wide, **{"action_dict/abs_pos": absolute, "obs/actions": wide}
    )
    chosen = ColumnMapping(action=("action_dict.abs_pos",), observation=("robot0_joint_pos",), keep=("*",))
    with caplog.at_level(logging.INFO):
        part = load_episodes(import_dataset("robomimic", source, tmp_path / "out", mapping=chosen, **QUICK))
    rows, number = rows_of(part, part.episode_ids[0]), part.episode_ids[0]
    np.testing.assert_array_equal(part.actions[: rows.stop], absolute[number].astype(np.float32))
    assert part.numbers("observation.state").shape[1] == 7
    assert {"actions", "robot0_eef_pos", "rewards"} <= set(part.column_names) and "datagen" not in part.column_names
    assert "differ in datagen, obs.actions, which is not kept" in caplog.text


def test_the_command_offers_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    assert "{" + ",".join(sorted(FORMATS)) + "}" in capsys.readouterr().out


def test_the_kind_of_an_hdf5_file_is_seen(demos, tmp_path):
    demonstrations = foreign.write_robomimic(tmp_path / "lift.hdf5", demos)
    rows = foreign.write_hdf5(tmp_path / "rows.h5", foreign.make_rows((7, 6)))
    (tmp_path / "torn.h5").write_bytes(demonstrations.read_bytes()[:700])
    found = [recording_format(path) for path in (demonstrations, rows, tmp_path / "torn.h5")]
    assert found == ["robomimic", "hdf5", "hdf5"]
    with pytest.raises(ValueError, match="rows.h5 has no group 'data', but .*pixels.*: expected data/demo_0"):
        open_source("robomimic", rows, None, None)
    with pytest.raises(ValueError, match="no columns at its top, but data: .* is imported as robomimic"):
        open_source("hdf5", demonstrations, None, None)
