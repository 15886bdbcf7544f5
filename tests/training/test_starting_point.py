"""Runs that start from a checkpoint, parts that stand still and parts that learn slowly."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from lewm_hf import LeWMImageProcessor, LeWMModel
from lewm_hf.training.arguments import parse_recipe
from lewm_hf.training.starting_point import StartingPoint

STILL = {"learning_rate": 1e-30, "weight_decay": 0, "max_steps": 1}
# Named by no run here: the checkpoint says them.
ARCHITECTURE = (
    "image_size", "patch_size", "encoder_hidden_size", "encoder_layers", "encoder_mlp_size", "embed_dim",
    "projector_hidden_size", "predictor_hidden_size", "predictor_layers", "predictor_heads", "predictor_head_dim",
    "predictor_mlp_size", "action_mlp_size", "sigreg_projections",
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_arguments):
    """Random weights of the architecture that these tests train, which no training would come to."""
    folder = tmp_path_factory.mktemp("start") / "checkpoint"
    torch.manual_seed(5)
    config = parse_recipe(tiny_arguments("run"))[1]
    config.action_mean, config.action_std, config.actions_per_second = [0.0, 0.0], [1.0, 1.0], 30.0
    model = LeWMModel(config)
    for projector in (model.projector, model.pred_proj):
        projector.batch_norm.running_mean.normal_()
        projector.batch_norm.running_var.uniform_(0.5, 2)
    model.save_pretrained(folder)
    LeWMImageProcessor(image_size=28).save_pretrained(folder)
    return folder


@pytest.fixture
def start_from(run_training, checkpoint):
    def run(output_dir, *flags, **overrides):
        overrides = dict.fromkeys(ARCHITECTURE) | {"init_from": checkpoint} | overrides
        return run_training(output_dir, *flags, **overrides)

    return run


def weights(folder):
    return load_file(folder / "model.safetensors")


def is_measured(name):
    """BatchNorm measures its statistics on the new data, as it does in every run."""
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def differing(ours, theirs):
    # What a step of 1e-30 makes of a zero does not count.
    return {
        name
        for name in theirs
        if ours[name].shape != theirs[name].shape or not torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-20)
    }


def test_all_weights_and_the_architecture_are_the_checkpoint_s(start_from, checkpoint, tmp_path, caplog):
    caplog.set_level("INFO", "lewm_hf")
    start_from(tmp_path / "run", **STILL)
    moved = differing(weights(tmp_path / "run" / "last"), weights(checkpoint))
    assert moved and all(map(is_measured, moved))
    assert f"starts with {len(weights(checkpoint))} tensors of {checkpoint}" in caplog.text
    said = json.loads((tmp_path / "run" / "last" / "training.json").read_text())["base_model"]
    assert (said["source"], said["new_parts"], len(said["fingerprint"])) == (str(checkpoint), [], 64)
    (warning,) = [record.getMessage() for record in caplog.records if "per second" in record.getMessage()]
    assert f"{checkpoint} was trained on 30 actions per second, the data set has 10:" in warning
    assert LeWMModel.from_pretrained(tmp_path / "run" / "last").config.actions_per_second == 10


@pytest.mark.parametrize(("now", "told"), [(30, False), (29.97, False), (None, False), (15, True)])
def test_only_another_rate_is_told_of(checkpoint, caplog, now, told):
    config = LeWMModel.from_pretrained(checkpoint).config
    start = StartingPoint.open(checkpoint, config)
    config.actions_per_second = now
    start.tell_of_another_rate(config)
    assert ("per second" in caplog.text) == told


@pytest.mark.parametrize(
    ("changed", "anew"),
    [({"frameskip": 4}, {"action_encoder"}), ({"inverse_weight": 0.5}, {"inverse_dynamics"})],
)
def test_what_depends_on_the_action_and_new_heads_start_anew(start_from, checkpoint, tmp_path, caplog, changed, anew):
    caplog.set_level("INFO", "lewm_hf")
    start_from(tmp_path / "run", **STILL, **changed)
    ours, theirs = weights(tmp_path / "run" / "last"), weights(checkpoint)
    assert {name.split(".")[0] for name in ours.keys() - theirs.keys()} <= anew
    moved = {name for name in differing(ours, theirs) if not is_measured(name)}
    assert {name.split(".")[0] for name in moved} <= anew
    if "frameskip" in changed:
        assert differing(ours, theirs) >= {name for name in theirs if name.startswith("action_encoder.")}
        assert "action blocks are 5 x 2 and here 4 x 2" in caplog.text
    assert f"{anew.copy().pop()} created anew" in caplog.text


def test_an_action_of_another_size_with_blocks_of_the_same_width_starts_anew(checkpoint):
    config = LeWMModel.from_pretrained(checkpoint).config
    config.frameskip, config.action_dim, config.action_mean, config.action_std = 2, 5, [0.0] * 5, [1.0] * 5
    start = StartingPoint.open(checkpoint, config)
    assert start.anew == ("action_encoder",)
    model = LeWMModel(config)
    fresh = {name: value.clone() for name, value in model.action_encoder.state_dict().items()}
    start.fill(model)
    assert not differing(model.action_encoder.state_dict(), fresh)
    assert not differing(model.encoder.state_dict(), LeWMModel.from_pretrained(checkpoint).encoder.state_dict())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder_layers": 3}, "encoder_layers=3 here, 2 there; omit these keys"),
        ({"embed_dim": 8, "sigreg_weight": 0.5}, "architecture: embed_dim=8 here, 16 there; omit"),
        # The same shapes, and another computation.
        ({"encoder_heads": 2}, "encoder_heads=2 here, 3 there"),
        ({"predictor_heads": 4, "predictor_head_dim": 4}, "predictor_heads=4 here, 2 there, predictor_head_dim=4 here"),
        ({"predictor_layers": 3}, "predictor_layers=3 here, 2 there"),
        ({"image_size": 42}, "image_size=42 here, 28 there"),
        ({"model_type": "pldm"}, "model_type='pldm' here, 'lewm' there"),
    ],
)
def test_another_architecture_is_refused_before_any_work(start_from, tmp_path, changed, message):
    with pytest.raises(ValueError, match=message) as error:
        start_from(tmp_path / "run", dataset="/nowhere", **changed)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_losses_and_dropout_are_no_architecture(start_from, tmp_path):
    start_from(tmp_path / "run", **STILL, sigreg_weight=0.5, sigreg_knots=9, predictor_dropout=0.3, rollout_blocks=2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"init_from": "/nowhere/at/all"}, "init_from=/nowhere/at/all is not a checkpoint"),
        ({"init_from": "."}, "init_from=. holds no config.json"),
        ({"freeze": "encodr"}, "freeze=encodr is not a part of LeWMModel: use one of encoder, projector"),
        ({"lr_factor": "encoder"}, "lr_factor='encoder' must be PART=NUMBER"),
        ({"lr_factor": "encoder=0"}, "lr_factor='encoder=0' must be PART=NUMBER with a number above 0"),
        ({"lr_factor": "encodr=2"}, "lr_factor=encodr is not a part"),
        ({"lr_factor": "encoder.layers=2", "freeze": "encoder"}, "lies within what freeze=encoder keeps"),
    ],
)
def test_wrong_values_are_one_line_before_any_work(start_from, tmp_path, overrides, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        start_from(tmp_path / "run", dataset="/nowhere", **overrides)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_freezing_everything_is_refused(tiny_arguments):
    parts = ["encoder", "projector", "action_encoder", "predictor", "pred_proj", "sigreg"]
    with pytest.raises(ValueError, match="leaves nothing to train"):
        parse_recipe(tiny_arguments("run", "--freeze", *parts))


def test_frozen_parts_keep_their_weights_and_their_batch_norm_statistics(start_from, checkpoint, tmp_path):
    start_from(tmp_path / "run", "--freeze", "encoder", "projector", max_steps=4)
    before = weights(checkpoint)
    for name in ("last", "state"):  # in training, and after the recalibration
        after = weights(tmp_path / "run" / name)
        moved = {name.split(".")[0] for name in differing(after, before)}
        assert moved == {"action_encoder", "predictor", "pred_proj"}


def test_frozen_parts_compute_what_they_compute_when_judged(start_from, checkpoint, tmp_path, monkeypatch):
    """Their BatchNorms do not look at the batch in training: a frame's embedding is the evaluated checkpoint's."""
    seen = []
    losses = LeWMModel.losses

    def watched(model, batch, step_inputs):
        if model.training:
            found = losses(model, batch, step_inputs)
            seen.append((batch["pixel_values"], found["embeddings"].detach()))
            return found
        return losses(model, batch, step_inputs)

    monkeypatch.setattr(LeWMModel, "losses", watched)
    start_from(tmp_path / "run", "--freeze", "encoder", "projector", max_steps=2)
    expected = LeWMModel.from_pretrained(checkpoint).eval()
    for pixels, embeddings in seen:
        torch.testing.assert_close(embeddings, expected.encode(pixels).detach())


def test_a_factor_scales_the_steps_of_its_part(start_from, checkpoint, tmp_path):
    """Adam's first step is the learning rate itself, whatever the gradient."""
    rate = 1e-3
    start_from(
        tmp_path / "run", "--lr_factor", "encoder=0.1", "encoder.layers.1=0.5", max_steps=1, learning_rate=rate,
        warmup_fraction=0, weight_decay=0,
    )  # fmt: skip
    before, after = weights(checkpoint), weights(tmp_path / "run" / "state")

    def largest(part):
        names = [name for name in before if name.startswith(part) and not is_measured(name)]
        return max(float((after[name] - before[name]).abs().max()) for name in names)

    assert largest("encoder.layers.0") == pytest.approx(0.1 * rate, rel=0.02)
    assert largest("encoder.layers.1") == pytest.approx(0.5 * rate, rel=0.02)
    assert largest("pred_proj") == pytest.approx(rate, rel=0.02)


def test_a_run_continues_to_the_bit_without_the_checkpoint_it_started_from(start_from, checkpoint, tmp_path):
    options = {"max_steps": 6, "eval_every": 3, "freeze": "projector", "lr_factor": "encoder=0.2", "frameskip": 4}
    copied = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, copied)
    start_from(tmp_path / "whole", init_from=copied, **options)

    def dying(model, step):
        raise RuntimeError("as good as dead")

    with pytest.raises(RuntimeError, match="as good as dead"):
        start_from(tmp_path / "cut", init_from=copied, evaluate=dying, **options)
    shutil.rmtree(copied)
    start_from(tmp_path / "cut", "--resume", init_from=copied, **options)
    ours, theirs = (weights(tmp_path / name / "last") for name in ("cut", "whole"))
    assert not differing(ours, theirs)
    facts = [json.loads((tmp_path / name / "last/training.json").read_text()) for name in ("cut", "whole")]
    assert facts[0]["base_model"] == facts[1]["base_model"]
