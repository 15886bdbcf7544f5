"""The script for a machine with an accelerator, at small size on this one: stopped, continued, evaluated."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "--max_steps 400 --batch_size 16 --encoder_layers 1 --predictor_layers 1 --eval_pairs 0 --eval_batches 1 "
    "--recalibration_batches 1 --precision fp32 --save_every 50"
)


def call(out, **variables):
    environment = os.environ | {
        "PYTHON": sys.executable, "BENCH": "0", "EPISODES": "40", "IMAGE_SIZE": "64", "WORKERS": "1", "PAIRS": "2",
        "RECIPE": str(ROOT / "training" / "recipes" / "tworoom-mini.yaml"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = ["bash", str(ROOT / "eval" / "on_one_gpu.sh"), "two_room", str(out)]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=280)


@pytest.mark.long
def test_a_run_goes_on_over_several_calls(tmp_path):
    arguments = SMALL + " --num_workers 0"
    first = call(tmp_path / "o", TRAIN_ARGS=arguments, MINUTES="0.4")
    assert first.returncode == 0, first.stderr[-2000:]
    step = json.loads((tmp_path / "o" / "run" / "state" / "progress.json").read_text())["step"]
    assert 0 < step <= 400
    last = call(tmp_path / "o", TRAIN_ARGS=arguments, MINUTES="4")
    assert last.returncode == 0, last.stderr[-2000:]
    assert json.loads((tmp_path / "o" / "run" / "state" / "progress.json").read_text())["step"] == 400
    assert (tmp_path / "o" / "eval-clean" / "results.json").is_file()


def test_an_unknown_task_is_refused(tmp_path):
    run = subprocess.run(["bash", str(ROOT / "eval" / "on_one_gpu.sh"), "chess", str(tmp_path)], capture_output=True)
    assert run.returncode == 2 and b"chess is no task" in run.stderr
