"""Episodes -> training -> everything that can be measured, on all four tasks, with the commands a user types."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lewm_hf.cli import main

SCRIPT = Path(__file__).parents[1] / "training" / "train.py"
TINY = {
    "image_size": 32, "patch_size": 8, "encoder_hidden_size": 48, "encoder_layers": 2, "encoder_heads": 2,
    "encoder_mlp_size": 96, "initializer_range": 0.1, "embed_dim": 8, "projector_hidden_size": 64,
    "predictor_hidden_size": 32, "predictor_layers": 1, "predictor_heads": 2, "predictor_head_dim": 16,
    "predictor_mlp_size": 64, "predictor_dropout": 0.0, "action_mlp_size": 64, "sigreg_projections": 64,
    "sigreg_weight": 0.02, "batch_size": 64, "learning_rate": 3e-3, "max_steps": 150, "log_every": 10,
    "eval_pairs": 0, "recalibration_batches": 8, "num_workers": 0, "frame_cache": "ram", "tracker": "none",
}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("env", "action_dim", "episodes", "collecting"),
    [
        ("two_room", 2, 24, []),
        ("push_t", 2, 120, []),
        # The faithful look takes a core a quarter of a second per picture; lights and shadows teach nothing here.
        ("reacher", 2, 40, ["--expert", "random", "--env-arg", "render_quality=fast", "--max-steps", "60"]),
        ("cube", 5, 40, ["--env-arg", "render_quality=fast", "--max-steps", "60"]),
    ],
)
def test_collected_episodes_train_and_everything_is_measured(env, action_dim, episodes, collecting, tmp_path, capsys):
    data, run = tmp_path / "episodes", tmp_path / "run"
    assert (
        main(["collect", env, "--episodes", str(episodes), "--image-size", "32", "--out", str(data), *collecting]) == 0
    )
    keys = TINY | {"dataset": data, "output_dir": run, "action_dim": action_dim}
    command = [sys.executable, str(SCRIPT), *(part for key, value in keys.items() for part in (f"--{key}", str(value)))]
    subprocess.run(command, check=True, timeout=600)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    training = [record for record in records if "loss" in record]
    for loss in ("prediction_loss", "sigreg_loss"):
        early, late = (sum(record[loss] for record in part) / 3 for part in (training[:3], training[-3:]))
        assert late < early, loss
    # On episodes it has not seen, better than saying that nothing moves.
    assert records[-1]["eval/prediction_over_copy_last"] < 1

    model, frames = str(run / "last"), ["--episodes", str(data), "--split", "train"]
    quick = [part for value in ("samples=16", "iterations=2", "elites=4") for part in ("--set", value)]
    drawn = [*frames[:2], "--set", "split=train", "-n", "4", "--seeds", "1"]
    for folder, command in {
        "eval-drawn": ["eval", model, "--protocol", "paper", *drawn, *quick, "--video", "1"],
        "eval-shipped": ["eval", model, "--protocol", "clean", "-n", "4", "--seeds", "42", "44", *quick],
        "probe": ["probe", model, *frames, "--frames", "300", "--seeds", "0"],
        "surprise": ["surprise", model, "--trajectories", "3"],
        "health": ["health", model, *frames],
    }.items():
        assert main([*command, "--out", str(run / folder)]) == 0, command
    assert main(["report", str(run)]) == 0
    page = (run / "report" / "index.html").read_text()
    for title in (
        "Goals reached by planning",
        "What can be read off",
        "Violation of expectation",
        "health",
        "Training",
    ):
        assert title in page
    capsys.readouterr()
