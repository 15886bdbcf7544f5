"""A task of another package, one file, goes through everything that the tasks of this package go through."""

import importlib
import json
import logging
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from lewm_hf.cli import main
from lewm_hf.data.collect import collect, paper_preset
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.health.run import health
from lewm_hf.evaluation.probe.run import probe
from lewm_hf.evaluation.surprise.run import surprise
from lewm_hf.hub.cards.snippets import planner_snippet
from lewm_hf.tasks import registry
from lewm_hf.tasks.policies import expert_names
from lewm_hf.tasks.registry import find_task, knows_goals, lasting_name, make_env, register_task, task_names
from lewm_hf.tasks.task import Task

ROOT = Path(__file__).parents[3]
TINY = (
    "max_steps=6 batch_size=16 num_workers=0 precision=fp32 tracker=none log_every=3 eval_pairs=2 eval_batches=1 "
    "recalibration_batches=2 image_size=32 patch_size=8 encoder_hidden_size=24 encoder_layers=1 encoder_heads=2 "
    "encoder_mlp_size=48 embed_dim=8 projector_hidden_size=32 predictor_hidden_size=24 predictor_layers=1 "
    "predictor_heads=2 predictor_head_dim=8 predictor_mlp_size=32 action_mlp_size=48 sigreg_projections=32"
)
QUICK = [part for value in ("samples=8", "iterations=1", "elites=2") for part in ("--set", value)]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The user's package as `pip install` leaves it: its module, and its metadata with an entry point."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("dot_task.py"), folder)
    metadata = folder / "dot_task-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dot-task\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lewm_hf.tasks]\ndot = dot_task:TASK\n")
    known = dict(registry._registered)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("dot_task", None)
    gymnasium.registry.pop("outside/Dot-v0", None)
    registry._registered.clear()
    registry._registered.update(known)


