"""Accelerators without float64 (MPS), of which no machine here has one."""

import json
import re
from pathlib import Path

from forks import run

ROOT = Path(__file__).parents[1]


def test_no_source_makes_float64_before_it_leaves_the_device():
    backwards = re.compile(r"(\.double\(\)|\.to\(torch\.float64\)|\.type\(torch\.float64\))(\.detach\(\))?\.cpu\(\)")
    files = [*ROOT.glob("lewm_hf/**/*.py"), *ROOT.glob("training/*.py"), *ROOT.glob("eval/*.py")]
    assert len(files) > 100
    found = [f"{file}:{match.group()}" for file in files for match in backwards.finditer(file.read_text())]
    assert not found


def test_training_evaluation_probing_and_planning_do_without_float64():
    """On a device that refuses it; see there."""
    program = Path(__file__).with_name("device_without_float64.py")
    done = run(["python", program])
    assert done.returncode == 0, done.stderr[-3000:]
    apart = json.loads(done.stdout)
    assert "cannot convert a tensor to float64" in apart.pop("float64")  # it does refuse it
    assert {"training", "evaluation", "recalibration", "plan", "pipeline", "probe"} <= apart.keys()
    for name, difference in apart.items():
        assert isinstance(difference, float) and difference < 1e-3, f"{name}: {difference}"
