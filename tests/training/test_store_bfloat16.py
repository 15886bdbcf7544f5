"""A checkpoint at half its size: what is rounded, what is measured anew, and that it still sees what it saw."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lewm_hf import LeWMImageProcessor, LeWMModel
from lewm_hf.cli import main
from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    out = tmp_path_factory.mktemp("half") / "episodes"
    collect("two_room", out, 6, image_size=28, test_fraction=0.4, max_steps=40, noise=3.0, workers=1)
    return out


@pytest.fixture
def store(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "training"))
    return import_module("store_bfloat16")


def test_matrices_are_rounded_and_statistics_measured_with_them(store, tiny_checkpoint, episodes, tmp_path):
    given = ["--episodes", str(episodes), "--batches", "2", "--batch-size", "8"]
    assert store.main([str(tiny_checkpoint), *given, "--out", str(tmp_path / "half")]) == 0
    before = load_file(Path(tiny_checkpoint) / "model.safetensors")
    after = load_file(tmp_path / "half" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if tensor.dim() > 1:
            assert after[name].dtype == torch.bfloat16 and torch.equal(after[name], tensor.to(torch.bfloat16)), name
        elif "running" not in name and "num_batches" not in name:
            assert torch.equal(after[name], tensor), name
    model = LeWMModel.from_pretrained(tmp_path / "half").eval()
    assert model.dtype == torch.float32
    # By definition: what reaches the BatchNorm on the drawn frames has the mean that is kept.
    windows = WindowDataset(load_episodes(episodes, "train"), model.config)
    drawn = np.random.default_rng(0).choice(len(windows), (2, 8), replace=False)
    frames = torch.as_tensor(windows.batch(drawn.flatten())["pixel_values"]).flatten(0, 1)
    seen = []
    model.projector.batch_norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.encode(LeWMImageProcessor(image_size=28)(list(frames), return_tensors="pt")["pixel_values"][:, None])
    mean = torch.cat([rows.flatten(0, -2) for rows in seen]).mean(0)
    torch.testing.assert_close(after["projector.batch_norm.running_mean"], mean, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before["projector.batch_norm.running_mean"], mean, rtol=1e-2, atol=1e-3)

    assert store.main([str(tiny_checkpoint), *given, "--out", str(tmp_path / "half")]) == 2


def test_an_actor_keeps_the_statistics_that_it_was_fitted_with(store, tiny_checkpoint, episodes, tmp_path):
    fit = ["--episodes", str(episodes), "--steps", "2", "--hidden-size", "8", "--out", str(tmp_path / "agent")]
    assert main(["train-actor", str(tiny_checkpoint), *fit]) == 0
    given = ["--episodes", str(episodes), "--batches", "1", "--batch-size", "8", "--out", str(tmp_path / "half")]
    assert store.main([str(tmp_path / "agent"), *given]) == 0
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("agent", "half"))
    kept = [name for name in before if name.startswith("actor.")]
    assert any("running" in name for name in kept) and before.keys() == after.keys()
    for name in kept:
        assert torch.equal(after[name], before[name].to(after[name].dtype)), name
    assert LeWMModel.from_pretrained(tmp_path / "half").config.has_actor


def test_a_missing_checkpoint_is_one_line(store, tmp_path, capsys):
    missing = tmp_path / "missing"
    assert store.main([str(missing), "--episodes", str(missing), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and "missing" in message and not (tmp_path / "out").exists()