@pytest.fixture(scope="module")
def episodes(package, tmp_path_factory):
    out = tmp_path_factory.mktemp("dot") / "episodes"
    assert main(["collect", "dot", "--episodes", "24", "--image-size", "32", "--workers", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def run(episodes, tmp_path_factory):
    """A training with its planning success, in this process."""
    from accelerate.state import AcceleratorState, GradientState

    from lewm_hf.training.arguments import parse_recipe

    sys.path.insert(0, str(ROOT / "training"))
    try:
        import train
    finally:
        sys.path.remove(str(ROOT / "training"))
    out = tmp_path_factory.mktemp("dot") / "run"
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    values = [*TINY.split(), f"dataset={episodes}", f"output_dir={out}", "action_dim=2"]
    threads = torch.get_num_threads()
    train.train(*parse_recipe([f"--{value}" for value in values]))
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return out


def test_it_is_collected_trained_evaluated_and_analysed_by_name(episodes, run, capsys):
    description = json.loads((episodes / "episodes.json").read_text())
    assert description["env"] == "outside/Dot-v0" and description["collector"]["expert_kwargs"] == {"noise": 0.5}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("eval/success" in key for record in records for key in record)
    model, frames = str(run / "last"), ["--episodes", str(episodes)]
    drawn = [*frames, "--set", "split=train", "--set", "goal_offset=15", "-n", "2", "--seeds", "1"]
    commands = {
        "evaluation": ["eval", model, "--env", "dot", *drawn, *QUICK, "--video", "1"],
        "surprise": ["surprise", model, "--trajectories", "2"],
        "health": ["health", model, *frames, "--split", "train"],
    }
    for folder, command in commands.items():
        assert main([*command, "--out", str(run / folder)]) == 0, capsys.readouterr().err
    settings = {"split": "train", "frames": 60, "seeds": [0], "probes": ["linear"], "controls": False}
    probe(model, episodes, **settings, out=run / "probe")
    result = json.loads((run / "evaluation" / "results.json").read_text())["env"]
    assert (result["id"], result["success_rule"]) == ("outside/Dot-v0", "|dot - goal| < 0.1")
    assert result["distance_unit"] == "side of the square"
    rows = [json.loads(line) for line in (run / "evaluation" / "episodes.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(0 <= row["final_distance"] < 1.5 for row in rows)
    targets = {row["target"] for row in json.loads((run / "probe" / "probe.json").read_text())["rows"]}
    assert targets == {"place", "motion"}
    assert "side of the square" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    page = (run / "report" / "index.html").read_text()
    for text in ("outside/Dot", "the dot, by at least 0.4", "side of the square", "Goals reached by planning"):
        assert text in page


def test_what_the_environment_does_not_say_is_named(episodes, run, monkeypatch, tmp_path):
    """An analysis that lacks something names the member to add; one that can do without it goes on."""
    kind = type(make_env("dot"))
    split = load_episodes(episodes, "train")
    for name in ("distance", "probe_values", "teleport"):
        monkeypatch.delattr(kind, name)
    monkeypatch.setattr(kind, "reached", lambda self, states, goals: np.linalg.norm(states - goals, axis=-1) < 0.1)
    monkeypatch.setattr(kind, "distance_unit", "unknown")
    found = health(run / "last", split, out=tmp_path / "health").result
    assert found["distances"] is None and found["retrieval"]["nearest"] is None
    for name, call, message in (
        ("probe_targets", lambda: probe(run / "last", split), "DotEnv has no probe targets: set its `probe_targets`"),
        ("events", lambda: surprise(run / "last", trajectories=2), "DotEnv has no impossible events: set its `events`"),
    ):
        monkeypatch.setattr(kind, name, getattr(kind.__mro__[1], name))
        with pytest.raises(ValueError, match=message):
            call()
    drawn = ["--episodes", str(episodes), "--set", "split=train", "--set", "goal_offset=15", "-n", "2", "--seeds", "1"]
    assert main(["eval", str(run / "last"), *drawn, *QUICK, "--out", str(tmp_path / "eval")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "eval" / "episodes.jsonl").read_text().splitlines()]
    assert [row["final_distance"] for row in rows] == [None, None]


@pytest.mark.long  # each of three processes imports everything
def test_worker_processes_get_the_task_with_their_work(package, tmp_path):
    """Spawned processes know only what is installed: here, the task is registered by a script alone."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from dot_task import TASK\n"
        "from lewm_hf.data.collect import collect\n"
        "from lewm_hf.tasks.registry import register_task\n"
        "if __name__ == '__main__':\n"
        "    register_task(TASK)\n"
        "    collect('dot', sys.argv[1], 4, image_size=32, workers=2, episodes_per_file=2)\n"
    )
    subprocess.run([sys.executable, str(script), str(tmp_path / "two")], check=True)
    collect("dot", tmp_path / "one", 4, image_size=32, workers=1, episodes_per_file=2)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.parquet"))
    # Two of training, one of test episodes, and what LeRobot wants to know about them.
    assert sum(file.parts[0] == "data" for file in files) == 3
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_it_is_found_by_name_by_id_and_through_its_module(package):
    task = find_task("dot")
    assert task is find_task("outside/Dot-v0") is find_task("dot_task:dot") and "dot" in task_names()
    assert knows_goals("dot")
    assert expert_names("dot") == ("seek", "random")
    assert register_task(pickle.loads(pickle.dumps(task))) is task
    assert gymnasium.make(make_env("dot").spec.id, image_size=16).reset(seed=0)[1]["goal"].shape == (16, 16, 3)


def test_the_lines_of_its_card_run_in_another_process(package, monkeypatch):
    """There nobody has made its environment before, and gymnasium knows nothing of it."""
    assert lasting_name("outside/Dot-v0") == "dot"
    lines = planner_snippet("model", "outside/Dot-v0", {}, 16, "(25, 2)").splitlines()
    monkeypatch.delitem(gymnasium.registry, "outside/Dot-v0", raising=False)
    monkeypatch.delitem(registry._registered, "dot")
    usage: dict = {}
    exec("\n".join(line for line in lines if line.startswith(("import", "from", "env", "_"))), usage)
    assert usage["env"].render().shape == usage["info"]["goal"].shape == (16, 16, 3)


def test_pictures_of_another_size_are_refused_before_anything_is_written(package, monkeypatch, tmp_path, capsys):
    kind = type(make_env("dot"))
    monkeypatch.setattr(kind, "render", lambda self: np.zeros((48, 48, 3), dtype=np.uint8))
    words = ["collect", "dot", "--episodes", "2", "--image-size", "32", "--workers", "1", "--out", str(tmp_path / "x")]
    assert main(words) == 2 and not (tmp_path / "x").exists()
    assert "outside/Dot-v0 renders 48x48 pixels, but was asked for image_size=32" in capsys.readouterr().err


def test_bad_registrations_are_refused_in_one_line(package, tmp_path, monkeypatch, caplog):
    def task(**changes):
        return Task(**{"name": "other", "env_id": "mine/Other-v0", "max_episode_steps": 5} | changes)

    for call, message in (
        (lambda: register_task(task(name="two_room")), "task two_room .* is registered already"),
        (lambda: register_task(task(env_id="lewm/PushT-v0")), "registered already, as push_t"),
        (lambda: task(name="Two Rooms"), "'Two Rooms' must be lower-case"),
        (lambda: task(env_id="no id"), "env_id='no id' is not a gymnasium id"),
        (lambda: task(max_episode_steps=0), "max_episode_steps=0 must be at least 1"),
        (lambda: find_task("maze"), "unknown environment 'maze': use one of two_room"),
        (lambda: paper_preset("dot"), "the paper has no data set of dot"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(ImportError, match="nowhere cannot be imported"):
        find_task("nowhere:maze")
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[lewm_hf.tasks]\nbroken = nowhere.to_be_found:TASK\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="task broken of an installed package, nowhere.to_be_found:TASK"):
        find_task("broken")
    (tmp_path / "nowhere_either.py").write_text("def TASK(:\n")
    (broken / "entry_points.txt").write_text("[lewm_hf.tasks]\nbroken = nowhere_either:TASK\n")
    with pytest.raises(ImportError, match="task broken of an installed package, nowhere_either:TASK, cannot be imp"):
        find_task("broken")
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="unknown environment"):
        find_task("mine/Unknown-v0")
    assert "broken" in caplog.text  # somebody else's broken package stands in nobody's way
