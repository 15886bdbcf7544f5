"""Scripts beside the library: each shows its docstring as help, and says what is wrong in one line, with status 2."""

import ast
import importlib.machinery
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lewm_hf.scripts import exit_status, run_script, script_parser

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path
    for folder in ("eval", "training")
    for path in (ROOT / folder).glob("*.py")
    if "argparse" in path.read_text() or "script_parser" in path.read_text()
)


@pytest.mark.parametrize(("found", "status"), [(None, 0), (0, 0), (3, 3)])
def test_work_decides_the_status(found, status, capsys):
    parser = script_parser("Says words.\n\n    script.py word")
    parser.add_argument("words", nargs="+")
    seen = []

    def work(arguments):
        seen.extend(arguments.words)
        return found

    assert run_script(parser, work, ["a", "b"]) == status and seen == ["a", "b"]
    assert capsys.readouterr().err == "" and logging.getLogger().handlers
    assert "Says words.\n\n    script.py word\n" in parser.format_help()


def test_what_is_the_users_to_mend_is_one_line_and_other_errors_are_not_hidden(capsys):
    def fails(error):
        def work():
            raise error

        return work

    for error in (ValueError("give more"), OSError("give more"), ImportError("give more")):
        assert exit_status(fails(error)) == 2
        assert capsys.readouterr().err == "error: give more\n"
    of_a_worker = ValueError("Caught ValueError in worker 0.\nOriginal Traceback (most recent call last):\nx\nlast\n")
    assert exit_status(fails(of_a_worker)) == 2 and capsys.readouterr().err == "error: last\n"
    with pytest.raises(RuntimeError):
        exit_status(fails(RuntimeError("ours")))


def test_a_compilers_cache_that_a_kill_cut_short_is_named_with_its_remedy(tmp_path, monkeypatch, capsys):
    """The compiler's own error, here of a module of its cache of which nothing is left."""
    cut = tmp_path / "cut.so"
    cut.touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def backend(graph, inputs):
        loader = importlib.machinery.ExtensionFileLoader("cut", str(cut))
        return importlib.util.module_from_spec(importlib.util.spec_from_file_location("cut", cut, loader=loader))

    compiled = torch.compile(lambda x: x.sin() * 2, backend=backend)
    assert exit_status(lambda: compiled(torch.ones(2)).numel()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: torch.compile failed (ImportError: {cut}: file too short)")
    assert f"half a file may be left of it in {tmp_path}; delete that folder and do the same again" in line


@pytest.mark.long
def test_a_real_cache_that_was_cut_short_is_named_and_made_anew_once_it_is_gone(tmp_path):
    """A real cache: compiled once, then one of its files is cut short."""
    (tmp_path / "compiles.py").write_text(
        "from lewm_hf.scripts import exit_status; import sys, torch; compiled = torch.compile(lambda x: x.sin() * 2)\n"
        "sys.exit(exit_status(lambda: compiled(torch.ones(8)).numel() - 8))"
    )
    cache = tmp_path / "cache"

    def compiles():
        given = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, tmp_path / "compiles.py"], env=given, capture_output=True, text=True)

    assert compiles().returncode == 0
    for made in cache.rglob("*.main.so"):
        made.write_bytes(b"")
    stopped = compiles()
    assert stopped.returncode == 2 and len(stopped.stderr.strip().splitlines()) == 1
    assert f"half a file may be left of it in {cache}; delete that folder" in stopped.stderr
    shutil.rmtree(cache)
    assert compiles().returncode == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_script_catches_and_prints_by_itself(path):
    """All are started alike: `main(argv)` returns what `run_script` does, and its help is the whole docstring."""
    text = path.read_text(encoding="utf-8")
    if not path.name.startswith("readme_"):  # nothing that a user gives those can be wrong
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
        assert {"script_parser", "run_script"} <= calls and "argparse.ArgumentParser" not in calls
        assert "error: {" not in text


def test_a_script_in_a_process_of_its_own(tmp_path):
    script = ROOT / "eval" / "success_table.py"
    run = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith(f"error: there is no results.json below {tmp_path}") and run.stderr.count("\n") == 1
    shown = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and ast.get_docstring(ast.parse(script.read_text())) in shown.stdout
