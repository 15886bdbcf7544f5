"""Decoders on the Hub: a card from what their training measured, upload, and back with the code of the repository."""

import json
import re
import shutil

import pytest
import torch
from huggingface_hub import ModelCard

from lewm_hf import LeWMDecoder, LeWMDecoderConfig, LeWMImageProcessor
from lewm_hf.cli import main
from lewm_hf.hub.cards.decoder import FACTS
from lewm_hf.hub.cards.write import write_card
from lewm_hf.hub.push import push

from ..fake_hub import card_errors
from .test_write import without

GIVEN = {
    "repo_id": "org/lewm-tworoom-decoder",
    "world_model": "org/lewm-tworoom",
    "license": "apache-2.0",
    "data_license": "cc-by-4.0",
    "dataset_id": "org/two-room",
    "dataset_revision": "0123456789abcdef0123456789abcdef01234567",
}


@pytest.fixture
def decoder_folder(tmp_path):
    """As `training/train_decoder.py` leaves it."""
    torch.manual_seed(0)
    config = LeWMDecoderConfig(
        embed_dim=16, image_size=28, patch_size=14, hidden_size=16, layers=1, heads=2, mlp_size=32, latent_tokens=2,
        world_model_fingerprint="e" * 64,
    )  # fmt: skip
    folder = tmp_path / "decoder"
    decoder = LeWMDecoder(config)
    torch.nn.init.normal_(decoder.pixels.weight)
    decoder.save_pretrained(folder)
    LeWMImageProcessor(image_size=28).save_pretrained(folder)
    facts = {
        "steps": 700, "seconds": 1234.5, "parameters": 12345, "env_id": "lewm/TwoRoom-v0", "world_model": "e" * 64,
        "train_fingerprint": "f" * 64, "train_frames": 8000, "num_processes": 2, "mixed_precision": "bf16",
        "world_model_source": str(tmp_path / "runs" / "best"),
        "recipe": {"model": str(tmp_path / "runs" / "best"), "dataset": str(tmp_path), "seed": 3072, "batch_size": 64,
                   "learning_rate": 1e-3, "eval_frames": 512},
        "evaluation": {"step": 700, "eval/mse": 0.00123, "eval/psnr": 29.1, "eval/over_mean_picture": 0.25},
        "hardware": {"device_name": "some GPU"}, "versions": {"torch": "2.13.0"},
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(facts))
    return folder


def test_a_decoder_goes_up_and_comes_back(decoder_folder, online, tmp_path):
    text = write_card(decoder_folder, **GIVEN).read_text()
    data = ModelCard(text).data
    assert (data.library_name, data.base_model, data.datasets) == ("lewm-hf", "org/lewm-tworoom", ["org/two-room"])
    assert [(entry.metric_type, entry.metric_value) for entry in data.eval_results] == [
        ("mse", 0.00123), ("psnr", 29.1), ("mse_over_mean_picture", 0.25),
    ]  # fmt: skip
    for fact in (
        "0.00123", "29.1", "0.25", "700 steps of 64 frames out of 8,000", "bf16", "seed 3072", "0.69 device hours on 2",
        "some GPU", "torch 2.13.0", "e" * 64, "cc-by-4.0", "(..., 16)", "(1, 1, 28, 28, 3)", GIVEN["dataset_revision"],
    ):  # fmt: skip
        assert fact in text, fact
    assert str(tmp_path) not in text and card_errors(text) == []
    compile(text.split("```python\n")[1].split("```")[0], "usage", "exec")
    push(GIVEN["repo_id"], model=decoder_folder)
    assert all(str(tmp_path).encode() not in data for data in online.files("model", GIVEN["repo_id"]).values())
    latent = torch.randn(3, 16)
    here, there = (LeWMDecoder.from_pretrained(source)(latent).pixels for source in (decoder_folder, GIVEN["repo_id"]))
    assert torch.equal(here, there)


def test_every_missing_field_is_an_error(decoder_folder):
    def refused(match, **changes):
        with pytest.raises(ValueError, match=match) as caught:
            write_card(decoder_folder, **(GIVEN | changes))
        assert "\n" not in str(caught.value) and not (decoder_folder / "README.md").exists()

    for name in GIVEN:
        refused(f"would lack --{name.replace('_', '-')}:", **{name: None})
    refused("not a repository id", world_model="tworoom")
    refused("is a decoder.*omit --results", results=["results.json"])
    path = decoder_folder / "training.json"
    whole = json.loads(path.read_text())
    for name in (*FACTS, "evaluation.eval/mse", "evaluation.eval/psnr"):
        path.write_text(json.dumps(without(whole, name)))
        refused(f"would lack .*{re.escape(name)}")
    path.write_text(json.dumps(whole | {"world_model": "d" * 64}))
    refused("name different world models")
    path.unlink()
    refused("would lack training.json")


def test_a_decoder_of_recordings_has_a_card(decoder_folder, tiny_checkpoint, tmp_path):
    """They have no environment; its lines run with any picture."""
    path = decoder_folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env_id": None}))
    text = write_card(decoder_folder, **GIVEN).read_text()
    assert "for recordings without an environment, sees" in text and "`None`" not in text
    card = ModelCard(text)
    assert card_errors(text) == [] and card.data.eval_results[0].dataset_name == "recorded episodes"
    assert card.data.tags == ["lewm", "world-model", "decoder"]
    world_model = tmp_path / "world-model"
    shutil.copytree(tiny_checkpoint, world_model)
    for cameras in (None, ["top", "wrist"]):  # side by side
        for folder in (decoder_folder, world_model):
            LeWMImageProcessor(image_size=28, cameras=cameras).save_pretrained(folder)
        code = write_card(decoder_folder, **GIVEN).read_text().split("```python\n")[1].split("```")[0]
        for repo, folder in ((GIVEN["repo_id"], decoder_folder), (GIVEN["world_model"], world_model)):
            code = code.replace(f'"{repo}"', f'"{folder}"')
        found = {}
        exec(compile(code, "usage", "exec"), found)
        assert found["pictures"].shape == (1, 1, 28, 28, 3)
    text = path.read_text()
    path.write_text(json.dumps(without(json.loads(text), "env_id")))  # of which nobody knows what it was trained on
    with pytest.raises(ValueError, match="would lack training.json: env_id"):
        write_card(decoder_folder, **GIVEN)


def test_a_card_brings_the_decoders_code(decoder_folder, capsys):
    """Whether it works where the package is missing, the tests of shared code ask for every model at once."""
    flags = [part for name, value in GIVEN.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert main(["card", str(decoder_folder), *flags, "--with-code"]) == 0
    auto_map = json.loads((decoder_folder / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModel"] == "modeling_lewm_decoder.LeWMDecoder"
    assert (decoder_folder / "modeling_lewm_decoder.py").is_file()
