"""Cards state what was measured, all of it, and nothing else."""

import copy
import hashlib
import json
import re
import shlex
import shutil

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from lewm_cli import parser
from lewm_hf import LeWMImageProcessor, LeWMModel
from lewm_hf.evaluation.success.protocol import load_protocol, parse_overrides, split_overrides
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.hub.cards.checks import check_card
from lewm_hf.hub.cards.facts import CONVERSION_FACTS, RESULT_FACTS, TRAINING_FACTS
from lewm_hf.hub.cards.text import precision_text
from lewm_hf.hub.cards.write import write_card
from lewm_hf.hub.convert.run import convert
from lewm_hf.hub.push import push
from lewm_hf.planning import load_planner
from lewm_hf.training.arguments import parse_recipe, recipe_values
from lewm_hf.training.facts import training_facts
from lewm_hf.training.precision import mixed_precision

from ..fake_hub import card_errors
from ..published import PublishedLeWM, original_config, write_checkpoint

GIVEN = {
    "repo_id": "org/lewm-tworoom-mini",
    "license": "apache-2.0",
    "data_license": "cc-by-4.0",
    "dataset_id": "org/two-room",
    "dataset_revision": "0123456789abcdef0123456789abcdef01234567",
}
TINY_PROTOCOL = {
    "samples": 4, "iterations": 1, "elites": 2, "horizon": 1, "receding_horizon": 1, "budget": 5, "goal_offset": 2,
}  # fmt: skip


@pytest.fixture
def trained(tmp_path, trained_once):
    """A checkpoint as training leaves it, and an evaluation of it."""
    shutil.copytree(trained_once, tmp_path / "best")
    return tmp_path / "best"


