import json
import re
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from lewm_hf import LeWMConfig, LeWMDecoder, LeWMDecoderConfig, LeWMImageProcessor, LeWMModel, LeWMPlanner
from lewm_hf.pipeline_lewm import register_pipeline
from lewm_hf.planning import MPCPolicy, PlanSettings, load_planner, plan

SMALL = {"samples": 16, "iterations": 3, "elites": 4}


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def planner(tiny_model):
    return LeWMPlanner(tiny_model, LeWMImageProcessor(image_size=28), device="cpu", **SMALL)


def picture(seed, height=28, width=28):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_two_pictures_give_the_plan_of_the_planner(planner, tiny_model):
    made = planner({"observation": picture(0), "goal": picture(1)}, return_elites=True, return_predictions=True)
    pixels = LeWMImageProcessor(image_size=28)([picture(0), picture(1)])["pixel_values"]
    with torch.no_grad():
        latents = torch.cat([tiny_model.encode(one[None, None])[0] for one in pixels])
    expected = plan(tiny_model, latents[:1, None], latents[1:], PlanSettings.of(**SMALL), problems=[0])
    assert made["actions"].shape == (25, 2) and made["actions"].dtype == np.float32
    np.testing.assert_array_equal(made["actions"], expected.actions[0])
    np.testing.assert_array_equal(made["elites"], expected.elites[0])
    np.testing.assert_array_equal(made["elite_costs"], expected.elite_costs[0])
    np.testing.assert_array_equal(made["predicted_embeddings"], expected.predicted_embeddings[0])
    assert isinstance(made["cost"], float) and made["cost"] == expected.costs.item()


def test_output_is_small_unless_more_is_wanted(planner):
    assert set(planner(picture(0), picture(1))) == {"actions", "cost"}
    assert set(planner(picture(0), picture(1), return_elites=True)) == {"actions", "cost", "elites", "elite_costs"}


def test_every_kind_of_picture_gives_the_same_plan(planner, tmp_path):
    observation, goal = picture(0), picture(1)
    expected = planner(observation, goal)
    observation.save(tmp_path / "observation.png")
    goal.save(tmp_path / "goal.png")
    last, first = np.asarray(observation), np.moveaxis(np.asarray(observation), -1, 0)
    for one in [
        last, first, torch.tensor(last), torch.tensor(first), str(tmp_path / "observation.png"),
        tmp_path / "observation.png", last.astype(np.int64), last.astype(np.float32) / 255,
    ]:  # fmt: skip
        made = planner({"observation": one, "goal": str(tmp_path / "goal.png")})
        np.testing.assert_allclose(made["actions"], expected["actions"], atol=1e-4)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_pictures_from_urls(planner, tmp_path):
    picture(0).save(tmp_path / "observation.png")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        made = planner(f"http://127.0.0.1:{server.server_port}/observation.png", picture(1))
        server.shutdown()
    assert_same(made, planner(picture(0), picture(1)))


def test_lists_and_batches_equal_one_by_one(planner):
    inputs = [{"observation": picture(i), "goal": picture(i + 10), "problem": f"episode {i}"} for i in range(5)]
    inputs[1]["goal"] = [picture(11), picture(20)]  # another number of goals
    inputs[3] = {"observation": picture(3), "goal_embedding": torch.ones(16), "problem": 3}
    expected = [planner(one) for one in inputs]
    for batch_size in (1, 2, 5, 8):
        for made, alone in zip(planner(inputs, batch_size=batch_size), expected, strict=True):
            assert_same(made, alone)
    assert len({one["cost"] for one in expected}) == 5
    lazily = planner(one for one in inputs)
    for made, alone in zip(lazily, expected, strict=True):
        assert_same(made, alone)
    assert planner([]) == []


def test_batches_written_as_arrays(planner):
    observations, goals = ([picture(seed) for seed in seeds] for seeds in ((0, 1), (2, 3)))
    expected = [planner(observation, goal) for observation, goal in zip(observations, goals, strict=True)]
    stacked = [np.stack([np.asarray(one) for one in ones]) for ones in (observations, goals)]
    for made in (
        planner(observations, goals),
        planner(*stacked),
        planner({"observation": torch.tensor(stacked[0]), "goal": stacked[1], "problem": [0, 0]}, batch_size=2),
    ):
        for one, alone in zip(made, expected, strict=True):
            assert_same(one, alone)
    with pytest.raises(ValueError, match="a batch of 2 observations needs 2 entries of 'goal'"):
        planner(observations, goals[:1])


