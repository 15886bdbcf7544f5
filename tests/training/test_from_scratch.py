"""The commands that a recipe's comment names are understood, and are run one after the other, each once."""

import importlib.util
import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lewm_cli import parser
from lewm_hf.evaluation.common.results import read_result
from lewm_hf.training.arguments import parse_recipe
from lewm_hf.training.recipe_files import RECIPES

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "from_scratch.py"
PARSER = parser()


def module():
    spec = importlib.util.spec_from_file_location("from_scratch", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def from_scratch(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["tworoom-mini", "pusht-mini", "reacher-mini", "cube-mini"])
def test_the_commands_of_a_recipe_are_understood_and_begin_with_nothing(name, tmp_path):
    script = module()
    commands = [
        script.placed(words, tmp_path, ["--seed", "5"]) for words in script.commands_of(RECIPES / f"{name}.yaml")
    ]
    made: set[str] = set()
    for command in commands:
        match command:
            case ["lewm", *rest]:
                PARSER.parse_args(rest)
                written = command[command.index("--out") + 1]
            case ["accelerate", "launch", "training/train.py", *rest]:
                recipe, _ = parse_recipe(rest)
                assert recipe.seed == 5 and recipe.dataset in made
                written = recipe.output_dir
            case _:
                pytest.fail(f"what is {command}?")
        assert Path(written).is_relative_to(tmp_path)
        read = [word for word in command if word.startswith(str(tmp_path)) and word != written]
        # Whatever it reads was written before, or lies in a folder that was.
        assert all(any(Path(word).is_relative_to(place) for place in made) for word in read), command
        made.add(written)
    assert commands[0][1] == "collect" and commands[-1][1] == "eval"


def test_each_command_is_run_once_and_what_failed_is_run_again(tmp_path):
    writer = tmp_path / "append.py"
    writer.write_text(
        "import pathlib, sys, time\nout = pathlib.Path(sys.argv[1])\nout.mkdir(parents=True, exist_ok=True)\n"
        "open(out / 'log', 'a').write(' '.join(sys.argv[2:]) + chr(10))\n"
        "broken = pathlib.Path(sys.argv[1], 'broken').exists()\ntime.sleep(0.5 * broken)\nsys.exit(broken)\n"
    )
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        f"# A recipe.\n#\n#   python {writer} runs/first 'two words'\n#   python {writer} runs/second \\\n"
        "#       --output_dir runs/second\n#\n# python is not run here.\ndataset: runs/episodes\n#   python never\n"
    )
    runs = tmp_path / "elsewhere"
    shown = from_scratch(recipe, "--runs", runs)
    assert shown.returncode == 0 and [line.split()[2] for line in shown.stdout.splitlines()] == [
        f"{runs}/first", f"{runs}/second",
    ]  # fmt: skip
    assert not runs.exists()
    (runs / "second").mkdir(parents=True)
    (runs / "second" / "broken").touch()
    failed = from_scratch(recipe, "--runs", runs, "--run")
    assert (
        failed.returncode == 2 and failed.stderr.startswith("error: python ") and "ended with status 1" in failed.stderr
    )
    (runs / "second" / "broken").unlink()
    (runs / "second" / "recipe.yaml").touch()  # of a training that was interrupted, before it saved its state or later
    done = from_scratch(recipe, "--runs", runs, "--run")
    assert done.returncode == 0 and f"{runs}/from_scratch-small.json" in done.stdout
    assert (runs / "first" / "log").read_text() == "two words\n"
    output = f"--output_dir {runs}/second"
    assert (runs / "second" / "log").read_text() == f"{output}\n{output} --resume\n"
    found = json.loads((runs / "from_scratch-small.json").read_text())
    assert [shlex.split(entry["command"])[2] for entry in found["commands"]] == [f"{runs}/first", f"{runs}/second"]
    first, second = (entry["seconds"] for entry in found["commands"])
    assert first > 0 and second > 0.5  # its first attempt counts too
    assert found["minutes"] == pytest.approx((first + second) / 60, abs=0.06) and found["machine"]["cpu_count"] >= 1
    assert from_scratch(recipe, "--runs", runs, "--run").returncode == 0
    assert (runs / "first" / "log").read_text() == "two words\n"


