"""A fitted actor against what it has to know by construction, and against the model it was added to."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import load_episodes
from lewm_hf.training.actor import ActorFit, _Pairs, fit_actor


@pytest.fixture(scope="module")
def paced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("actor") / "d"
    collect("two_room", folder, 24, image_size=28, max_steps=40, stop_at_success=False, workers=1, every=5, seed=4)
    return {split: load_episodes(folder, split) for split in ("train", "test")}


def test_an_actor_on_frozen_embeddings_beats_the_mean_action_and_changes_nothing_else(paced, tmp_path):
    mean, std = paced["train"].action_statistics()
    torch.manual_seed(0)
    model = LeWMModel(
        LeWMConfig(
            image_size=28, encoder="spatial_softmax", embed_dim=8, projector_hidden_size=16, predictor_hidden_size=16,
            predictor_layers=1, predictor_heads=2, predictor_head_dim=8, predictor_mlp_size=16, action_mlp_size=16,
            sigreg_projections=8, encoder_kwargs={"convolutions": [[8, 5, 2]], "maps": 8}, action_mean=mean,
            action_std=std,
        )
    ).eval()  # fmt: skip
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit = ActorFit(steps=150, batch_size=128, hidden_size=32, layers=2, max_blocks=3)
    fitted, errors = fit_actor(model, LeWMImageProcessor(image_size=28), paced, fit)
    assert set(errors) == {"train_embeddings", "train_features", "test_embeddings", "test_features"}
    # The data's policy aims at its own goal with noise of twice the signal: some of a block can be known, not all.
    assert errors["train_features"] < 0.97
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    after = fitted.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert fitted.config.has_actor and fitted.config.actor_max_blocks == 3 and not fitted.training
    again, _ = fit_actor(model, LeWMImageProcessor(image_size=28), paced, fit)
    assert all(torch.equal(after[name], value) for name, value in again.state_dict().items())
    rough, rough_errors = fit_actor(model, LeWMImageProcessor(image_size=28), paced, replace(fit, precision="bf16"))
    assert {
        value.dtype for name, value in rough.state_dict().items() if "actor" in name and value.is_floating_point()
    } == {torch.float32}
    assert not torch.equal(rough.actor.on_features.net[0].weight, fitted.actor.on_features.net[0].weight)
    assert rough_errors == pytest.approx(errors, abs=0.02)
    fitted.save_pretrained(tmp_path)
    loaded = LeWMModel.from_pretrained(tmp_path).eval()
    frames = torch.from_numpy(paced["test"].frames(np.arange(2)))
    z, f = loaded.observe(LeWMImageProcessor(image_size=28).normalize(frames)[None])
    with torch.no_grad():
        block = loaded.act(z[:, 0], z[:, 1], torch.tensor([1]), f[:, 0], f[:, 1])
    assert block.shape == (1, 10) and block.isfinite().all()


def test_pairs_of_several_data_sets_stay_within_their_episodes(paced, tiny_model, tmp_path):
    collect("two_room", tmp_path / "d", 6, image_size=28, max_steps=30, workers=1, seed=5)  # every step is kept
    dense, processor = load_episodes(tmp_path / "d", "train"), LeWMImageProcessor(image_size=28)
    parts = [paced["train"], dense]
    pairs = _Pairs(tiny_model, processor, parts, "train")
    owner = np.concatenate(
        [np.repeat(np.arange(len(one.lengths)) + 1000 * n, one.lengths) for n, one in enumerate(parts)]
    )
    drawn = pairs.draw(np.random.default_rng(0), 2000, 3)
    now, goal, left = (drawn[name].numpy() for name in ("now", "goal", "left"))
    np.testing.assert_array_equal(owner[now], owner[goal])
    np.testing.assert_array_equal(goal - now, left * np.where(now < parts[0].num_rows, 1, 5))
    assert (now < parts[0].num_rows).any() and (now >= parts[0].num_rows).any()
    row = int(now[now >= parts[0].num_rows][0]) - parts[0].num_rows
    chosen = drawn["block"][now >= parts[0].num_rows][0]
    mean, std = (np.array(one) for one in (tiny_model.config.action_mean, tiny_model.config.action_std))
    raw = pairs.blocks[chosen].numpy().reshape(5, 2) * std + mean
    np.testing.assert_allclose(raw, dense.actions[row : row + 5], atol=1e-5)
    latents = tiny_model.encode(processor.normalize(torch.from_numpy(dense.frames(np.array([row]))))[None])
    torch.testing.assert_close(pairs.embeddings[row + parts[0].num_rows], latents[0, 0].detach())


def test_what_never_moves_is_no_part_of_the_error(paced, tiny_model):
    """Beside the mean action's, which is 1: half of the entries would halve it."""
    mean, std = paced["train"].action_statistics()
    tiny_model.config.action_mean, tiny_model.config.action_std = mean, [std[0], 0.0]
    processor, fit = LeWMImageProcessor(image_size=28), ActorFit(steps=1, hidden_size=8, layers=2, inputs="embeddings")
    fitted, measured = fit_actor(tiny_model, processor, paced, fit)
    for split, episodes in paced.items():
        pairs = _Pairs(fitted, processor, [episodes], split)
        drawn = pairs.draw(np.random.default_rng(fit.seed + 1), 8192, fit.max_blocks)
        with torch.no_grad():
            seen = [pairs.embeddings[drawn[name]] for name in ("now", "goal")]
            actions = fitted.actor.on_embeddings(*seen, drawn["left"])
        off = (actions - pairs.blocks[drawn["block"]]).unflatten(-1, (-1, 2))[..., 0].double().numpy()
        assert measured[f"{split}_embeddings"] == pytest.approx((off**2).mean(), rel=1e-5)


