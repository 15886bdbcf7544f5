"""From recordings to a plan and to all that looks into a model, by the documented commands and with no environment."""

import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from accelerate.state import AcceleratorState, GradientState
from PIL import Image

from lewm_cli import main
from lewm_hf import LeWMPlanner
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.probe.report import format_probe
from lewm_hf.evaluation.probe.run import probe

sys.path.insert(0, str(Path(__file__).parents[1]))
from data.importers import foreign

SMALL = [
    "--max_steps=3", "--batch_size=8", "--num_workers=0", "--precision=fp32", "--tracker=none", "--eval_batches=1",
    "--recalibration_batches=2", "--learning_rate=1e-3", "--image_size=28", "--patch_size=14",
    "--encoder_hidden_size=24", "--encoder_layers=1", "--encoder_mlp_size=48", "--embed_dim=8",
    "--projector_hidden_size=32", "--predictor_hidden_size=24", "--predictor_layers=1", "--predictor_heads=2",
    "--predictor_head_dim=8", "--predictor_mlp_size=32", "--action_mlp_size=48", "--sigreg_projections=32",
    "--frameskip=2", "--history_size=2", "--action_dim=2",
]  # fmt: skip
LENGTHS = (18, 16, 19, 20, 17, 4, 16, 18)  # one is shorter than a window of 6 rows


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows(LENGTHS, width=36)