def test_what_follows_a_changed_command_is_run_again_and_an_interrupted_attempt_counts(tmp_path):
    writer = tmp_path / "append.py"
    writer.write_text(
        "import os, pathlib, signal, sys, time\nout = pathlib.Path(sys.argv[1])\n"
        "out.mkdir(parents=True, exist_ok=True)\nopen(out / 'log', 'a').write(' '.join(sys.argv[3:]) + chr(10))\n"
        "if (out / 'slow').exists():\n    (out / 'slow').unlink()\n    time.sleep(0.3)\n"
        "    os.kill(os.getppid(), signal.SIGINT)\n    time.sleep(60)\n"
    )
    recipe, runs = tmp_path / "small.yaml", tmp_path / "elsewhere"
    recipe.write_text(
        f"#   python {writer} runs/model training/train.py --dataset x\n#   python {writer} runs/actor -\nbase: none\n"
    )
    main = module().main
    arguments = [str(recipe), "--run", "--runs", str(runs)]

    def noted():
        return json.loads((runs / "from_scratch-small.json").read_text())["commands"]

    assert main(arguments) == 0 and main([*arguments, "--train", "--seed 1"]) == 0
    # Another model, and so another actor.
    assert (runs / "model" / "log").read_text() == "--dataset x\n--dataset x --seed 1\n"
    assert (runs / "actor" / "log").read_text() == "\n\n" and [entry["finished"] for entry in noted()] == [True, True]
    (runs / "model" / "slow").touch()
    # A background job inherits that the signal is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            main([*arguments, "--train", "--seed 2"])
    finally:
        signal.signal(signal.SIGINT, before)
    (stopped,) = noted()
    assert not stopped["finished"] and stopped["seconds"] >= 0.3
    assert main([*arguments, "--train", "--seed 2"]) == 0
    assert (runs / "actor" / "log").read_text() == "\n\n\n" and noted()[0]["seconds"] > stopped["seconds"]


def test_folders_of_another_run_are_refused_before_any_command_runs(tmp_path, capsys):
    """As a user changes the training, and then what it is made of."""
    writer = tmp_path / "write.py"
    writer.write_text(
        "import pathlib, sys\nat = next(at for at, word in enumerate(sys.argv) if word in ('--out', '--output_dir'))\n"
        "out = pathlib.Path(sys.argv[at + 1])\nout.mkdir(parents=True, exist_ok=True)\n"
        "open(out / 'log', 'a').write('run ')\n"
    )
    recipe, runs = tmp_path / "small.yaml", tmp_path / "elsewhere"

    def write(rate):
        recipe.write_text(
            f"#   python {writer} collect --out runs/episodes\n"
            f"#   python {writer} training/train.py {recipe} --dataset runs/episodes --output_dir runs/model\n"
            f"#   python {writer} train-actor runs/model --out runs/model/agent\nlearning_rate: {rate}\n"
        )

    def said(*more):
        assert module().main([str(recipe), "--run", "--runs", str(runs), *more]) in (0, 2)
        return capsys.readouterr().err

    def logs():
        return {name: (runs / name / "log").read_text() for name in ("episodes", "model", "model/agent")}

    write(0.1)
    (runs / "model" / "agent").mkdir(parents=True)
    refused = said()  # an agent of which no record tells, and no episodes
    assert f"error: {runs}/model, {runs}/model/agent: of another run" in refused and not (runs / "episodes").exists()
    shutil.rmtree(runs)
    assert said() == "" and set(logs().values()) == {"run "}
    write(0.2)
    for arguments in ([], ["--train", "--seed 1"]):
        refused = said(*arguments)
        assert (
            refused.startswith(f"error: {runs}/model, {runs}/model/agent: of another run") and refused.count("\n") == 1
        )
        assert "name another place with --runs DIR, or move them away" in refused
    assert set(logs().values()) == {"run "}
    shutil.rmtree(runs / "model")
    (runs / "model" / "agent").mkdir(parents=True)
    assert f"error: {runs}/model, " in said()
    shutil.rmtree(runs / "model")
    assert said() == "" and set(logs().values()) == {"run "}
    assert said() == "" and set(logs().values()) == {"run "}
    # Killed at once: the folder is this run's all the same.
    noted = json.loads((runs / "from_scratch-small.json").read_text())
    noted["commands"][-1]["finished"] = False
    (runs / "from_scratch-small.json").write_text(json.dumps(noted))
    assert said() == "" and logs()["model/agent"] == "run run "


