"""Decoder training run for real: a tiny model on a few TwoRoom episodes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from lewm_hf import LeWMImageProcessor
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.common.provenance import model_fingerprint
from lewm_hf.modeling_lewm_decoder import LeWMDecoder
from lewm_hf.training import loop
from lewm_hf.training.decoder_arguments import parse_decoder_recipe

ROOT = Path(__file__).parents[2]
TINY = (
    "patch_size=14 hidden_size=32 layers=2 heads=2 mlp_size=64 max_steps=30 batch_size=16 learning_rate=1e-2 "
    "precision=fp32 num_workers=0 log_every=1 eval_every=15 save_every=10 eval_frames=30 background_frames=50 "
    "tracker=none"
)


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "training"))
    try:
        import train_decoder

        return train_decoder
    finally:
        sys.path.remove(str(ROOT / "training"))


@pytest.fixture
def checkpoint(tiny_model, tmp_path, episodes_dir):
    """An untrained model whose embeddings are spread out as a trained one's are."""
    folder, processor = tmp_path / "model", LeWMImageProcessor(image_size=28)
    frames = load_episodes(episodes_dir, "train").frames(range(0, 200, 2))
    projector = tiny_model.projector
    with torch.no_grad():
        projector.batch_norm.momentum = 1.0
        pixels = processor(list(frames))["pixel_values"][:, None]
        tiny_model.train().encode(pixels)
        z = tiny_model.eval().encode(pixels)[:, 0]
        projector.fc2.weight.div_(z.std(0)[:, None])
        projector.fc2.bias.sub_(z.mean(0)).div_(z.std(0))
    tiny_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def run(script, checkpoint, episodes_dir, tmp_path):
    """Trains in this process, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def start(name: str, *flags: str, **overrides):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        values = dict(entry.split("=") for entry in TINY.split())
        values |= {"model": checkpoint, "dataset": episodes_dir, "output_dir": tmp_path / name} | overrides
        recipe = parse_decoder_recipe([*(f"--{key}={value}" for key, value in values.items()), *flags])
        return script.train_decoder(recipe)

    yield start
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def records(folder) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("frames_per_second", "waiting_for_data")}
        for line in lines
    ]


def test_it_learns_and_leaves_the_model_alone(run, checkpoint, tiny_model, tmp_path):
    before = (checkpoint / "model.safetensors").read_bytes()
    done = run("out", max_steps=150, eval_every=75, learning_rate=5e-3)
    assert done["step"] == 150 and done["last"]["step"] == 150
    assert (checkpoint / "model.safetensors").read_bytes() == before
    found = records(tmp_path / "out")
    assert [r["step"] for r in found if "loss" in r] == list(range(1, 151))
    assert [r["step"] for r in found if "eval/mse" in r] == [75, 150]
    # It starts at the mean picture and gets better than that, on episodes that it has seen at least.
    losses = [r["loss"] for r in found if "loss" in r]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    best = min((r for r in found if "eval/mse" in r), key=lambda r: r["eval/mse"])
    assert done["best"] == best and done["last"]["step"] == 150
    decoder = LeWMDecoder.from_pretrained(tmp_path / "out" / "best")
    assert decoder.config.world_model_fingerprint == model_fingerprint(tiny_model)
    facts = json.loads((tmp_path / "out/best/training.json").read_text())
    assert facts["env_id"] == "lewm/TwoRoom-v0" and facts["steps"] in (75, 150)


def test_an_interrupted_run_equals_a_whole_one(run, tmp_path, monkeypatch):
    run("whole")

    class Interrupted(loop.RunDirectory):
        def save_state(self, accelerator, progress):
            super().save_state(accelerator, progress)
            if progress["step"] == 20:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "RunDirectory", Interrupted)
        run("parts")
    run("parts", "--resume")
    whole, parts = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert records(tmp_path / "whole") == records(tmp_path / "parts")
    with pytest.raises(ValueError, match="already holds a run"):
        run("parts")
    with pytest.raises(ValueError, match="latent_tokens=2"):
        run("parts", "--resume", latent_tokens=2)


def test_what_does_not_fit_is_refused_before_any_file_is_touched(run, checkpoint, tmp_path):
    with pytest.raises(ValueError, match="image_size=28 is not a multiple of patch_size=16"):
        run("out", patch_size=16)
    with pytest.raises(FileNotFoundError, match="no data set"):
        run("out", dataset="nowhere")
    with pytest.raises(FileNotFoundError, match="no/where"):
        run("out", model="no/where")
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"action_dim": 3, "action_mean": [0.0] * 3, "action_std": [1.0] * 3}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError):
        run("out")
    assert not (tmp_path / "out").exists()
