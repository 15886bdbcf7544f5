"""Several real processes give the results and files of one, each encodes a part, and one of them speaks and writes."""

import json
import os
from pathlib import Path

import pytest
import torch

from ..processes import start
from .on_ranks import analyze

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def alone(tiny_checkpoint, tmp_path_factory):
    """A folder of results of one process, and how many pictures it encoded."""
    folder = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoded = analyze(tiny_checkpoint, folder)
    torch.set_num_threads(threads)
    return folder, encoded


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*/*") if path.is_file()}


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.long), 3])
def test_several_processes_write_the_files_of_one(count, alone, tiny_checkpoint, tmp_path):
    folder, whole = alone
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    script = Path(__file__).with_name("on_ranks.py")
    statuses, printed = start(count, [script, tiny_checkpoint, tmp_path], PYTHONPATH=path)
    assert statuses == [0] * count, printed
    assert files(tmp_path).keys() == files(folder).keys() and len(files(folder)) > 15
    for name, content in files(folder).items():
        assert files(tmp_path)[name] == content, name
    parts = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(count)]
    for kind, encoded in whole.items():
        shares = [part[kind] for part in parts]
        assert sum(shares) <= 1.1 * encoded and max(shares) < 0.75 * encoded, (kind, shares)


def test_the_main_process_alone_refuses_in_words(tiny_checkpoint, tmp_path):
    (tmp_path / "taken").write_text("")
    command = ["health", tiny_checkpoint, "--episodes", tmp_path / "nowhere", "--out", tmp_path / "taken"]
    statuses, printed = start(2, ["-m", "lewm_hf.cli", *command])
    assert statuses == [2, 2]
    assert [len(errors.splitlines()) for _, errors in printed] == [1, 0], printed
    assert "cannot be a folder" in printed[0][1]
