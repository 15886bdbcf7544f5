"""Engines are open: another package's, known by its metadata alone, collects the same bytes."""

import hashlib
import sys

import pytest

from lewm_cli import main
from lewm_hf import collect, register_engine
from lewm_hf.engines import engine_names, opened_engine
from lewm_hf.engines.processes import open_processes
from lewm_hf.evaluation.common.engine_ranks import ranks_on

SMALL = ["two_room", "--episodes", "6", "--image-size", "16", "--max-steps", "12", "--seed", "3"]
# Work and files go in and out as bytes, as they would through a network; pieces are done last first.
FARM = """
import pickle, tempfile
from contextlib import contextmanager
from pathlib import Path

from lewm_hf import Engine

asked = []


class Farm(Engine):
    at_once = 1

    def run(self, work, tasks, report):
        sent = [pickle.dumps((work, task)) for task in tasks]
        done = [self.far_away(one, report) for one in reversed(sent)]
        return done[::-1]

    def far_away(self, sent, report):
        work, task = pickle.loads(sent)
        return work(task, report)

    def write_files(self, write, out, files, report):
        for file in reversed(files):
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), file, report)
                content = (Path(folder) / file.name).read_bytes()
            (out / file.name).parent.mkdir(parents=True, exist_ok=True)
            (out / file.name).write_bytes(content)


@contextmanager
def open_farm(wanted):
    asked.append(wanted)
    yield Farm()
    asked.append("given back")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with one module and its entry points, as pip would leave it."""
    site = tmp_path / "site"
    (site / "farm-1.dist-info").mkdir(parents=True)
    (site / "their_farm.py").write_text(FARM)
    (site / "farm-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: farm\nVersion: 1\n")
    (site / "farm-1.dist-info/entry_points.txt").write_text(
        "[lewm_hf.engines]\nfarm = their_farm:open_farm\nruin = their_farm:no_such\nstone = their_farm:asked\n"
        "[lewm_hf.solvers]\nruin = their_farm:no_such\n"
    )
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("their_farm", None)


def content(directory):
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_an_engine_of_another_package_collects_the_same_bytes(installed, tmp_path):
    assert main(["collect", *SMALL, "--workers", "1", "--out", str(tmp_path / "here")]) == 0
    on = ["--on", "farm", "--workers", "3", "--ray-address", "the barn"]
    assert main(["collect", *SMALL, *on, "--out", str(tmp_path / "there")]) == 0
    assert content(tmp_path / "there") == content(tmp_path / "here")
    wanted, last = sys.modules["their_farm"].asked
    assert (wanted.workers, wanted.address, last) == (3, "the barn", "given back")


def test_what_is_no_engine_is_refused_in_one_line(installed, tmp_path, capsys):
    assert {"processes", "ray", "farm"} <= set(engine_names()) and "their_farm" not in sys.modules
    for name, message in (
        (
            "nowhere",
            "on='nowhere' is no place to work: use one of processes, ray, farm, ruin, stone, or",
        ),
        ("ruin", "engine ruin of an installed package, their_farm:no_such, cannot be imported"),
        ("stone", "engine 'stone': [] must be a function that opens it"),
    ):
        assert main(["collect", *SMALL, "--on", name, "--out", str(tmp_path / "set")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "set").exists()
    assert main(["eval", "nowhere", "--env", "two_room", "--set", "solver=ruin"]) == 2
    assert "solver ruin of an installed package, their_farm:no_such, cannot be imported" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is an engine 'ray' already"):
        register_engine("ray", open_processes)
    with pytest.raises(ValueError, match="engine 'mine': 3 must be a function"):
        register_engine("mine", 3)


def test_an_engine_may_not_be_able_to_divide_an_evaluation(installed, capsys):
    """Its pieces of work cannot talk with each other; the model is not even looked for, nor anybody's broken solver."""
    assert main(["eval", "nowhere", "--on", "farm", "--workers", "2"]) == 2
    assert "Farm runs pieces of work that know nothing of each other" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Processes runs pieces.*torchrun"), ranks_on("processes", int, 2, None):
        pass


def test_code_of_one_s_own_registers_an_engine(tmp_path, monkeypatch):
    opened = []

    def open_mine(wanted):
        opened.append(wanted)
        return open_processes(wanted)

    monkeypatch.setattr("lewm_hf.engines.registry._OPENERS", {})
    register_engine("mine", open_mine)
    register_engine("mine", open_mine)
    with opened_engine("mine", workers=1) as engine:
        assert engine.run(lambda task, report: task * 2, [1, 2], print) == [2, 4]
    out = collect("two_room", tmp_path / "set", 2, image_size=16, max_steps=5, on="mine", workers=1)
    assert (out / "README.md").exists() and [one.workers for one in opened] == [1, 1]