def test_a_data_set_and_its_columns_are_batches(planner):
    """A table of `datasets` is no data set of PyTorch, nor are its columns lists."""
    table = datasets.Dataset.from_dict({"observation": [picture(0), picture(1)], "goal": [picture(2), picture(3)]})
    table = table.cast_column("observation", datasets.Image()).cast_column("goal", datasets.Image())
    expected = [planner(picture(0), picture(2)), planner(picture(1), picture(3))]
    for made in (
        planner(table, batch_size=2),
        planner(table.with_format("numpy")),
        planner(table.to_iterable_dataset()),
        planner(table["observation"], table["goal"]),
    ):
        for one, alone in zip(made, expected, strict=True):
            assert_same(one, alone)


def test_one_deadline_of_a_batch_is_that_of_all(planner):
    observations, goals = [picture(0), picture(1)], [picture(2), picture(3)]
    for steps_left in (10, np.int64(10), torch.tensor(10), None):
        batch = {"observation": observations, "goal": goals, "steps_left": steps_left}
        for made, observation, goal in zip(planner(batch), observations, goals, strict=True):
            assert_same(made, planner({"observation": observation, "goal": goal, "steps_left": steps_left}))
    for single in (picture(2), "goal.png", Path("goal.png"), 3):
        with pytest.raises(ValueError, match="a batch of 2 observations needs 2 entries of 'goal'"):
            planner(observations, single)


def test_two_arguments_say_the_rest_by_keywords(planner):
    beside = {"steps_left": 10, "problem": "shelf"}
    expected = planner({"observation": picture(0), "goal": picture(1), **beside})
    assert len(expected["actions"]) == 10  # two blocks instead of five
    assert_same(planner(picture(0), picture(1), **beside), expected)
    both = planner([picture(0)] * 2, [picture(1)] * 2, steps_left=10, problem=["shelf", "table"], samples=16)
    assert_same(both[0], expected)
    assert (both[1]["actions"] != expected["actions"]).any()
    with pytest.raises(ValueError, match="steps_left=-1 must be a whole number"):
        planner(picture(0), picture(1), steps_left=-1)


def test_a_model_that_went_back_to_training_is_refused(planner, tiny_model):
    tiny_model.train()
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    with pytest.raises(ValueError, match="in training mode, .* call model.eval"):
        planner(picture(0), picture(1))
    for name, value in tiny_model.state_dict().items():  # BatchNorm took no note of the picture
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_noise_belongs_to_seed_and_problem(planner):
    pair = {"observation": picture(0), "goal": picture(1)}
    first = planner(pair)
    assert_same(planner(pair), first)
    assert_same(planner({**pair, "problem": 0}), first)
    assert_same(planner(pair, seed=42), first)
    for other in (planner(pair, seed=43), planner({**pair, "problem": 1}), planner({**pair, "problem": "0"})):
        assert np.abs(other["actions"] - first["actions"]).max() > 1e-3


def test_settings_of_a_call_leave_the_planner_as_it_was(planner):
    pair = {"observation": picture(0), "goal": picture(1)}
    before = planner(pair)
    assert planner(pair, horizon=2)["actions"].shape == (10, 2)
    assert planner(pair, elites=3, return_elites=True)["elites"].shape == (3, 25, 2)
    assert_same(planner(pair), before)


def test_a_plan_looks_no_further_than_the_deadline(planner):
    pair = {"observation": picture(0), "goal": picture(1)}
    dues = [None, 40, 25, 14, 6, 1, 0]  # blocks of five steps
    plans = [planner(pair if due is None else pair | {"steps_left": due}) for due in dues]
    assert [len(one["actions"]) for one in plans] == [25, 25, 25, 15, 10, 10, 10]
    assert_same(plans[0], plans[2])
    assert_same(plans[3], planner(pair, horizon=3))
    together = planner([pair if due is None else pair | {"steps_left": due} for due in dues], batch_size=4)
    for one, alone in zip(together, plans, strict=True):
        assert_same(one, alone)
    for wrong in (-1, 2.5, "soon"):
        with pytest.raises(ValueError, match="steps_left"):
            planner(pair | {"steps_left": wrong})


def test_a_solver_brings_its_own_settings(planner):
    pair = {"observation": picture(0), "goal": picture(1)}
    assert planner(pair, solver="mppi", temperature=0.5)["actions"].shape == (25, 2)
    for arguments, message in (
        ({"temperature": 0.5}, "temperature is not a setting of solver 'cem'"),
        ({"solver": "mppi", "elites": 4}, "elites is not a setting of solver 'mppi'"),
        ({"proposal": "actor"}, "proposal='actor' needs a checkpoint with an actor"),
    ):
        with pytest.raises(ValueError, match=message):
            planner(pair, **arguments)


