"""Scripts beside the library: each shows its docstring as help, and says what is wrong in one line, with status 2."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest

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
