"""What the README shows works as it stands there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from forks import run

from lewm_cli import parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("lewm ")
]


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs_and_arrives(code, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["plan"]["actions"].shape == (25, 2)
    assert np.isfinite(names["plan"]["actions"]).all() and names["plan"]["cost"] >= 0
    # It says that it arrived, and it did: by the environment's own measure, on the other side of the wall.
    assert re.fullmatch(r"reached the goal after \d+ steps", capsys.readouterr().out.strip())
    world = names["env"].unwrapped
    assert world.reached(world.get_state()[None], world.goal_state[None]).all()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    parser().parse_args(shlex.split(command)[1:])


def test_every_verb_that_is_mentioned_exists():
    verbs = next(action for action in parser()._actions if action.dest == "verb").choices
    assert set(re.findall(r"`lewm\s+([a-z][a-z-]*)", TEXT)) <= set(verbs)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_tables_about_checkpoints_are_their_result_files():
    check = run(["python", ROOT / "eval" / "readme_tables.py", "--check"])
    assert check.returncode == 0, "run python eval/readme_tables.py"