def test_goal_may_be_an_embedding(planner, tiny_model):
    pixels = LeWMImageProcessor(image_size=28)(picture(1))["pixel_values"]
    with torch.no_grad():
        embedding = tiny_model.encode(pixels[None])[0, 0]
    expected = planner(picture(0), picture(1))
    several = torch.stack([embedding, embedding + 100])
    for given in (
        embedding,
        embedding.numpy().astype(">f8"),
        embedding.tolist(),
        several,
        [*several.numpy()],
        [*several],
    ):
        assert_same(planner({"observation": picture(0), "goal_embedding": given}), expected)
        assert_same(planner(picture(0), goal_embedding=given), expected)
    far = planner(
        {"observation": picture(0), "goal_embedding": torch.stack([embedding, embedding + 100])}, goals="mean"
    )
    assert far["cost"] > expected["cost"] + 1000


def test_observation_and_goal_are_encoded_once(planner, tiny_model, monkeypatch):
    frames, encode = [], LeWMModel.encode
    monkeypatch.setattr(
        LeWMModel, "encode", lambda self, pixels: frames.append(pixels.shape[:2].numel()) or encode(self, pixels)
    )
    planner(picture(0), picture(1))
    assert sum(frames) == 2


def test_larger_pictures_are_planned_from_as_the_processor_shrinks_them(planner, tiny_model):
    made = planner(picture(0, 60, 60), picture(1, 60, 60))
    shrunk = LeWMImageProcessor(image_size=28)([picture(seed, 60, 60) for seed in (0, 1)])["pixel_values"]
    assert shrunk.shape == (2, 3, 28, 28)
    with torch.no_grad():
        latents = torch.cat([tiny_model.encode(one[None, None])[0] for one in shrunk])
    wanted = plan(tiny_model, latents[:1, None], latents[1:], PlanSettings.of(**SMALL), problems=[0])
    np.testing.assert_array_equal(made["actions"], wanted.actions[0])


def test_pictures_are_made_square_as_the_training_pictures_were(planner, tiny_model):
    with pytest.raises(ValueError, match="90x60 pixels is not square"):
        planner(picture(0, 60, 90), picture(1, 60, 90))
    padding = LeWMPlanner(tiny_model, LeWMImageProcessor(image_size=28, fit="pad"), device="cpu", **SMALL)
    padded = [np.pad(picture(seed, 60, 90), ((15, 15), (0, 0), (0, 0))) for seed in (0, 1)]
    assert_same(padding(picture(0, 60, 90), picture(1, 60, 90)), planner(*padded))


def test_from_pretrained_and_the_registered_task(checkpoint):
    pair = {"observation": picture(0), "goal": picture(1)}
    planner = LeWMPlanner.from_pretrained(checkpoint, device="cpu", **SMALL)
    registered = pipeline("world-model-planning", model=str(checkpoint), device="cpu", **SMALL)
    assert type(registered) is LeWMPlanner and not planner.model.training
    expected = planner(pair)
    assert_same(registered(pair), expected)
    instance = pipeline(
        "world-model-planning", model=planner.model, image_processor=planner.image_processor, device="cpu", **SMALL
    )
    assert_same(instance(pair), expected)
    reseeded = LeWMPlanner.from_pretrained(str(checkpoint), device="cpu", seed=1, **SMALL)(pair)
    assert np.abs(reseeded["actions"] - expected["actions"]).max() > 1e-3
    low = LeWMPlanner.from_pretrained(checkpoint, device="cpu", dtype="bfloat16", **SMALL)
    assert low.dtype == torch.bfloat16
    assert LeWMPlanner.from_pretrained(checkpoint, torch_dtype=torch.bfloat16, **SMALL).dtype == torch.bfloat16
    assert low(pair)["cost"] == pytest.approx(expected["cost"], rel=0.2)
    parts = planner.model, planner.image_processor
    for same in ("auto", None, torch.float32, "float32"):
        assert_same(LeWMPlanner(*parts, device="cpu", dtype=same, **SMALL)(pair), expected)
    for name, other in (("dtype", torch.bfloat16), ("torch_dtype", "float16"), ("dtype", "fp8")):
        message = f"{name}={other}, but the model is in torch.float32, .* give it to from_pretrained"
        with pytest.raises(ValueError, match=message):
            LeWMPlanner(*parts, device="cpu", **{name: other}, **SMALL)