@pytest.fixture(autouse=True)
def imports(tmp_path, monkeypatch):
    """Where recordings are imported to."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def lewm(*words) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    assert main([str(word) for word in words]) == 0, words


def with_two_cameras(folder: Path) -> None:
    """A second camera beside the first, which shows the same upside down."""
    info = json.loads((folder / "meta/info.json").read_text())
    features = info["features"]
    features["observation.images.wrist"] = features["observation.images.top"]
    features["reward"] = {"dtype": "float32", "shape": [1], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))
    for file in (folder / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        stored = table.column("observation.images.top").to_pylist()
        turned = [{"bytes": foreign.png(foreign_picture(one["bytes"])[::-1]), "path": None} for one in stored]
        kind = table.schema.field("observation.images.top").type
        table = table.append_column("observation.images.wrist", foreign.pa.array(turned, kind))
        reward = np.arange(len(table), dtype=np.float32)
        pq.write_table(table.append_column("reward", foreign.pa.array(reward)), file, row_group_size=10)


def foreign_picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(foreign.io.BytesIO(data)))


def test_videos_with_a_csv_of_actions_become_an_agent(rows, tmp_path, caplog):
    """Train, plan between two pictures of the camera's own size, look at health, probe what was recorded."""
    pytest.importorskip("av")
    videos, run = foreign.write_mp4csv(tmp_path / "videos", rows, single=True), tmp_path / "run"
    lewm("train", "--dataset", videos, "--fit", "crop", "--output_dir", run, *SMALL)
    assert "episodes are shorter than a window of 6 rows: dropped" in caplog.text
    picture, goal = rows.pixels[0], rows.pixels[9]  # 36 x 28
    plan = LeWMPlanner.from_pretrained(run / "last", samples=8, iterations=1, elites=2)(
        {"observation": picture, "goal": goal}
    )
    assert plan["actions"].shape[1] == 2 and np.isfinite(plan["actions"]).all()
    lewm("health", run / "last", "--episodes", videos, "--split", "train", "--out", tmp_path / "health")
    assert (tmp_path / "health" / "health.json").exists()
    probing = probe(
        run / "last", videos, split="train", columns=["observation.state[0]", "action"], seeds=[0], frames=60,
        probes=["linear"], controls=False,
    )  # fmt: skip
    assert {(row.target, row.dimensions) for row in probing.rows} == {("observation.state[0]", 1), ("action", 2)}
    assert "action (2)" in format_probe(probing.result)
    for columns, message in (
        (["observation.velocity"], "no column of numbers 'observation.velocity': there are .*observation.state"),
        (["observation.state[2]"], "observation.state has 2 entries, counted from 0"),
        (None, "name columns of numbers to probe"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            probe(run / "last", videos, split="train", columns=columns)
        assert "\n" not in str(error.value)


def test_two_cameras_of_a_lerobot_data_set_become_an_agent_that_sees_both(rows, tmp_path, caplog):
    source, run = (
        foreign.write_lerobot(tmp_path / "arm", rows, "v3.0", packs=((0, 1, 2, 3), (4, 5, 6, 7))),
        tmp_path / "run",
    )
    with_two_cameras(source)
    lewm("train", "--dataset", source, "--image_key", "top,wrist", "--fit", "stretch", "--output_dir", run, *SMALL)
    episodes = load_episodes(source, image_key="top,wrist", fit="stretch", image_size=28)
    assert episodes.cameras == ["observation.images.top", "observation.images.wrist"]
    number = int(episodes.episode_ids[0])
    # Stretched by Pillow, which knows nothing of this package.
    both = np.concatenate([rows.pixels[rows.offsets[number]], rows.pixels[rows.offsets[number]][::-1]], axis=1)
    expected = np.asarray(Image.fromarray(both).resize((28, 28), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(episodes.frames([0])[0], expected)
    np.testing.assert_array_equal(episodes.numbers("reward")[0], rows.offsets[number] % sum(LENGTHS[:4]))

    planner = LeWMPlanner.from_pretrained(run / "last", samples=8, iterations=1, elites=2)

    def seen(row):
        names = episodes.cameras
        return dict(zip(names, (rows.pixels[row], rows.pixels[row][::-1]), strict=True))

    plan = planner({"observation": seen(0), "goal": seen(9)})
    assert np.isfinite(plan["actions"]).all()
    pixels = planner.image_processor(seen(rows.offsets[number]))["pixel_values"][0]
    # To the rounding of stored pixels, in units of the normalized picture.
    trained_on = planner.image_processor.normalize(foreign_tensor(expected))
    assert float((pixels - trained_on).abs().max()) < 0.012 / 0.224
    with pytest.raises(ValueError, match="expected a mapping from the cameras observation.images.top, .* got ndarray"):
        planner({"observation": rows.pixels[0], "goal": rows.pixels[9]})
    with pytest.raises(ValueError, match="different sizes"):
        planner.image_processor(dict(zip(episodes.cameras, (rows.pixels[0], rows.pixels[0][:20]), strict=True)))

    decoder = tmp_path / "decoder"
    lewm("train-decoder", "decoder-mini", "--model", run / "last", "--dataset", source, "--output_dir", decoder,
         "--max_steps=2", "--batch_size=8", "--precision=fp32", "--tracker=none", "--eval_frames=8",
         "--background_frames=8", "--num_workers=0", "--patch_size=14")  # fmt: skip
    lewm("decode", run / "last", decoder / "last", "--episodes", source, "--split", "train", "--strips", "2",
         "--stretches", "4", "--steps", "8", "--out", tmp_path / "film")  # fmt: skip
    films = list((tmp_path / "film" / "films").glob("*.gif"))
    with Image.open(films[0]) as film:
        assert len(films) == 2 and film.n_frames == 5  # the last known frame, and four blocks of two steps


def test_demonstrations_of_a_robot_become_an_agent_that_feels_its_hand(tmp_path):
    demos = foreign.robot_demos((12, 14, 11, 13))
    source, run = foreign.write_libero(tmp_path / "drawer_demo.hdf5", demos), tmp_path / "run"
    more = ["--action_dim=7", "--proprioception_key=ee_pos", "--image_key=agentview_rgb"]
    lewm("train", "--dataset", source, "--output_dir", run, *SMALL, *more)
    planner = LeWMPlanner.from_pretrained(run / "last", samples=8, iterations=1, elites=2)
    demo, actions = demos[0], np.concatenate([demo["actions"][1:] for demo in demos])
    # All but the first of each demonstration, which led to its first picture.
    np.testing.assert_allclose(planner.model.config.action_mean, actions.mean(0), rtol=1e-6, atol=1e-7)
    plan = planner(
        {"observation": demo["front"][1], "goal": demo["front"][9],
         "proprioception": demo["hand"][1], "goal_proprioception": demo["hand"][9]}
    )  # fmt: skip
    assert plan["actions"].shape[1] == 7 and np.isfinite(plan["actions"]).all()


def foreign_tensor(frame: np.ndarray):
    import torch

    return torch.from_numpy(frame.copy())