def test_a_share_of_the_pairs_is_near(paced, tiny_model):
    pairs = _Pairs(tiny_model, LeWMImageProcessor(image_size=28), [paced["train"]], "train")
    drawn = pairs.draw(np.random.default_rng(0), 40_000, 5, 0.6)
    whole = pairs.ahead[drawn["block"].numpy()] >= 5  # far from their episode's end, where nothing is cut
    found = np.bincount(drawn["left"].numpy()[whole], minlength=6)[1:] / whole.sum()
    np.testing.assert_allclose(found, [0.28, 0.28, 0.28, 0.08, 0.08], atol=0.02)  # 0.6 / 3 + 0.4 / 5, and 0.4 / 5
    with pytest.raises(ValueError, match=r"near_share=1.5 must be between"):
        ActorFit(near_share=1.5)
    with pytest.raises(ValueError, match="precision='fp8' is unknown: use one of fp32, bf16, auto"):
        ActorFit(precision="fp8")


def test_episodes_of_another_robot_are_refused(paced, tiny_model):
    tiny_model.config.action_dim = 3
    with pytest.raises(ValueError, match="action_dim=3"):
        fit_actor(tiny_model, LeWMImageProcessor(image_size=28), paced)


def test_the_command_writes_a_checkpoint_that_acts(paced, tiny_model, tmp_path, capsys):
    from lewm_hf.cli import main

    tiny_model.save_pretrained(tmp_path / "m")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "m")
    command = ["train-actor", str(tmp_path / "m"), "--episodes", paced["train"].name, "--out", str(tmp_path / "a"),
               "--steps", "3", "--inputs", "embeddings", "--more-episodes", paced["train"].name]  # fmt: skip
    assert main(command) == 0
    fitted = LeWMModel.from_pretrained(tmp_path / "a")
    assert fitted.config.actor_inputs == "embeddings"
    facts = json.loads((tmp_path / "a" / "training.json").read_text())
    assert facts["parameters"] == fitted.num_parameters() > tiny_model.num_parameters()
    assert main(command) == 2
    assert "not empty" in capsys.readouterr().err