def test_a_recipe_without_commands_is_refused(tmp_path):
    recipe = tmp_path / "silent.yaml"
    recipe.write_text("# Says nothing.\ndataset: x\n")
    refused = from_scratch(recipe)
    assert refused.returncode == 2 and "names no command in its first comment" in refused.stderr


FOUND = json.loads((ROOT / "docs" / "measurements" / "from_scratch.json").read_text(encoding="utf-8"))
VALIDATION = ROOT / "docs" / "measurements" / "validation"
MEASURED = {run["recipe"]: run for run in FOUND["runs"]}


def comment(name):
    """What a recipe's comment says, as running text."""
    return " ".join((RECIPES / f"{name}.yaml").read_text(encoding="utf-8").replace("\n#", "\n").split())


@pytest.mark.parametrize("name", ["tworoom-mini", "reacher-mini", "pusht-mini", "cube-mini"])
def test_what_a_recipe_takes_from_nothing_was_measured_with_its_commands(name):
    run, script = MEASURED[name], module()
    commands = [shlex.join(words) for words in script.commands_of(RECIPES / f"{name}.yaml")]
    done = [entry["command"] for entry in run["commands"] if entry["finished"]]
    # What was run says where its data set lies, which the recipe may say itself.
    assert len(done) == len(commands) and all(one.startswith(two) for one, two in zip(done, commands, strict=True))
    assert run["minutes"] == pytest.approx(sum(entry["seconds"] for entry in run["commands"]) / 60, abs=0.06)
    cores, success = run["machine"]["cpu_count"], run["success"]
    told = f"on {['no', 'one', 'two'][cores]} cores of an {run['machine']['device_name']} in {run['minutes']} minutes, "
    assert f"{told}evaluation included, which found {success['successes']} of {success['n']}" in comment(name)


def test_the_readme_says_what_the_recipes_take():
    names = "tworoom-mini", "reacher-mini", "cube-mini", "pusht-mini"
    room, reacher, cube, push = (MEASURED[name]["minutes"] for name in names)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"for TwoRoom, Reacher, Cube and PushT {room}, {reacher}, {cube} and {push} minutes on two cores." in readme


def test_what_each_part_of_cube_took():
    collected, trained, fitted, _ = (entry["seconds"] / 60 for entry in MEASURED["cube-mini"]["commands"])
    told = f"{collected:.1f} minutes for the episodes, {trained:.1f} for the model, {fitted:.1f} for the actor."
    assert told in comment("cube-mini") and MEASURED["cube-mini"]["beside"] in comment("cube-mini")


def test_what_each_part_of_push_t_took():
    minutes = [entry["seconds"] / 60 for entry in MEASURED["pusht-mini"]["commands"]]
    told = "{:.1f} minutes for the first episodes, {:.1f} for the model, {:.1f} and {:.1f} for the noisy ones, {:.1f} "
    said = comment("pusht-mini")
    assert told.format(*minutes) + "for the actor." in said
    quick = FOUND["actor_in_bf16"]
    alone, guided = (quick["validation"][name]["success"]["successes"] for name in ("actor", "guided"))
    ships = (read_result(VALIDATION / f"pusht-{name}.json") for name in ("actor", "actor-guided"))
    assert (
        f"one reaches {alone} of the 400 pairs below by itself and {guided} guiding a search, instead of {{}} and {{}}."
    ).format(*(one.success.successes for one in ships)) in said
    pace = FOUND["threads"]["windows_per_second"]
    assert f"With one thread a step of the model's takes {pace['2'] / pace['1']:.1f} times as long." in said
