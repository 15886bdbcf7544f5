"""Two gloo processes that share a batch compute what one process computes on all of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lewm_hf import LeWMConfig

PROGRAM = Path(__file__).with_name("distributed_step.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What one and what two processes wrote; the files count, since a rank may abort after all work is done."""
    folder = tmp_path_factory.mktemp("distributed")
    config = LeWMConfig(
        image_size=28, encoder_hidden_size=24, encoder_layers=2, encoder_mlp_size=48, embed_dim=16,
        projector_hidden_size=32, predictor_hidden_size=24, predictor_layers=2, predictor_heads=2,
        predictor_head_dim=8, predictor_mlp_size=32, predictor_dropout=0.0, action_mlp_size=48, sigreg_projections=64,
    )  # fmt: skip
    config.to_json_file(folder / "config.json", use_diff=False)
    command = [sys.executable, str(PROGRAM), str(folder / "config.json"), str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert {path.name for path in folder.glob("*.pt")} == {"1.pt", "2.pt"}, finished.stderr[-3000:]
    return [torch.load(folder / f"{processes}.pt", weights_only=True) for processes in (1, 2)]


def test_processes_really_share(results):
    one, two = results
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["embeddings"].shape == two["embeddings"].shape


def test_directions_are_the_same_on_every_rank(results):
    one, two = results
    assert torch.equal(two["directions"][0], two["directions"][1])
    assert torch.equal(two["directions"][0], one["directions"][0])


def test_losses_and_embeddings_equal_the_global_batch(results):
    one, two = results
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(two["embeddings"], one["embeddings"], rtol=1e-5, atol=1e-5)


def test_gradients_of_every_parameter_equal_the_global_batch(results):
    one, two = results
    assert one["gradients"].keys() == two["gradients"].keys()
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(
            two["gradients"][name], gradient, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
    torch.testing.assert_close(two["gradient_norm"], one["gradient_norm"], rtol=1e-5, atol=0)
    assert one["gradient_norm"] > 0.1


def test_batch_norm_statistics_equal_the_global_batch_in_training_and_recalibrated(results):
    one, two = results
    for ours, theirs in zip(two["running"], one["running"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(*one["running"], rtol=1e-3)
    assert torch.equal(two["running_by_rank"][0], two["running_by_rank"][1])
