"""Proprioception as a second input: off by default, and where it is on, through training, files and planning."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel, LeWMPlanner, MPCPolicy, RobotLoop, load_planner
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.planning.frames import encode_frames
from lewm_hf.proprioception_lewm import normalized
from lewm_hf.testing import check_world_model

BODY = {
    "proprioception_key": ["joints", "gripper"], "proprioception_size": 3,
    "proprioception_mean": [1.0, -2.0, 0.5], "proprioception_std": [2.0, 0.0, 0.25],
}  # fmt: skip
QUICK = {"samples": 8, "iterations": 1, "elites": 2}


def with_body(config: LeWMConfig, **changes) -> LeWMConfig:
    return LeWMConfig(**{**config.to_dict(), **BODY, **changes})


@pytest.fixture
def body_model(tiny_config):
    torch.manual_seed(0)
    return LeWMModel(with_body(tiny_config)).eval()


def seen(model, batch=2, time=4):
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(batch, time, 3, 28, 28, generator=generator)
    return frames, torch.randn(batch, time, 3, generator=generator)


def test_off_it_changes_nothing(tiny_config, body_model):
    """The same names, the same numbers from the same seed, as without the fields; on, one part more."""
    torch.manual_seed(0)
    plain = LeWMModel(tiny_config).eval()
    assert not [name for name in plain.state_dict() if "proprioception" in name]
    extra = set(body_model.state_dict()) - set(plain.state_dict())
    assert extra == {"proprioception_encoder.weight", "proprioception_encoder.bias"}
    frames, body = seen(plain)
    features = plain.encoder(frames.flatten(0, 1)).unflatten(0, (2, 4))
    assert torch.equal(plain.encode(frames), plain.projector(features))
    assert LeWMConfig().proprioception_size == 0
    with pytest.raises(ValueError, match="proprioception_size=0, but 3 entries are given"):
        plain.encode(frames, body)


def test_it_is_shown_to_the_projector_beside_the_features(body_model):
    frames, body = seen(body_model)
    features = body_model.encoder(frames.flatten(0, 1)).unflatten(0, (2, 4))
    layer = body_model.proprioception_encoder
    expected = body_model.projector(features + body @ layer.weight.T + layer.bias)
    latents, seen_features = body_model.observe(frames, body)
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(seen_features, features)
    torch.testing.assert_close(body_model(frames[:, 0], proprioception=body[:, 0]).embeddings, expected[:, 0])
    for given, match in (
        (None, "proprioception_size=3, but none is given"), (body[:, :2], r"expected \(2, 4, 3\)"),
        (body[..., :2], r"expected \(2, 4, 3\)"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            body_model.encode(frames, given)


def test_gradients_flow_and_files_keep_it(body_model, tmp_path):
    frames, body = seen(body_model)
    body_model.train()
    batch = {"pixel_values": frames, "actions": torch.randn(2, 4, 10), "proprioception": body}
    body_model.losses(batch, body_model.step_inputs(0, 0))["loss"].backward()
    assert body_model.proprioception_encoder.weight.grad.abs().max() > 0
    body_model.eval().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["proprioception_mean"] == [1.0, -2.0, 0.5]
    loaded = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(frames, body), body_model.encode(frames, body))
    check_world_model(body_model)


def test_recorded_numbers_are_z_scored(body_model):
    values = np.array([[3.0, 5.0, 0.5], [1.0, -2.0, 1.0]])
    # The second number never moved: it is shifted, not scaled.
    expected = [[1.0, 7.0, 0.0], [0.0, 0.0, 2.0]]
    torch.testing.assert_close(normalized(values, body_model.config), torch.tensor(expected))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), but the model was trained with 3 numbers \(joints, gripper"):
        normalized(values[:, :2], body_model.config)
    with pytest.raises(ValueError, match="NaN or infinite"):
        normalized(values * np.inf, body_model.config)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"proprioception_size": -1}, "proprioception_size=-1 must be at least 0"),
        ({"proprioception_std": None}, "go together"),
        ({"proprioception_mean": [0.0]}, "proprioception_mean has 1 entries, but proprioception_size=3"),
        ({"proprioception_std": [1.0, 1.0, -1.0]}, "must not be negative"),
        ({"proprioception_mean": [0.0, 0.0, float("nan")]}, "must be finite"),
    ],
)
def test_a_config_that_contradicts_itself(tiny_config, changes, match):
    with pytest.raises(Exception, match=match):
        with_body(tiny_config, **changes)


def test_planning_takes_it_with_each_observation(body_model):
    processor = LeWMImageProcessor(image_size=28)
    start, goal = np.random.default_rng(0).integers(0, 255, (2, 28, 28, 3), dtype=np.uint8)
    here, there = [3.0, 5.0, 0.5], [1.0, -2.0, 1.0]
    planner = LeWMPlanner(body_model, processor, horizon=2, return_predictions=True, **QUICK)
    given = {"observation": start, "goal": goal, "proprioception": here, "goal_proprioception": there}
    plan = planner(given)
    # The same as with the goal's latent, made by hand.
    pixels = processor([start, goal], return_tensors="pt")["pixel_values"]
    latents = encode_frames(body_model, pixels, normalized([here, there], body_model.config))
    by_latent = {name: given[name] for name in ("observation", "proprioception")} | {"goal_embedding": latents[1]}
    np.testing.assert_array_equal(planner(by_latent)["actions"], plan["actions"])
    assert planner({**given, "goal_proprioception": here})["cost"] != plan["cost"]
    batch = planner([given, {**given, "proprioception": there}], batch_size=2)
    np.testing.assert_allclose(batch[0]["actions"], plan["actions"], atol=1e-5)
    missing = r"was trained with proprioception, 3 numbers \(joints, gripper\): give {} one vector beside each picture"
    for name in ("proprioception", "goal_proprioception"):
        with pytest.raises(ValueError, match=missing.format(f"{name},")):
            planner({key: value for key, value in given.items() if key != name})

    policy = MPCPolicy(body_model, processor)
    with pytest.raises(ValueError, match=missing.format("goal_proprioception,")):
        policy.reset([0], [0], [goal])
    policy.reset([0], [0], [[goal, start]], goal_proprioception=[there])
    assert policy._episodes[0].goal.shape == (2, 16)
    policy.reset([0], [0], [goal], goal_proprioception=[there])
    torch.testing.assert_close(policy._episodes[0].goal, latents[1])
    with pytest.raises(ValueError, match=missing.format("proprioception,")):
        policy.act([start])
    assert policy.act({0: start}, {0: here}).shape == (1, 2)
    torch.testing.assert_close(policy._episodes[0].latents[0], latents[0])


def test_the_example_of_a_card_runs_as_it_stands(body_model, tmp_path):
    from lewm_hf.hub.cards.snippets import planner_snippet

    LeWMPlanner(body_model, LeWMImageProcessor(image_size=28)).save_pretrained(tmp_path)
    code = planner_snippet(str(tmp_path), None, {}, 28, "(25, 2)", body_model.config.proprioception_size)
    names = {}
    exec(code.replace(f'"{tmp_path}"', f'"{tmp_path}", samples=8, iterations=1, elites=2'), names)
    assert names["plan"]["actions"].shape == (25, 2)


def test_a_robot_reports_it_beside_its_pictures(body_model, tiny_model):
    processor, sent = LeWMImageProcessor(image_size=28), []
    picture, body = np.full((28, 28, 3), 90, np.uint8), [3.0, 5.0, 0.5]
    reports = iter(range(100))

    def report():
        return [float(next(reports)), 5.0, 0.5]

    policy = MPCPolicy(body_model, processor, load_planner("goal-time", QUICK))
    with pytest.raises(ValueError, match="give a function that returns it"):
        RobotLoop(policy, lambda: picture, sent.append, hz=20)
    with pytest.raises(ValueError, match="trained on pictures alone: leave proprioception away"):
        RobotLoop(MPCPolicy(tiny_model, processor), lambda: picture, sent.append, hz=20, proprioception=report)
    loop = RobotLoop(policy, lambda: picture, sent.append, hz=20, proprioception=report)
    result = loop.run(picture, goal_proprioception=body, steps=12)
    assert result.plans >= 2 and next(reports) >= 2 and len(sent) == 13
    with pytest.raises(ValueError, match="give goal_proprioception"):
        loop.run(picture, steps=1)


def test_what_only_proprioception_tells_apart_is_learned():
    """A thing moves behind a curtain: all pictures are one and the same, and a sensor says where it is."""
    torch.manual_seed(0)
    config = LeWMConfig(
        image_size=8, encoder="conv", encoder_kwargs={"convolutions": [[4, 3, 2]]}, embed_dim=4, history_size=1,
        frameskip=1, action_dim=1, action_mean=[0.0], action_std=[0.58], action_low=[-1.0], action_high=[1.0],
        projector_hidden_size=32, predictor_hidden_size=16, predictor_layers=1, predictor_heads=2,
        predictor_head_dim=8, predictor_mlp_size=32, action_mlp_size=16, predictor_dropout=0.0, sigreg_projections=16,
        proprioception_key=["place"], proprioception_size=1, proprioception_mean=[0.0], proprioception_std=[1.0],
    )  # fmt: skip
    model = LeWMModel(config)
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    curtain = torch.zeros(64, 2, 3, 8, 8)
    for step in range(250):
        place = torch.randn(64, 1, generator=generator)
        push = 2 * torch.rand(64, 1, generator=generator) - 1
        batch = {
            "pixel_values": curtain, "actions": push[:, None] / 0.58,
            "proprioception": torch.stack([place, place + push], 1),
        }  # fmt: skip
        losses = model.losses(batch, model.step_inputs(0, step))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    model.eval()
    latents = model.encode(curtain, batch["proprioception"])
    predicted = model.predict(latents[:, :1], batch["actions"])[:, 0]
    error, still = F.mse_loss(predicted, latents[:, 1]), F.mse_loss(latents[:, 0], latents[:, 1])
    assert error < 0.3 * still, (float(error), float(still))
    planner = LeWMPlanner(model, LeWMImageProcessor(image_size=8), horizon=1, samples=64, iterations=3, elites=8)
    dark = np.zeros((8, 8, 3), np.uint8)
    for goal in (-0.8, 0.8):
        given = {"observation": dark, "goal": dark, "proprioception": [0.0], "goal_proprioception": [goal]}
        assert planner(given)["actions"][0, 0] * np.sign(goal) > 0.3


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    from lewm_hf.data.collect import collect

    return collect(
        "two_room", tmp_path_factory.mktemp("room") / "set", 6, image_size=28, max_steps=30, stop_at_success=False,
        workers=1, test_fraction=0.34,
    )  # fmt: skip


def test_windows_bring_the_recorded_columns(room, tiny_config):
    from lewm_hf.data.proprioception import measured

    episodes = load_episodes(room)
    found = measured(episodes, ["sim.state", "timestamp"])
    columns = np.column_stack([episodes.states, episodes.numbers("timestamp")])
    assert found["proprioception_size"] == 3
    np.testing.assert_allclose(found["proprioception_std"], columns.std(0), rtol=1e-12)
    windows = WindowDataset(episodes, with_body(tiny_config, **found), num_frames=2, goal_blocks=2)
    batch = windows.batch([0, 7])
    rows = windows.starts([0, 7])[:, None] + np.array([0, 5])
    z = (columns - columns.mean(0)) / columns.std(0)
    np.testing.assert_allclose(batch["proprioception"], z[rows], rtol=1e-5, atol=1e-6)
    ahead = batch["goal_blocks"].numpy()
    np.testing.assert_allclose(batch["goal_proprioception"], z[rows[:, 0] + 5 * ahead], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="has no column of numbers 'joints'"):
        measured(episodes, ["joints"])


def test_a_training_names_the_columns_and_plans_with_them(room, tmp_path, caplog):
    """By command: the size and the statistics come from the data set, and planning in the environment uses them."""
    from accelerate.state import AcceleratorState, GradientState

    from lewm_hf.evaluation.common.embeddings import encode_rows
    from lewm_hf.training.arguments import parse_recipe
    from lewm_hf.training.world_model import train

    def run(name, *more):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return train(*parse_recipe([
            f"--dataset={room}", f"--output_dir={tmp_path / name}", "--max_steps=3", "--batch_size=16",
            "--num_workers=0", "--precision=fp32", "--tracker=none", "--eval_batches=1", "--recalibration_batches=2",
            "--image_size=28", "--encoder_hidden_size=24", "--encoder_layers=1", "--encoder_mlp_size=48",
            "--embed_dim=16", "--projector_hidden_size=32", "--predictor_hidden_size=24", "--predictor_layers=1",
            "--predictor_heads=2", "--predictor_head_dim=8", "--predictor_mlp_size=32", "--action_mlp_size=48",
            "--sigreg_projections=64", *more,
        ]))  # fmt: skip

    caplog.set_level("INFO")
    quick = [
        "--eval_overrides",
        "split=train",
        "goal_offset=10",
        "opposite_rooms=false",
        "samples=8",
        "iterations=1",
        "elites=2",
    ]
    run("plain", "--eval_pairs=0")
    start = f"--init_from={tmp_path / 'plain' / 'last'}"
    run("body", "--proprioception_key", "observation.state", "--eval_pairs=2", *quick, start)
    assert "proprioception_encoder created anew" in caplog.text
    last = tmp_path / "body" / "last"
    config = LeWMConfig.from_pretrained(last)
    states = load_episodes(room).observations
    assert config.proprioception_key == ["observation.state"] and config.proprioception_size == 2
    np.testing.assert_allclose(config.proprioception_mean, states.mean(0), rtol=1e-6)
    assert "eval/success" in (tmp_path / "body" / "metrics.jsonl").read_text()
    model, episodes = LeWMModel.from_pretrained(last), load_episodes(room)
    processor, rows = LeWMImageProcessor.from_pretrained(last), np.array([3, 9])
    pixels = processor(list(episodes.frames(rows)), return_tensors="pt")["pixel_values"]
    expected = encode_frames(model, pixels, normalized(states[rows], config))
    found = encode_rows(model, processor, episodes, rows)["embeddings"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="1 numbers in .*, but proprioception_size=2"):
        run("other", "--proprioception_key=timestamp", "--eval_pairs=0", f"--init_from={last}")
    with pytest.raises(ValueError, match="nothing names the columns: add --proprioception_key"):
        run("unnamed", "--proprioception_size=2", "--eval_pairs=0")
    with pytest.raises(ValueError, match="an environment gives observation.state alone"):
        run("blind", "--proprioception_key=timestamp", "--eval_pairs=2", *quick)