def test_save_pretrained_writes_a_checkpoint_without_code(checkpoint, tmp_path):
    planner = LeWMPlanner.from_pretrained(checkpoint, device="cpu", **SMALL)
    planner.save_pretrained(tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    copy = LeWMPlanner.from_pretrained(tmp_path / "copy", device="cpu", **SMALL)
    assert_same(copy(picture(0), picture(1)), planner(picture(0), picture(1)))


def test_plans_in_another_process_without_any_data_set(checkpoint, tmp_path):
    """The checkpoint alone gives actions in environment units, and the same ones."""
    code = f"""
import sys
import numpy as np
from PIL import Image
from lewm_hf import LeWMPlanner
planner = LeWMPlanner.from_pretrained({str(checkpoint)!r}, device="cpu", samples=16, iterations=3, elites=4)
rng = [np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8) for seed in (0, 1)]
np.save({str(tmp_path / "actions.npy")!r}, planner(*map(Image.fromarray, rng))["actions"])
assert not {{"datasets", "gymnasium", "lewm_hf.data", "lewm_hf.envs"}} & set(sys.modules), "too much is imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    planner = LeWMPlanner.from_pretrained(checkpoint, device="cpu", **SMALL)
    made = np.load(tmp_path / "actions.npy")
    np.testing.assert_allclose(made, planner(picture(0), picture(1))["actions"], atol=1e-5)
    # Candidates are N(0, 1) in z-scored space: environment units centre on the statistics' mean.
    assert (np.abs(made - [0.1, -0.2]) < 5 * np.array([0.5, 0.6])).all()


OWN_WORLD = """
from lewm_hf import LeWMConfig, LeWMModel


class OwnConfig(LeWMConfig):
    model_type = "own_world"


class OwnModel(LeWMModel):
    config_class = OwnConfig
"""


def test_a_world_model_of_somebody_elses_comes_with_its_code(tmp_path, tiny_model, planner):
    """A file that transformers runs when it is told to trust it."""
    tiny_model.save_pretrained(tmp_path, variant="fp32")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(OWN_WORLD)
    config = json.loads((tmp_path / "config.json").read_text()) | {
        "model_type": "own_world", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    own = LeWMPlanner.from_pretrained(tmp_path, trust_remote_code=True, variant="fp32", **SMALL)
    assert type(own.model).__module__.startswith("transformers_modules.")
    assert_same(own(picture(0), picture(1)), planner(picture(0), picture(1)))


def test_a_decoder_plans_nothing(tmp_path):
    config = LeWMDecoderConfig(image_size=28, patch_size=14, embed_dim=16, hidden_size=8, heads=2, layers=1)
    LeWMDecoder(config).save_pretrained(tmp_path)
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a LeWMDecoder is no world model: give one"):
        LeWMPlanner.from_pretrained(tmp_path)


def test_registering_again_changes_nothing(caplog):
    register_pipeline()
    assert not caplog.records


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"observation": picture(0)}, "either 'goal' or 'goal_embedding'"),
        ({"observation": picture(0), "goal": picture(1), "goal_embedding": torch.ones(16)}, "either 'goal'"),
        ({"observation": picture(0), "goals": picture(1)}, "goals"),
        ({"goal": picture(0)}, "expected 'observation'"),
        (
            {"observation": picture(0), "goal": picture(1, 28, 30)},
            "goal is 28x30 pixels, but the observation 28x28",
        ),
        ({"observation": np.zeros((28, 28, 4), dtype=np.uint8), "goal": picture(1)}, "3 channels"),
        ({"observation": np.zeros((28, 28), dtype=np.uint8), "goal": picture(1)}, "3 channels"),
        ({"observation": np.full((28, 28, 3), np.nan), "goal": picture(1)}, "NaN"),
        ({"observation": 3, "goal": picture(1)}, "type int"),
        ({"observation": picture(0), "goal_embedding": torch.ones(15)}, r"goal_embedding has shape \(15,\).*\(16,\)"),
        ({"observation": picture(0), "goal_embedding": torch.ones(16) * float("nan")}, "goal_embedding holds NaN"),
        *(
            ({"observation": picture(0), "goal_embedding": wrong}, f"goal_embedding of type {kind} is no latent")
            for wrong, kind in (
                ("goal.png", "str"),
                (None, "NoneType"),
                (["a"], "list"),
                (torch.ones(16) * 1j, "Tensor"),
            )
        ),
        ({"observation": picture(0), "goal_embedding": [[1.0], [1.0, 2.0]]}, "different lengths"),
        ({"observation": picture(0), "goal_embedding": [torch.ones(16), torch.ones(2)]}, r"shapes \[\(2,\), \(16,\)\]"),
        ({"observation": picture(0), "goal": picture(1), "problem": 1.5}, "problem=1.5"),
        ("observation.png", "Incorrect image source|give a dictionary"),
        ({"observation": "missing.png", "goal": picture(1)}, "missing.png"),
    ],
)
def test_bad_inputs_are_refused_with_one_line(planner, inputs, message):
    with pytest.raises(ValueError, match=message) as error:
        planner(inputs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"heat": 0.5}, TypeError, r"unknown arguments \['heat'\]: LeWMPlanner takes planner, solver"),
        ({"history_size": 1}, ValueError, "history_size=1 contradicts the checkpoint, whose config.json says 3"),
        ({"frameskip": 1}, ValueError, "frameskip=1 contradicts"),
        ({"image_size": 224}, ValueError, "image_size=224 contradicts"),
        ({"action_std": [1.0, 1.0]}, ValueError, "action_std"),
        ({"samples": 2}, ValueError, "elites=4 exceeds samples=2"),
        ({"solver": "simplex"}, ValueError, "solver='simplex'"),
        ({"planner": "fastest"}, ValueError, "fastest"),
        ({"planner": "actor-guided"}, ValueError, "needs a checkpoint with an actor"),
    ],
)
def test_bad_arguments_are_refused_in_calls_and_at_construction(planner, arguments, kind, message):
    with pytest.raises(kind, match=message):
        planner(picture(0), picture(1), **arguments)
    with pytest.raises(kind, match=message):
        LeWMPlanner(planner.model, planner.image_processor, device="cpu", **{**SMALL, **arguments})


def test_a_planner_is_taken_by_name_by_file_and_changed_by_keywords(planner, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nversion: 1\nsamples: 12\niterations: 2\nelites: 3\nhorizon: 2\ncost: path\n")
    again = LeWMPlanner(planner.model, planner.image_processor, device="cpu", planner=file, seed=5)
    assert (again.settings.solver.samples, again.settings.horizon, again.settings.cost) == (12, 2, "path")
    written_out = {"samples": 12, "iterations": 2, "elites": 3, "horizon": 2, "cost": "path", "seed": 5}
    made = again(picture(0), picture(1))
    assert_same(made, planner(picture(0), picture(1), **written_out))
    assert_same(made, planner(picture(0), picture(1), planner=file, seed=5))
    small = planner(picture(0), picture(1), planner="small", samples=20, iterations=1, elites=5)
    assert_same(small, planner(picture(0), picture(1), samples=20, iterations=1, elites=5, clip_actions="none"))


@pytest.mark.parametrize("name", ["paper", "goal-time-close", "goal-time-small"])
def test_a_named_planner_looks_as_far_ahead_as_in_a_policy(planner, name):
    search = {"samples": 8, "iterations": 1, "elites": 2}
    policy = MPCPolicy(planner.model, planner.image_processor, load_planner(name, search))
    named = LeWMPlanner(planner.model, planner.image_processor, device="cpu", planner=name, **search)
    for steps_left in (None, 25, 14, 4, 0):
        policy.reset([0], [0], [picture(1)], steps_left=steps_left)
        expected = np.concatenate([policy.act([picture(0)]), policy.ahead(0)])
        for found in (
            planner(picture(0), picture(1), planner=name, steps_left=steps_left, **search),
            named(picture(0), picture(1), steps_left=steps_left),
        ):
            np.testing.assert_allclose(found["actions"], expected, atol=1e-5)


def test_arguments_that_repeat_the_config_are_harmless(planner):
    assert_same(planner(picture(0), picture(1), frameskip=5, history_size=3), planner(picture(0), picture(1)))


def test_unready_checkpoints_are_refused_at_construction(tiny_config, tiny_model, tmp_path):
    processor = LeWMImageProcessor(image_size=28)
    bare = LeWMConfig(**{**tiny_config.to_dict(), "action_mean": None, "action_std": None})
    LeWMModel(bare).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no action statistics.*lewm convert"):
        LeWMPlanner.from_pretrained(tmp_path, device="cpu")
    with pytest.raises(ValueError, match="makes 224 pixels, but the model takes image_size=28"):
        LeWMPlanner(tiny_model, LeWMImageProcessor(), device="cpu")
    with pytest.raises(ValueError, match="pass image_processor="):
        LeWMPlanner(tiny_model, device="cpu")
    with pytest.raises(ValueError, match=re.escape("call model.eval()")):
        LeWMPlanner(tiny_model.train(), processor, device="cpu")
