"""The figures of a training step are those that it writes."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "training" / "bench_training.py"


def test_a_step_is_timed_and_written_down(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("bench_training", SCRIPT)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    out = tmp_path / "new" / "training.json"
    case = ["--sizes", "mini", "--variants", "fp32", "--batch_size", "4", "--steps", "5", "--against", "none"]
    assert bench.main([*case, "--out", str(out)]) == 0
    (row,) = (found := json.loads(out.read_text()))["rows"]
    assert row["windows_per_second"] == pytest.approx(4 / row["seconds"]) and row["ratio"] is None
    assert 0 < row["of_peak"] < 1 and 0 <= row["waiting"] < 1 and found["threads"] >= 1
    table = capsys.readouterr().out
    assert f"| mini | {row['parameters']:,} | fp32 | 4 |" in table and f"wrote {out}" in table