@pytest.fixture(scope="module")
def trained_once(tiny_checkpoint, collected, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "best"
    shutil.copytree(tiny_checkpoint, folder)
    told = json.loads((folder / "config.json").read_text()) | {"actions_per_second": 12.5}
    (folder / "config.json").write_text(json.dumps(told))
    recipe, config = parse_recipe(
        ["--dataset", str(collected), "--output_dir", "runs/x", "--max_steps", "700", "--batch_size", "64",
         "--image_size", "28"]
    )  # fmt: skip
    progress = {
        "step": 700, "seconds": 1234.5, "env_id": "lewm/TwoRoom-v0", "train_fingerprint": "f" * 64,
        "env_kwargs": {"image_size": 28}, "train_windows": 8000, "num_processes": 2,
        "mixed_precision": "bf16",
    }  # fmt: skip
    facts = training_facts(recipe_values(recipe, config), progress, 125.0, 43_038, torch.device("cpu"))
    (folder / "training.json").write_text(json.dumps(facts))
    evaluate(
        folder, episodes=collected, protocol="paper", overrides=TINY_PROTOCOL, n=2, seeds=[1, 2],
        out=folder / "evaluation" / "paper",
    )  # fmt: skip
    return folder


def result_of(folder):
    return json.loads((folder / "evaluation" / "paper" / "results.json").read_text())


def rows_of(folder):
    return [json.loads(line) for line in (folder / "evaluation" / "paper" / "episodes.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("precision", "mixed", "said"),
    [
        ("bf16_encoder", "no", "bf16 in the encoder and float32 elsewhere"), ("fp32", "no", "float32"),
        ("auto", "no", "float32"), ("auto", "bf16", "bf16 (autocast)"), ("bf16", "bf16", "bf16 (autocast)"),
    ],
)  # fmt: skip
def test_precision_is_what_computed_and_not_what_accelerate_calls_it(precision, mixed, said):
    """Accelerate's name is `mixed_precision(precision, device)`, which is "no" for an encoder that computes alone."""
    assert precision_text({"mixed_precision": mixed, "recipe": {"precision": precision}}) == said
    if precision in ("bf16_encoder", "fp32"):
        assert mixed_precision(precision, torch.device("cpu")) == mixed


def test_a_card_states_what_was_measured(trained, trained_once, online, collected):
    text = write_card(trained, **GIVEN).read_text()
    result, training = result_of(trained), json.loads((trained / "training.json").read_text())
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("lewm-hf", "robotics", "apache-2.0")
    assert data.datasets == ["org/two-room"]
    success, floor = data.eval_results
    assert (success.metric_type, success.metric_value) == ("success_rate", round(result["success"]["rate"], 4))
    assert floor.metric_value == round(result["floors"]["random"]["rate"], 4)
    assert success.metric_args["n"] == 4 and success.metric_args["seeds"] == [1, 2]
    assert success.dataset_args["protocol_hash"] == result["protocol"]["hash"]
    assert success.dataset_revision == GIVEN["dataset_revision"]
    low, high = (100 * end for end in result["success"]["interval"])
    pairs = len({(row["episode"], row["start"]) for row in rows_of(trained)})
    distinct = "n = 4;" if pairs == 4 else f"n = 4 ({pairs} distinct pairs);"
    for fact in (
        f"**{100 * result['success']['rate']:.1f} %** ({low:.1f}-{high:.1f}; {result['success']['successes']} of 4)",
        result["protocol"]["label"], result["protocol"]["hash"][:12], "samples=4", distinct,
        "goals 2 steps after the start", "a budget of 5 steps",
        "CEM with 4 samples, 1 iteration, 2 elites, over at most 1 blocks of 5 actions, replanned after 1",
        result["planner"]["label"], result["planner"]["hash"][:12],
        "700 steps (5.60 epochs over 8,000 windows)", "batch 64", "precision bf16 (autocast)", "seed 3072",
        "0.69 device hours on 2 x",
        training["hardware"]["device_name"], f"torch {training['versions']['torch']}", "`org/two-room`",
        GIVEN["dataset_revision"], "cc-by-4.0", "(batch, time, 3, 28, 28)", "(batch, time, 10)", "z-scored",
        "[0.1, -0.2]", "| `image_size` | 28 | 224 |", "| `batch_size` | 64 | 128 |", "| `stop_epoch` | unset | 10.0 |",
        "5 environment steps apart; 12.5 actions make a second.",
        "lewm/TwoRoom-v0", "Pairs drawn from the train episodes of `org/two-room`",
        "43,038 parameters", "0.04 M parameters", "Split `train`",
        "Action statistics cover all episodes of the data set", training["train_fingerprint"][:12],
        hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest(),
        'LeWMPlanner.from_pretrained("org/lewm-tworoom-mini")',
    ):  # fmt: skip
        assert fact in text, fact
    assert not any(str(folder) in text for folder in (collected, trained, trained_once))
    assert "None" not in re.sub(r"```.*?```", "", text, flags=re.S)
    usage = text.split("```python\n")[1].split("```")[0]
    assert len(usage.splitlines()) <= 10
    compile(usage, "usage", "exec")
    # As the Hub judges it, and push asks.
    assert card_errors(text) == []
    push("org/lewm-tworoom-mini", model=trained)
    files = online.files("model", "org/lewm-tworoom-mini")
    assert {"README.md", "evaluation/paper/results.json", "evaluation/paper/episodes.jsonl"} < files.keys()


def test_results_for_leaderboards_say_the_same(trained, online):
    write_card(trained, **GIVEN)
    result = result_of(trained)
    (entry,) = parse_eval_result_entries(yaml.safe_load((trained / ".eval_results" / "planning.yaml").read_text()))
    assert (entry.dataset_id, entry.dataset_revision) == ("org/two-room", GIVEN["dataset_revision"])
    # Modified, both of them: not the task that `paper` is.
    task = f"paper-2-{result['protocol']['hash'][:8]}-paper-{result['planner']['hash'][:8]}"
    assert (entry.task_id, entry.value, entry.date) == (task, result["success"]["rate"], result["finished"])
    assert entry.source_url.endswith("org/lewm-tworoom-mini/blob/main/evaluation/paper/results.json")
    named = [result[one][key][:12] for one in ("protocol", "planner") for key in ("label", "hash")]
    for fact in (*named, "n = 4", "random actions"):
        assert fact in entry.notes
    push("org/lewm-tworoom-mini", model=trained)
    assert ".eval_results/planning.yaml" in online.files("model", "org/lewm-tworoom-mini")
    for text in (
        "[",
        "- dataset: {id: a/b}\n  value: 1\n",
        "- 3\n",
        "- dataset: {id: a/b, task_id: c}\n  value: high\n",
    ):
        (trained / ".eval_results" / "planning.yaml").write_text(text)
        with pytest.raises(ValueError, match="planning.yaml holds no evaluation results") as caught:
            push("org/lewm-tworoom-mini", model=trained)
        assert "\n" not in str(caught.value)


def test_curves_of_the_run_that_a_checkpoint_comes_from(trained, online):
    """Of its own run, in or above its folder, until its step; of another run, none."""
    write_card(trained, **GIVEN)
    assert "training.png" not in (trained / "README.md").read_text(encoding="utf-8")

    told = {"eval/prediction_loss": 0.25, "eval/straightness": 0.5}
    facts = json.loads((trained / "training.json").read_text())
    (trained / "training.json").write_text(json.dumps(facts | {"evaluation": told}))
    steps = [{"step": step, "prediction_loss": 1 / step, "sigreg_loss": 2.0} for step in (1, 350, 700)]
    own = [*steps, {"step": 700} | told]
    later = {"step": 1400, "eval/prediction_loss": 0.125, "eval/straightness": 0.75}

    def card(place, records):
        for old in (trained, trained.parent):
            (old / "metrics.jsonl").unlink(missing_ok=True)
        (trained / "assets" / "training.png").unlink(missing_ok=True)
        (place / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        write_card(trained, **GIVEN)
        assert "](assets/training.png)" in (trained / "README.md").read_text(encoding="utf-8")
        return (trained / "assets" / "training.png").read_bytes()

    picture = card(trained, own)
    assert picture == card(trained.parent, own) == card(trained.parent, [*own, later])  # it is `best` of that run
    assert picture != card(trained, [{"step": 1, "prediction_loss": 0.5}, *own])
    with pytest.raises(ValueError, match=r"metrics.jsonl is of another training .* eval/straightness=0.75"):
        card(trained, [*own, later | {"step": 700, "eval/prediction_loss": 0.25}])


def edited(folder, name, protocol, rate, planner=None, **changes):
    """A further result beside the measured one: another protocol, other values of its planner, another rate."""
    result = copy.deepcopy(result_of(folder)) | changes
    result["protocol"] = protocol.to_dict() | {"label": protocol.label, "hash": protocol.hash}
    planner = load_planner(protocol.default_planner, planner)
    result["planner"] = planner.to_dict() | {"label": planner.label, "hash": planner.hash}
    result["success"] |= {"rate": rate, "successes": round(4 * rate)}
    path = folder / "evaluation" / name / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result))
    return protocol.hash, planner.hash, rate


def test_evaluations_of_one_card_stay_apart(trained, online):
    """By protocol, by goal offset and by changed settings, in the card as `huggingface_hub` reads it and beside it."""
    first = result_of(trained)
    measured = {(first["protocol"]["hash"], first["planner"]["hash"], round(first["success"]["rate"], 4))}
    own = f"paper-2-{first['protocol']['hash'][:8]}-paper-{first['planner']['hash'][:8]}"
    tasks = {own: round(first["success"]["rate"], 4)}
    for name, changes, rate, task in (
        ("clean", {}, 0.75, "clean-25"),
        ("clean", {"goal_offset": 50, "budget": 100}, 0.5, "clean-50"),
        ("clean", {"goal_offset": 100, "budget": 200}, 0.25, "clean-100"),
        ("clean", {"samples": 100}, 0.0, f"clean-25-goal-time-{load_planner('goal-time', {'samples': 100}).hash[:8]}"),
        ("clean", {"goal_offset": 50}, 0.125, f"clean-50-{load_protocol('clean', {'goal_offset': 50}).hash[:8]}"),
        ("paper", {}, 0.0, "paper-25"),
    ):
        of_protocol, of_planner = split_overrides(changes)
        protocol = load_protocol(name, of_protocol)
        measured.add(edited(trained, f"{name}-{len(measured)}", protocol, rate, of_planner))
        tasks[task] = rate
    text = write_card(trained, **GIVEN).read_text()
    entries = [entry for entry in ModelCard(text).data.eval_results if entry.metric_type == "success_rate"]
    found = {(e.dataset_args["protocol_hash"], e.dataset_args["planner_hash"], e.metric_value) for e in entries}
    assert found == measured
    assert len({entry.unique_identifier for entry in entries}) == len(entries) == 7
    listed = yaml.safe_load((trained / ".eval_results" / "planning.yaml").read_text())
    assert {entry["dataset"]["task_id"]: entry["value"] for entry in listed} == tasks and len(listed) == 7
    assert card_errors(text) == []


def test_a_result_names_the_episodes_that_were_opened(trained):
    """Pairs that ship are of no data set of the Hub; a data set with a revision is named even if it is another one."""
    known = {"split": "test", "fingerprint": "a" * 64, "first_frame": "rendered", "goal_frame": "rendered"}
    no_data = known | {"source": None, "revision": None}
    other = known | {"source": "org/other", "revision": "b" * 40}
    edited(trained, "shipped", load_protocol("clean"), 0.75, pairs="shipped", dataset=no_data)
    edited(trained, "other", load_protocol("paper"), 0.5, dataset=other)
    text = write_card(trained, **GIVEN).read_text()
    found = {e.metric_value: e for e in ModelCard(text).data.eval_results if e.metric_type == "success_rate"}
    assert (found[0.75].dataset_type, found[0.75].dataset_revision) == ("lewm-hf-shipped-pairs", None)
    assert (found[0.5].dataset_type, found[0.5].dataset_revision) == ("org/other", "b" * 40)
    listed = yaml.safe_load((trained / ".eval_results" / "planning.yaml").read_text())
    assert sorted((e["dataset"]["id"], e["dataset"]["revision"]) for e in listed) == [
        ("org/other", "b" * 40), ("org/two-room", GIVEN["dataset_revision"]),
    ]  # fmt: skip
    shipped = next(block for block in text.split("```bash\n") if "--protocol clean" in block.split("\n```")[0])
    assert "--episodes" not in shipped.split("\n```")[0] and "Pairs that ship with lewm-hf" in text
    assert (
        "lewm eval org/lewm-tworoom-mini --env two_room --episodes org/other --protocol paper --planner paper -n"
        in text
    )
    for name in ("paper", "other"):
        shutil.rmtree(trained / "evaluation" / name)
    write_card(trained, **GIVEN)
    assert not (trained / ".eval_results" / "planning.yaml").exists()


def test_results_are_found_below_a_folder_that_is_given(trained, tmp_path):
    edited(trained, "clean", load_protocol("clean"), 0.25)
    default = write_card(trained, **GIVEN).read_text()
    assert write_card(trained, **GIVEN, results=[trained / "evaluation"]).read_text() == default
    assert "`clean-v1`" in default and "`paper-v3 (modified)`" in default
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_card(trained, **GIVEN, results=[tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="would lack --results"):
        write_card(trained, **GIVEN, results=[tmp_path / "empty"])


def test_results_from_elsewhere_have_no_address(trained, tmp_path):
    shutil.move(trained / "evaluation", tmp_path / "kept")
    write_card(trained, **GIVEN, results=[tmp_path / "kept" / "paper"])
    (entry,) = yaml.safe_load((trained / ".eval_results" / "planning.yaml").read_text())
    assert "source" not in entry


def test_the_command_of_a_card_measures_the_same_protocol(trained):
    text = write_card(trained, **GIVEN).read_text()
    program, *words = shlex.split(text.split("```bash\n")[2].split("\n```")[0])
    args, result = parser().parse_args(words), result_of(trained)
    assert program == "lewm" and (args.env, args.n, args.seeds) == ("two_room", 2, [1, 2])
    assert (args.model, args.episodes) == (GIVEN["repo_id"], "org/two-room")
    of_protocol, of_planner = split_overrides(parse_overrides(args.set))
    assert load_protocol(args.protocol, of_protocol).hash == result["protocol"]["hash"]
    assert load_planner(args.planner, of_planner).hash == result["planner"]["hash"]


def test_a_card_can_bring_the_code(trained):
    text = write_card(trained, **GIVEN, with_code=True).read_text()
    assert 'pipeline(model="org/lewm-tworoom-mini", trust_remote_code=True)' in text
    assert json.loads((trained / "config.json").read_text())["auto_map"]["AutoModel"] == "modeling_lewm.LeWMModel"
    files = dict(push("org/lewm-tworoom-mini", model=trained, dry_run=True).uploads[0].files)
    assert {"modeling_lewm.py", "sigreg.py", "pipeline_lewm.py", "planning_costs.py"} < files.keys()


def test_exported_code_is_mentioned(trained):
    assert "trust_remote_code" not in write_card(trained, **GIVEN).read_text()
    (trained / "pipeline_lewm.py").write_text("")
    assert 'pipeline(model="org/lewm-tworoom-mini", trust_remote_code=True)' in write_card(trained, **GIVEN).read_text()


def without(content, name):
    content = copy.deepcopy(content)
    part = content
    *parents, last = name.split(".")
    for parent in parents:
        part = part[parent]
    del part[last]
    return content


def refused(folder, match, error=ValueError, **changes):
    with pytest.raises(error, match=match) as caught:
        write_card(folder, **(GIVEN | changes))
    assert "\n" not in str(caught.value)
    assert not (folder / "README.md").exists()


def test_every_missing_field_is_an_error(trained):
    for name in ("repo_id", "license", "data_license", "dataset_id", "dataset_revision"):
        refused(trained, f"would lack --{name.replace('_', '-')}:", **{name: None})
    for path, names in (
        (trained / "training.json", TRAINING_FACTS),
        (trained / "evaluation" / "paper" / "results.json", RESULT_FACTS),
    ):
        whole = json.loads(path.read_text())
        for name in names:
            path.write_text(json.dumps(without(whole, name)))
            refused(trained, f"lacks? .*{re.escape(name)}")
        path.write_text(json.dumps(whole))
    (trained / "training.json").rename(trained / "kept")
    refused(trained, "training.json or conversion.json")
    (trained / "kept").rename(trained / "training.json")
    shutil.rmtree(trained / "evaluation")
    refused(trained, "would lack --license; --results", license=None)
    write = json.loads((trained / "config.json").read_text())
    (trained / "config.json").write_text(json.dumps(write | {"action_mean": None, "action_std": None}))
    refused(trained, "config.json: action_mean, action_std")


def test_results_of_other_weights_are_refused(trained, tiny_model):
    with torch.no_grad():
        tiny_model.encoder.cls_token.add_(1e-3)
    tiny_model.save_pretrained(trained)
    refused(trained, "measured on other weights")


def test_what_is_no_checkpoint_of_lewm_is_refused(trained, tmp_path):
    refused(trained, "'lewm' is not a repository id", repo_id="lewm")
    refused(trained, "'bad' is not a repository id", dataset_id="bad")
    refused(trained, "'made up' is not a license identifier", license="made up")
    refused(trained, "'GPL 3' is not a license identifier", data_license="GPL 3")
    refused(trained, "is a world model itself", world_model="org/lewm")
    refused(tmp_path / "nowhere", "there is no folder", FileNotFoundError)
    (trained / "training.json").write_text("[1]")
    refused(trained, "training.json holds a list")
    config = json.loads((trained / "config.json").read_text())
    (trained / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    refused(trained, "model_type='vit'")


def test_a_folder_without_its_parts_is_refused(trained):
    (trained / "preprocessor_config.json").unlink()
    refused(trained, "no preprocessor_config.json", FileNotFoundError)


def test_the_card_of_a_converted_checkpoint_states_its_source(tmp_path, collected):
    torch.manual_seed(0)
    sizes = {"image": 56, "depth": 1, "heads": 2, "head_dim": 16, "mlp": 48, "hidden": 64}
    source = write_checkpoint(tmp_path / "published", PublishedLeWM(**sizes), original_config(**sizes))
    folder = tmp_path / "converted"
    convert(source, out=folder, dataset=collected, allow_unknown_weights=True)
    evaluate(
        LeWMModel.from_pretrained(folder), processor=LeWMImageProcessor.from_pretrained(folder), episodes=collected,
        protocol="paper", overrides=TINY_PROTOCOL, n=1, seeds=[1, 2], out=tmp_path / "evaluation",
    )  # fmt: skip
    text = write_card(folder, **GIVEN, results=[tmp_path / "evaluation"]).read_text()
    facts = json.loads((folder / "conversion.json").read_text())
    for fact in (
        facts["weights_sha256"], "**weights of no known release**", "has not been published", "two-room: 48 of 52 rows",
        "| `projector_hidden_size` | 64 | 2048 |",
    ):  # fmt: skip
        assert fact in text, fact
    check_card(text, "model")
    (folder / "README.md").unlink()
    for name in CONVERSION_FACTS:
        (folder / "conversion.json").write_text(json.dumps(without(facts, name)))
        refused(folder, f"conversion.json: {name}", results=[tmp_path / "evaluation"])


def test_a_data_set_without_all_its_files_gets_no_card(tmp_path, collected):
    folder = tmp_path / "set"
    shutil.copytree(collected, folder)
    before = (folder / "README.md").read_text()

    def refused(match):
        for action in (lambda: write_card(folder), lambda: push("org/set", dataset=folder, dry_run=True)):
            with pytest.raises(ValueError, match=match) as caught:
                action()
            assert "\n" not in str(caught.value)
        assert (folder / "README.md").read_text() == before

    (folder / "data/chunk-001/file-000.parquet").unlink()
    refused("lacks 1 of 2 test files, such as data/chunk-001/file-000.parquet")
    (folder / "data/chunk-001/file-001.parquet").unlink()
    refused("lacks all test files, but the description counts test episodes")


def test_a_data_set_card_is_measured_again(tmp_path, collected, online):
    folder = tmp_path / "set"
    shutil.copytree(collected, folder)
    before = (folder / "README.md").read_text()
    (folder / "README.md").write_text("lies")
    assert write_card(folder).read_text() == before
    check_card(before, "dataset")
    assert card_errors(before) == []
    description = json.loads((folder / "episodes.json").read_text())
    (folder / "episodes.json").write_text(json.dumps(without(description, "collector")))
    with pytest.raises(ValueError, match="would lack collector"):
        write_card(folder)
    with pytest.raises(ValueError, match="is a data set.*omit data_license"):
        write_card(folder, data_license="mit", license="mit", results=())


@pytest.mark.parametrize(
    ("text", "kind", "match"),
    [
        ("# no metadata", "model", "lacks license, library_name, pipeline_tag"),
        ("---\nlicense: mit\n---\n", "dataset", "lacks configs, task_categories"),
        ("---\nmodel-index:\n- results: 3\n---\n", "model", "invalid"),
        ("---\n- a\n---\n", "model", "invalid"),
    ],
)
def test_invalid_metadata_is_one_line(text, kind, match):
    with pytest.raises(ValueError, match=match) as caught:
        check_card(text, kind)
    assert "\n" not in str(caught.value)
