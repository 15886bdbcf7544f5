"""Every world model goes through the same training, and what comes out is loaded by its kind and acts or plans."""

import json

import pytest
import torch
from transformers import AutoModel, Dinov2Config, Dinov2Model

LEWM_ONLY = (
    "patch_size encoder_hidden_size encoder_layers encoder_mlp_size embed_dim projector_hidden_size "
    "predictor_hidden_size action_mlp_size sigreg_projections"
)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(4)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).eval().save_pretrained(folder)
    return str(folder)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_pldm(run_training, tmp_path):
    run_training(tmp_path / "run", model_type="pldm", max_steps=8, eval_every=4)
    trained = [record for record in records(tmp_path / "run") if "loss" in record]
    names = {"prediction_loss", "std_loss", "cov_loss", "std_t_loss", "cov_t_loss", "similarity_loss"}
    assert names <= trained[0].keys() and "sigreg_loss" not in trained[0]
    assert trained[-1]["loss"] < trained[0]["loss"]
    model = AutoModel.from_pretrained(tmp_path / "run" / "last")
    assert type(model).__name__ == "PLDMModel" and model.config.action_mean is not None
    facts = json.loads((tmp_path / "run" / "last" / "training.json").read_text())
    assert facts["recipe"]["model_type"] == "pldm" and facts["recipe"]["std_weight"] == 18
    # Interrupted and continued it is the same to the bit.
    run_training(tmp_path / "half", model_type="pldm", max_steps=8, eval_every=4, save_every=4)
    assert [r["loss"] for r in records(tmp_path / "half") if "loss" in r] == [r["loss"] for r in trained]


def test_frozen_patch_tokens(run_training, tmp_path, dinov2, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    drop = dict.fromkeys(LEWM_ONLY.split())
    run_training(
        tmp_path / "run", model_type="dino_wm", backbone=dinov2, num_patches=4, feature_size=24, max_steps=6, **drop
    )
    found = records(tmp_path / "run")
    assert "feature_loss" in found[0] and found[-1]["eval/prediction_loss"] > 0
    assert found[0]["effective_rank"] <= 24  # of tokens
    assert len(list((tmp_path / "cache" / "lewm_tokens").iterdir())) == 2  # training and held-out episodes
    model = AutoModel.from_pretrained(tmp_path / "run" / "last")
    backbone = Dinov2Model.from_pretrained(dinov2)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(model.encoder.model.state_dict()[name], tensor)


def test_imitation(run_training, tmp_path):
    run_training(
        tmp_path / "run", model_type="goal_imitation", actor_hidden_size=16, max_steps=24, learning_rate=3e-3
    )  # fmt: skip
    trained = [record for record in records(tmp_path / "run") if "loss" in record]
    losses = [record["actor_loss"] for record in trained]
    assert sum(losses[-6:]) < sum(losses[:6]) and "prediction_over_copy_last" not in trained[0]
    assert "eval/actor_loss" in records(tmp_path / "run")[-1]
    model = AutoModel.from_pretrained(tmp_path / "run" / "best")
    frames = torch.randn(2, 1, 3, 28, 28)
    z = model.encode(frames)[:, 0]
    assert model.act(z, z.flip(0), torch.tensor([1, 4])).shape == (2, 10)


def test_unknown_models_and_keys_of_other_models_are_refused(run_training, tmp_path, capsys):
    with pytest.raises(ValueError, match="model_type='pldn' is not a world model: use one of dino_wm, goal_"):
        run_training(tmp_path / "run", model_type="pldn")
    with pytest.raises(ValueError, match="unknown recipe key 'patch_size' in the command line"):
        run_training(tmp_path / "run", model_type="dino_wm")
    with pytest.raises(ValueError, match="the recipe describes no model: std_weight=-1"):
        run_training(tmp_path / "run", model_type="pldm", std_weight=-1)
    assert not (tmp_path / "run").exists()
