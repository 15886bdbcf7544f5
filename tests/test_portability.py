"""Accelerators without float64 (MPS), of which no machine here has one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_source_makes_float64_before_it_leaves_the_device():
    backwards = re.compile(r"(\.double\(\)|\.to\(torch\.float64\)|\.type\(torch\.float64\))(\.detach\(\))?\.cpu\(\)")
    files = [*ROOT.glob("lewm_hf/**/*.py"), *ROOT.glob("training/*.py"), *ROOT.glob("eval/*.py")]
    assert len(files) > 100
    found = [f"{file}:{match.group()}" for file in files for match in backwards.finditer(file.read_text())]
    assert not found
