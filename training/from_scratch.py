"""A recipe's agent from nothing: the commands that its first comment names, one after another, each timed.

    python training/from_scratch.py training/recipes/pusht-mini.yaml              # what would be run
    python training/from_scratch.py training/recipes/pusht-mini.yaml --run        # runs it, everything below runs/
    python training/from_scratch.py training/recipes/pusht-mini.yaml --run --runs DIR --train "--seed 1"

Again after an interruption, it continues: a finished command is not run twice, unless one before it had to be run,
collections go on with the next file of episodes and trainings with the saved state. Where recipe or arguments have
changed meanwhile, it says before anything is run which folders are of the run before: name another place with --runs,
or move them away. Every command may use all cores, or as many as OMP_NUM_THREADS says. DIR/from_scratch-NAME.json says
what was run on which machine, how many seconds each command took (over all attempts but those in which this script
itself was killed), and the evaluation's counts.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lewm_hf.engines.workers import usable_cores
from lewm_hf.evaluation.common.provenance import hardware
from lewm_hf.evaluation.common.results import read_result
from lewm_hf.files import write_atomic
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.training.arguments import read_recipe
from lewm_hf.training.recipe_files import find_recipe, peek

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("lewm", "accelerate", "python")
OUTPUTS = ("--output_dir", "--out")


def commands_of(recipe: Path) -> list[list[str]]:
    """The words of each command that a recipe's leading comment names, in order.

    Args:
        recipe: file whose first lines are a comment; commands are indented by three blanks or more, begin with one of
            `PROGRAMS`, and may go on in the next line after a backslash.

    Raises:
        ValueError: where it names none.
    """
    text = ""
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text += line[1:] + "\n"
    lines = text.replace("\\\n", " ").splitlines()
    lines = [line for line in lines if line.startswith("   ") and line.split()[:1] in [[name] for name in PROGRAMS]]
    commands = [shlex.split(line, comments=True) for line in lines]
    if not commands:
        raise ValueError(f"{recipe} names no command in its first comment: use one that says there how it is run")
    return commands


def placed(words: list[str], runs: Path, train: list[str]) -> list[str]:
    """A command with `runs/` moved to another folder, and further arguments where it is a training."""
    moved = [str(runs / word.removeprefix("runs/")) if word.startswith("runs/") else word for word in words]
    if "training/train.py" not in words:
        return moved
    if "--dataset" not in words:
        recipe = next(word for word in words if word.endswith(".yaml"))
        dataset = peek([recipe], "dataset")
        moved += ["--dataset", str(runs / dataset.removeprefix("runs/"))] if dataset else []
    return moved + train


def output_of(words: list[str]) -> Path | None:
    """The folder that a command writes, where it names one."""
    return next((Path(words[words.index(name) + 1]) for name in OUTPUTS if name in words), None)


def settings_of(words: list[str]) -> str | None:
    """What tells one content of the recipe that a training reads from another; `None` for other commands."""
    recipes = [ROOT / word for word in words if word.endswith(".yaml")] if "training/train.py" in words else []
    content = [json.dumps(read_recipe(path), sort_keys=True, default=str) for path in recipes]
    return hashlib.sha256("".join(content).encode()).hexdigest() if content else None


def entries_of(commands: list[list[str]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is known of each command: how long it took so far, and whether that is all.

    Args:
        before: the entries of the last run in this place.

    Raises:
        ValueError: one line where a command that has to be run would find the folder of another run.
    """
    known = {entry["command"]: entry for entry in before}
    entries: list[dict[str, Any]] = []
    foreign, anew = [], False
    for words in commands:
        entry: dict[str, Any] = {"command": shlex.join(words), "seconds": 0.0, "finished": False}
        found, output, settings = known.get(entry["command"]), output_of(words), settings_of(words)
        if settings is not None:
            entry["settings"] = settings
        same = found is not None and found.get("settings", settings) == settings
        if found is not None and same and not (found["finished"] and anew):  # else what it read is another now
            entry |= found
        entries.append(entry)
        if entry["finished"]:
            continue
        # Without a record, what lies there is taken for a part of this run for as long as nothing before it is missing.
        continues = not anew and (same or not before)
        there = output is not None and output.exists()
        if there and not continues:
            foreign.append(str(output))
        anew = anew or bool(before) or (output is not None and not there)
    if foreign:
        raise ValueError(
            f"{', '.join(foreign)}: of another run, from before the recipe, the arguments or what they are made of "
            "changed; name another place with --runs DIR, or move them away"
        )
    return entries


def run(words: list[str]) -> int:
    """Runs one command to its end and returns its status."""
    words, output = list(words), output_of(words)
    if output is not None and "--output_dir" in words and (output / "recipe.yaml").is_file():  # a training's, begun
        words.append("--resume")
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # `accelerate launch` would give a training one thread: 1.8 times as long for pusht-mini on two cores.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(usable_cores())),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    return subprocess.run(words, cwd=ROOT, env=environment).returncode


def _run_and_note(words: list[str], entry: dict[str, Any], done: dict[str, Any], path: Path) -> None:
    """Runs a command and writes down how long it took, also where it fails or is interrupted.

    Args:
        entry: of the command, the last one of those in `done`.

    Raises:
        OSError: where it fails.
    """
    print(f"== {time.strftime('%H:%M:%S')} {entry['command']}", flush=True)
    start, status = time.perf_counter(), None
    done.pop("success", None)
    write_atomic(path, json.dumps(done, indent=1) + "\n")  # so that what a kill leaves behind is known as this run's
    try:
        status = run(words)
    finally:
        seconds = entry["seconds"] + time.perf_counter() - start
        entry |= {"seconds": round(seconds, 2), "finished": status == 0}
        done["minutes"] = round(sum(one["seconds"] for one in done["commands"]) / 60, 1)
        if status == 0 and "eval" in words[:2]:
            success = read_result(Path(words[words.index("--out") + 1])).success
            done["success"] = {"n": success.n, "successes": success.successes, "rate": success.rate}
        write_atomic(path, json.dumps(done, indent=1) + "\n")
    if status:
        raise OSError(f"{entry['command']} ended with status {status}: mend what it says and run this again")


def work(arguments: argparse.Namespace) -> None:
    recipe, runs = find_recipe(arguments.recipe), Path(arguments.runs).resolve()
    commands = [placed(words, runs, shlex.split(arguments.train)) for words in commands_of(recipe)]
    if not arguments.run:
        print(*map(shlex.join, commands), sep="\n")
        return
    path = runs / f"from_scratch-{recipe.stem}.json"
    done: dict[str, Any] = {"recipe": recipe.stem, "machine": hardware("cpu"), "commands": []}
    if path.exists():
        done = json.loads(path.read_text(encoding="utf-8"))
    entries = entries_of(commands, done["commands"])
    done["commands"] = []
    for words, entry in zip(commands, entries, strict=True):
        done["commands"].append(entry)
        if not entry["finished"]:
            _run_and_note(words, entry, done, path)
    print(f"{path}: {done['minutes']} minutes")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("recipe", help="by path, or one of the package's by name; its first comment names the commands")
    parser.add_argument("--run", action="store_true", help="run them instead of showing them")
    parser.add_argument("--runs", default="runs", help="folder that takes the place of runs/ (default: runs)")
    parser.add_argument("--train", default="", help='further arguments of the training, as "--seed 1"')
    return run_script(parser, work, argv)


if __name__ == "__main__":
    sys.exit(main())
