"""The checkpoints of `model_cards/`: what lies there is what a Hub repository would hold, and could go there now."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from lewm_cli import parser
from lewm_hf.data.storage.local_paths import SUFFIXES, clean_text
from lewm_hf.evaluation.common.results import read_result, read_rows, rows_hash
from lewm_hf.evaluation.report.run import write_report
from lewm_hf.evaluation.success.acting import default_planner, describe_policy
from lewm_hf.evaluation.success.comparison import compare
from lewm_hf.evaluation.success.protocol import load_protocol, parse_overrides, split_overrides
from lewm_hf.hub.cards.write import write_card
from lewm_hf.hub.push import push
from lewm_hf.planning import load_planner

from ..fake_hub import card_errors

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[3] / "model_cards").glob("*/model.safetensors"))
RESULTS = [path for folder in FOLDERS for path in sorted(folder.glob("evaluation/*/results.json"))]
shipped = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


@shipped
def test_a_shipped_checkpoint_could_be_pushed_as_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # places within the repository are none of this machine's
    (upload,) = push(f"org/{folder.name}", model=folder, dry_run=True).uploads
    cleaned = dict(upload.paths)
    for path in folder.rglob("*"):
        if path.suffix in SUFFIXES:
            cleaned |= clean_text(path.read_text(encoding="utf-8"), path.suffix)[1]
    # What would be cut are folders as the commands of the card call them, from the repository, and no others.
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert all(old[0] not in "/~." and ":" not in old and "\\" not in old for old in cleaned), cleaned
    assert card_errors(text) == []


@shipped
def test_its_card_is_what_the_command_writes(folder, tmp_path, monkeypatch):
    """`lewm card model_cards/NAME --local --license apache-2.0 --data-license apache-2.0`, from the repository."""
    copy = tmp_path / "model_cards" / folder.name
    shutil.copytree(folder, copy)
    for name in ("README.md", ".eval_results"):
        path = copy / name
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
    monkeypatch.chdir(tmp_path)
    write_card(f"model_cards/{folder.name}", local=True, license="apache-2.0", data_license="apache-2.0")
    here, there = ({path.relative_to(top) for path in top.rglob("*")} for top in (folder, copy))
    assert here == there
    for name in ("README.md", "collection.json"):
        assert (copy / name).read_text(encoding="utf-8") == (folder / name).read_text(encoding="utf-8")


@shipped
def test_its_card_says_in_which_types_its_weights_are_stored(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    stored = {
        str(one.dtype).removeprefix("torch.") for one in load_file(folder / "model.safetensors").values() if one.dim()
    }
    decodes = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "lewm_decoder"
    assert decodes or f" parameters, {' and '.join(sorted(stored))}. Safetensors only" in text


def test_a_solver_without_settings_is_named_and_a_start_among_several_said():
    fast = [path.parents[2] for path in RESULTS if path.parent.name.endswith("-actor-guided-fast")]
    assert fast
    for folder in fast:
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert (
            "the solver `keep`, started from the best of 8 plans of the checkpoint's actor, over at most 5 blocks"
            in text
        )
        assert (
            "16 elites, started by the checkpoint's actor, over at most" in text
        )  # of actor-guided, which has one start


@shipped
def test_its_card_states_each_result_under_its_own_protocol(folder):
    entries = ModelCard.load(folder / "README.md").data.eval_results
    keys = ("protocol_hash", "planner_hash", "pairs")
    stated = {
        (*(entry.dataset_args[key] for key in keys), entry.metric_type): entry.metric_value
        for entry in entries
        if entry.task_type == "robotics"
    }
    measured = {}
    for path in folder.glob("evaluation/*/results.json"):
        result = read_result(path)
        where = result["protocol"]["hash"], result["planner"]["hash"], result["pairs"]
        for kind, rate in (("success_rate", result["success"]), ("random_success_rate", result["floors"]["random"])):
            measured[*where, kind] = round(rate["rate"], 4)
    assert stated == measured
    assert len(entries) == (len(stated) or 3)  # a decoder has three numbers of its own


@shipped
def test_its_table_tells_its_rows_apart_and_its_use_plans_as_the_best_of_them(folder):
    text = (folder / "README.md").read_text(encoding="utf-8").partition("\n---\n")[2]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if " points | " in line]
    results = [read_result(path) for path in folder.glob("evaluation/*/results.json")]
    assert len(rows) == len(results)
    assert len({tuple(row[:2]) for row in rows}) == len(rows)
    for result in results:
        protocol, success = result["protocol"], result["success"]
        (row,) = [
            row
            for row in rows
            if row[0].startswith(f"`{protocol['label']}`, goals {protocol['goal_offset']} steps ahead, ")
            and row[1] == f"`{result['planner']['label']}`"
        ]
        assert f"{success['successes']} of {success['n']}" in row[2]
    distances = [int(row[0].split("goals ")[1].split()[0]) for row in rows]
    assert distances == sorted(distances)  # all of them were measured 25 steps ahead under the protocol as it ships
    searches = {
        result["planner"]["name"]: result["success"]["rate"]
        for result in sorted(results, key=lambda result: result["success"]["rate"])
        if result["policy"] == "planner" and not result["protocol"]["overrides"]
    }
    if searches:
        named = text.split('planner="')[1].split('"')[0]
        assert searches[named] == max(searches.values())


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parts[-4]}-{path.parts[-2]}")
def test_its_evaluations_can_be_compared_with(path, tmp_path):
    rows = read_rows(path)
    assert rows_hash(rows) == json.loads(path.read_text(encoding="utf-8"))["rows_hash"]
    compare(path.parent, path.parent, tmp_path)
    assert (tmp_path / "compare.json").is_file()


@shipped
def test_its_measurements_can_be_shown(folder, tmp_path):
    """What was measured before a field was added to results would end in the report."""
    page = write_report(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    for path in folder.glob("evaluation/*/results.json"):
        success = json.loads(path.read_text(encoding="utf-8"))["success"]
        assert f"{success['successes']} of {success['n']} goals" in page


@shipped
def test_its_use_runs_from_the_repository_as_it_stands(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[1])
    text = (folder / "README.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(compile(text.split("```python\n")[1].split("\n```")[0], str(folder), "exec"), names)
    if "plan" in names:
        assert f"{names['plan']['actions'].shape} float32" in text
    else:
        assert f"{tuple(names['pictures'].shape)} uint8" in text


@shipped
def test_its_commands_measure_what_its_results_say(folder):
    """Every command of the card, read as the command line reads it, asks for the protocol and policy of a result."""
    asked = set()
    for block in (folder / "README.md").read_text(encoding="utf-8").split("```bash\nlewm eval ")[1:]:
        args = parser().parse_args(["eval", *shlex.split(block.split("\n```")[0])])
        of_protocol, of_planner = split_overrides(parse_overrides(args.set))
        protocol = load_protocol(args.protocol, of_protocol)
        planner = load_planner(args.planner or default_planner(args.policy, protocol), of_planner)
        asked.add((protocol.hash, describe_policy(args.policy, planner)["hash"]))
    results = [read_result(path) for path in folder.glob("evaluation/*/results.json")]
    assert asked == {(result["protocol"]["hash"], result["planner"]["hash"]) for result in results}


def test_an_actor_and_a_search_differ_in_who_acts_and_not_in_every_setting():
    folder = next(folder for folder in FOLDERS if folder.name == "lewm-pusht-mini") / "evaluation"
    differences = compare(folder / "clean-actor", folder / "clean-actor-guided").differences
    assert differences["planner"] == ["actor-v2", "actor-guided-v2"]
    assert not [name for name in differences if name.startswith("planner ")]
