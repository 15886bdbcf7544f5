"""Two gloo processes that share a batch compute what one process computes on all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forks import run
from safetensors.torch import load_file

from lewm_hf import LeWMConfig

PROGRAM = Path(__file__).with_name("distributed_step.py")
SCRIPT = Path(__file__).parents[2] / "training" / "train.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_arguments):
    """What one and what two processes wrote."""
    folder = tmp_path_factory.mktemp("distributed")
    config = LeWMConfig(
        image_size=28, encoder_hidden_size=24, encoder_layers=2, encoder_mlp_size=48, embed_dim=16,
        projector_hidden_size=32, predictor_hidden_size=24, predictor_layers=2, predictor_heads=2,
        predictor_head_dim=8, predictor_mlp_size=32, predictor_dropout=0.0, action_mlp_size=48, sigreg_projections=64,
    )  # fmt: skip
    config.to_json_file(folder / "config.json", use_diff=False)
    arguments = tiny_arguments(None, max_steps=4, eval_every=2, predictor_dropout=0.0, learning_rate=1e-4)
    finished = run(["python", PROGRAM, folder / "config.json", folder, *arguments])
    # Every rank must end, and by itself: nothing tells Accelerate that there is no accelerator.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", str(SCRIPT)]
    torchrun += [*arguments, f"--output_dir={folder}/run-2"]
    shared = subprocess.run(torchrun, capture_output=True, text=True, timeout=240)
    assert shared.returncode == 0, shared.stderr[-3000:]
    written = {str(path.relative_to(folder)) for path in folder.glob("**/training.json")}
    assert {"run-1/last/training.json", "run-2/last/training.json"} <= written, finished.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def results(folder):
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


def test_the_loop_computes_the_same_on_two_processes(folder):
    one, two = (
        [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("run-1", "run-2")
    )
    assert [record["step"] for record in two] == [record["step"] for record in one] == [1, 2, 2, 3, 4, 4]
    for ours, theirs in zip(two, one, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"windows_per_second", "waiting_for_data"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=3e-4), key
    # Adam's moments and two random states, one for each rank.
    assert len(list((folder / "run-2" / "state").glob("random_states_*.pkl"))) == 2
    progress = json.loads((folder / "run-2" / "state" / "progress.json").read_text())
    assert (progress["step"], progress["evaluated"], progress["num_processes"]) == (4, 4, 2)
    norms = [load_file(folder / run / "last" / "model.safetensors") for run in ("run-1", "run-2")]
    for name in (name for name in norms[0] if ".running_" in name):
        torch.testing.assert_close(norms[1][name], norms[0][name], rtol=2e-2, atol=2e-3)
