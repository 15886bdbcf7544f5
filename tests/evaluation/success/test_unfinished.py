"""An evaluation that was interrupted continues, and none is lost to another."""

import dataclasses
import json

import pytest

from lewm_hf import LeWMImageProcessor, files
from lewm_hf.evaluation.success import folder, measure, prepare
from lewm_hf.evaluation.success import run as runner
from lewm_hf.evaluation.success.arguments import EvaluateArguments
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.planning import load_planner
from lewm_hf.tasks.vector import GoalVectorEnv

from ..conftest import make_episodes

PROTOCOL = load_protocol("paper", {"split": "test", "budget": 15})
PLANNER = load_planner("paper", {"samples": 8, "iterations": 1, "elites": 2})
VOLATILE = ("finished", "wall_time", "planning")


@pytest.fixture
def given(tiny_model, tiny_config, episodes, tmp_path):
    tiny_config.action_mean, tiny_config.action_std = [0.0, 0.0], [0.6, 0.6]
    return {
        "model": tiny_model, "processor": LeWMImageProcessor(image_size=28), "episodes": episodes, "n": 3,
        "seeds": [1, 2, 3], "protocol": PROTOCOL, "planner": PLANNER, "out": tmp_path / "out",
    }  # fmt: skip


@pytest.fixture
def interrupt(monkeypatch):
    """Ctrl-C as a seed begins; counts the seeds that are run."""
    act, seen = measure._act, []

    def stop_at(seed):
        def interrupted(task, vector_env, manifest, progress):
            seen.append(manifest.seed)
            if manifest.seed == seed:
                raise KeyboardInterrupt
            return act(task, vector_env, manifest, progress)

        monkeypatch.setattr(measure, "_act", interrupted)
        seen.clear()
        return seen

    return stop_at


def content(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def without_clock(folder):
    result = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in result.items() if name not in VOLATILE}


def test_an_interrupted_evaluation_continues_to_the_same_result(given, interrupt, tmp_path):
    whole = tmp_path / "whole"
    expected = evaluate(**given | {"out": whole}, videos=2)
    interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**given, videos=2)
    assert not (given["out"] / "results.json").exists()
    seen = interrupt(None)
    done = evaluate(**given, videos=2)
    assert seen == [3]
    assert done.result["rows_hash"] == expected.result["rows_hash"]
    assert without_clock(given["out"]) == without_clock(whole)
    assert done.result["planning"]["plans"] == expected.result["planning"]["plans"]
    # Films of seeds that were measured before the interruption included.
    names = [name for name in content(whole) if name not in ("results.json", "episodes.jsonl")]
    assert len(done.videos) == 2 and [content(given["out"])[name] for name in names] == [
        content(whole)[name] for name in names
    ]
    assert set(content(given["out"])) == set(content(whole))


def test_what_was_measured_with_anything_else_is_never_taken(given, interrupt, tiny_model, tmp_path):
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**given)
    before = content(given["out"])
    assert len(before) == 1
    seen = interrupt(None)
    other_pictures = make_episodes(60)
    frames = other_pictures.frames
    other_pictures.frames = lambda rows: 255 - frames(rows)
    processor = LeWMImageProcessor(image_size=28, image_mean=[0.1, 0.1, 0.1])
    for changes, named in (
        ({"protocol": load_protocol(PROTOCOL, {"budget": 20})}, "protocol"),
        ({"overrides": {"samples": 9}}, "planner"),
        ({"policy": "zero"}, "planner"),
        ({"n": 4}, "set of pairs"),
        ({"seeds": [2, 3]}, "set of seeds"),
        ({"floors": False}, "choice of floors"),
        ({"processor": processor}, "model configuration"),
        ({"episodes": other_pictures}, "set of pictures"),
        ({"num_envs": 1}, "number of environments"),
    ):
        with pytest.raises(ValueError, match=f"unfinished evaluation with another {named}[,:].*--overwrite"):
            evaluate(**given | changes)
    tiny_model.predictor.layers[0].modulation.bias.data += 0.5
    with pytest.raises(ValueError, match="another model:"):
        evaluate(**given)
    assert seen == [] and content(given["out"]) == before
    evaluate(**given, overwrite=True)
    assert seen == [1, 2, 3]


def test_an_evaluation_is_overwritten_only_when_asked_and_only_by_a_complete_one(given, interrupt):
    first = evaluate(**given, videos=1)
    before = content(given["out"])
    seen = interrupt(2)
    for again in (given, given | {"seeds": [7]}):
        with pytest.raises(ValueError, match="holds an evaluation already: give another out, or overwrite"):
            evaluate(**again)
    assert seen == [] and content(given["out"]) == before
    changed = given | {"protocol": load_protocol(PROTOCOL, {"budget": 5})}
    with pytest.raises(KeyboardInterrupt):
        evaluate(**changed, overwrite=True)
    kept = content(given["out"])
    assert {name: kept[name] for name in before} == before
    seen = interrupt(None)
    done = evaluate(**changed, overwrite=True)
    assert seen == [2, 3] and done.result["rows_hash"] != first.result["rows_hash"]
    # Nothing of the earlier evaluation is left, its films neither.
    assert not [name for name in content(given["out"]) if name.startswith(("videos", "unfinished"))]


def test_files_that_an_evaluation_would_write_over_are_kept(given, episodes):
    from lewm_hf.evaluation.success.manifest import sample_manifest

    mine = sample_manifest(episodes, PROTOCOL, 3, 1).save(given["out"] / "manifests" / "seed-1.json")
    with pytest.raises(ValueError, match="seed-1.json would be overwritten"):
        evaluate(**given)
    assert mine.is_file()


def test_damaged_kept_files_are_named(given, interrupt):
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**given)
    kept = next((given["out"] / "unfinished").iterdir())
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(ValueError, match="seed-1.npz is damaged: remove it"):
        evaluate(**given)


def test_versions_and_machines_do_not_mix(given, interrupt, monkeypatch):
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**given)
    monkeypatch.setattr(folder, "library_versions", lambda: {"torch": "0"})
    with pytest.raises(ValueError, match="another set of versions"):
        evaluate(**given)


def test_rows_survive_exactly(given, interrupt):
    """What is kept gives back every number that the run itself would have used."""
    task = prepare.prepare(EvaluateArguments(**given, num_envs=3))
    kept = folder.reserve(task)
    with GoalVectorEnv(task.env_id, 3, **task.env_kwargs) as worlds:
        measured = measure.measure(task, worlds, task.manifests[0], True, False)
    kept.save(1, measured)
    again = kept.load(1)
    assert again.rows == measured.rows and (again.plans, again.seconds) == (measured.plans, measured.seconds)
    for one, other in zip(again.outcomes, measured.outcomes, strict=True):
        assert (one.states == other.states).all() and (one.actions == other.actions).all()
        assert dataclasses.replace(one, states=None, actions=None, seconds=0) == dataclasses.replace(
            other, states=None, actions=None, seconds=0
        )


def test_two_evaluations_of_one_folder_do_not_run_at_once(given, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with files.only_one(given["out"] / runner.LOCK), pytest.raises(OSError, match="another command is at work"):
        evaluate(**given)
    assert not list(given["out"].rglob("*.npz"))


def test_what_a_kill_left_half_written_goes_with_the_rest(given, interrupt):
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**given)
    (given["out"] / "unfinished" / ".seed-2.npz.123-abc.tmp").write_bytes(b"half")
    interrupt(None)
    evaluate(**given)
    assert {path.name for path in given["out"].iterdir()} == {"episodes.jsonl", "manifests", "results.json"}
