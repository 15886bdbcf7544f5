"""What `from_pretrained` says when a checkpoint is not what it should be, here or on the way from a Hub."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModel

from lewm_hf import LeWMConfig, LeWMModel, LeWMPlanner
from lewm_hf.cli import main
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.common.agent import load_agent
from lewm_hf.evaluation.common.inputs import open_decoder
from lewm_hf.hub.convert.released import released_config
from lewm_hf.hub.push import push
from lewm_hf.training.arguments import parse_recipe
from lewm_hf.training.starting_point import StartingPoint

from .fake_hub import Repo


def one_line(error, match, load, *arguments, **kwargs):
    with pytest.raises(error, match=match) as caught:
        load(*arguments, **kwargs)
    assert "\n" not in str(caught.value)


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_unconverted_repositories_name_the_converter(tmp_path, online):
    content = {"config.json": json.dumps(released_config(2)).encode(), "weights.pt": b"x"}
    online.repos["model", "quentinll/lewm-pusht"] = Repo("model", private=False)
    online.repos["model", "quentinll/lewm-pusht"].commit(content)
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "config.json").write_bytes(content["config.json"])
    for source in ("quentinll/lewm-pusht", str(tmp_path / "local")):
        for load in (LeWMModel.from_pretrained, LeWMPlanner.from_pretrained, LeWMConfig.from_pretrained, load_agent):
            one_line(ValueError, f"lewm convert {source} --out DIR", load, source)
        one_line(
            ValueError, f"Unrecognized model in {source}", AutoModel.from_pretrained, source
        )  # as docs/hub.md says


def test_a_corrupted_download_is_refused_and_can_be_fetched_again(online, model_folder, tiny_model):
    push("org/lewm", model=model_folder)
    online.corrupted.add("model.safetensors")
    one_line(ValueError, "org/lewm are damaged.*force_download=True", LeWMModel.from_pretrained, "org/lewm")
    online.corrupted.clear()
    one_line(ValueError, "damaged", LeWMPlanner.from_pretrained, "org/lewm")  # it stayed in the cache
    assert same(LeWMModel.from_pretrained("org/lewm", force_download=True), tiny_model)


def test_a_server_that_dies_half_way_leaves_nothing_wrong_behind(online, model_folder, tiny_model, monkeypatch):
    push("org/lewm", model=model_folder)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    online.cut["model.safetensors"] = 1000
    with pytest.raises(OSError, match="org/lewm"):
        LeWMModel.from_pretrained("org/lewm")
    online.cut.clear()
    assert same(LeWMModel.from_pretrained("org/lewm"), tiny_model)


def test_a_cache_serves_without_a_network_and_a_missing_one_says_so(online, model_folder, tiny_model, monkeypatch):
    push("org/lewm", model=model_folder)
    assert same(LeWMModel.from_pretrained("org/lewm"), tiny_model)
    LeWMPlanner.from_pretrained("org/lewm")
    asked = len(online.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(LeWMModel.from_pretrained("org/lewm"), tiny_model)
    LeWMPlanner.from_pretrained("org/lewm", samples=4, elites=2)
    with pytest.raises(OSError, match="couldn.t connect"):
        LeWMModel.from_pretrained("org/other")
    assert len(online.requests) == asked


def test_a_shown_agent_of_the_hub_searches_from_its_actor(online, tmp_path):
    repo = online.repos["model", "org/room"] = Repo("model", private=False)
    folder = Path(__file__).parents[2] / "model_cards" / "lewm-tworoom-mini"
    repo.commit({path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".safetensors")})
    assert main(["demo", "two_room", "--model", "org/room", "--pairs", "2", "--out", str(tmp_path / "demo")]) == 0
    result = json.loads((tmp_path / "demo" / "clean" / "results.json").read_text())
    assert result["model"]["source"] == "org/room" and result["planner"]["name"] == "actor-guided"


def test_a_data_set_is_known_by_its_commit_with_a_network_and_without(online, collected, tmp_path, monkeypatch):
    """By id and revision; without a network out of the cache that `huggingface_hub` has written itself."""
    repo = online.repos["dataset", "org/episodes"] = Repo("dataset", private=False)
    files = [path for path in collected.rglob("*") if path.is_file()]
    commit = repo.commit({path.relative_to(collected).as_posix(): path.read_bytes() for path in files})
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        asked = len(online.requests)
        for revision in (None, commit):
            episodes = load_episodes("org/episodes", "test", revision, cache_dir=tmp_path / "arrow")
            assert len(episodes) == 2 and episodes.name == "org/episodes"
            assert episodes.revision == pickle.loads(pickle.dumps(episodes)).revision == commit
        assert offline == (len(online.requests) == asked)
        one_line(FileNotFoundError, "cannot be fetched", load_episodes, "org/episodes", "test", "v2")
    assert load_episodes(collected, "test", cache_dir=tmp_path / "arrow").revision is None


@pytest.mark.parametrize("token", ["hf_wrong", False])
def test_a_private_checkpoint_needs_a_valid_token(online, model_folder, token):
    push("org/lewm", model=model_folder)
    with pytest.raises(OSError, match="401|hf auth login"):
        LeWMModel.from_pretrained("org/lewm", token=token)
    assert LeWMModel.from_pretrained("org/lewm", token="hf_valid") is not None


@pytest.mark.parametrize("kept", [0, 7, 100, -10])
def test_weights_cut_short_are_one_line(model_folder, kept):
    path = model_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    for load in (LeWMModel.from_pretrained, AutoModel.from_pretrained, LeWMPlanner.from_pretrained):
        one_line(ValueError, "checkpoint are damaged or cut short", load, model_folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"action_mean": [1.0]}, "action_mean has 1 entries, but action_dim=2"),
        ({"action_mean": None}, "go together"),
        ({"image_size": "28"}, "'image_size' expected int, got str"),
        ({"image_size": 30}, "image_size=30 is not a multiple of patch_size=14"),
        ({"encoder": "transformer"}, "encoder='transformer' is unknown"),
        ({"history_sise": 3}, "unknown field 'history_sise', the closest known one is 'history_size'"),
    ],
)
def test_a_config_that_contradicts_itself_is_one_line(model_folder, change, match):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | change))
    for load in (LeWMModel.from_pretrained, AutoModel.from_pretrained, LeWMPlanner.from_pretrained):
        named = "" if "encoder" in change else "config.json of .*checkpoint is invalid: .*"  # found while building
        one_line(ValueError, f"{named}{match}", load, model_folder)


def test_a_config_that_contradicts_the_weights_is_one_line(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"predictor_layers": 3}))
    one_line(ValueError, "missing_keys such as predictor.layers.2", LeWMModel.from_pretrained, model_folder)
    (model_folder / "config.json").write_text(json.dumps(config | {"image_size": 56}))
    one_line(ValueError, "mismatched_keys such as .*position_embedding", LeWMModel.from_pretrained, model_folder)
    model = LeWMModel.from_pretrained(model_folder, ignore_mismatched_sizes=True)
    assert model.encoder.position_embedding.shape[1] == 17


def test_a_missing_processor_is_one_line(model_folder):
    (model_folder / "preprocessor_config.json").unlink()
    one_line(OSError, "preprocessor_config.json", LeWMPlanner.from_pretrained, model_folder)
    one_line(FileNotFoundError, "holds no preprocessor_config.json: save its image", load_agent, model_folder)


def test_what_transformers_and_the_hub_add_to_a_config_is_no_unknown_field(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    added = {"auto_map": {}, "custom_pipelines": {}, "_commit_hash": "0", "torch_dtype": "float32", "id2label": {}}
    (model_folder / "config.json").write_text(json.dumps(config | added))
    assert LeWMModel.from_pretrained(model_folder).config.history_size == config["history_size"]
    again = LeWMConfig.from_dict(LeWMConfig(history_size=2).to_dict())
    assert again.history_size == 2


def test_a_processor_of_another_size_is_one_line(model_folder):
    path = model_folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace("28", "64"))
    for load in (LeWMPlanner.from_pretrained, load_agent):
        one_line(ValueError, "makes 64 pixels, but the model takes image_size=28", load, model_folder)


CHANGES = {
    "other sizes": {"image_size": 56},
    "unknown": {"history_sise": 3},
    "contradiction": {"action_dim": 3},
    "architecture": {"model_type": "vit", "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2},
}


def damage(folder, how):
    config = json.loads((folder / "config.json").read_text())
    if how == "cut":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    elif how == "processor":
        (folder / "preprocessor_config.json").unlink()
    elif how == "processor of another size":
        path = folder / "preprocessor_config.json"
        path.write_text(path.read_text().replace("28", "64"))
    elif how == "published":
        (folder / "config.json").write_text(json.dumps(released_config(2)))
    else:
        change = CHANGES[how]
        (folder / "config.json").write_text(json.dumps(config | change))


BROKEN = (
    "cut",
    "other sizes",
    "processor",
    "processor of another size",
    "unknown",
    "contradiction",
    "architecture",
    "published",
)


@pytest.mark.parametrize("how", BROKEN)
def test_every_command_refuses_it_in_one_line_and_writes_nothing(model_folder, collected, tmp_path, capfd, how):
    damage(model_folder, how)
    before = sorted(tmp_path.rglob("*"))
    text = {path: path.read_bytes() for path in before if path.is_file()}
    commands = (
        ["export", model_folder, "--format", "torchscript", "--out", tmp_path / "new"],
        ["eval", model_folder, "--env", "two_room", "--episodes", collected, "-n", "1", "--out", tmp_path / "new"],
        ["card", model_folder, "--repo-id", "a/b", "--license", "mit", "--data-license", "mit", "--dataset-id", "a/b",
         "--dataset-revision", "main"],
        ["push", "a/b", "--model", model_folder],
        ["convert", model_folder, "--out", tmp_path / "new", "--allow-unknown-weights"],
    )  # fmt: skip
    for command in commands:
        capfd.readouterr()
        assert main([str(part) for part in command]) == 2, command
        said = capfd.readouterr()
        assert said.err.count("\n") == 1 and not said.out, said
        assert said.err.startswith(f"lewm {command[0]}: ") and len(said.err) > 40
    assert sorted(tmp_path.rglob("*")) == before
    assert text == {path: path.read_bytes() for path in before if path.is_file()}


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path):
    """Libraries warn of every attempt, and advise at length."""
    settings = {
        "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    commands = [["eval", "org/none", "--env", "two_room"], ["health", "org/none", "--episodes", "org/neither"]]
    code = f"from lewm_hf.cli import main; print([main(words) for words in {commands!r}])"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True, timeout=240
    )
    assert run.stdout == "[2, 2]\n", run.stderr
    said = run.stderr.splitlines()
    assert len(said) == 2 and all(
        line.startswith(f"lewm {words[0]}: ") for line, words in zip(said, commands, strict=True)
    ), run.stderr
    assert said[-1].endswith(("network", "cached files")), run.stderr  # a whole sentence


def test_what_a_library_says_is_cut_after_its_first_sentence():
    for load in (load_agent, lambda source: open_decoder(source, None)):
        with pytest.raises(FileNotFoundError, match="org/none.*neither.*couldn't.* cached files$") as caught:
            load("org/none")
        assert "\n" not in str(caught.value)


def test_a_run_starts_from_a_checkpoint_of_the_hub_or_says_why_not(online, model_folder, tiny_model):
    push("org/lewm", model=model_folder)
    recipe, config = parse_recipe(
        ["--dataset", "d", "--output_dir", "o", "--max_steps", "1", "--init_from", "org/lewm"]
    )
    assert config.embed_dim == tiny_model.config.embed_dim
    start = StartingPoint.open(recipe.init_from, config)
    fresh = LeWMModel(config)
    start.fill(fresh)
    assert same(fresh, tiny_model)
    push("org/closed", model=model_folder)
    online.gated.add("org/closed")
    assert start.facts["revision"] == online.repos["model", "org/lewm"].branches["main"]
    for source, reason in (
        ("org/nothing", "not a local folder and is not a valid model identifier"),
        ("org/closed", "gated repo"),
    ):
        arguments = ["--dataset", "d", "--output_dir", "o", "--max_steps", "1", "--init_from", source]
        one_line(FileNotFoundError, f"init_from={source} is not a checkpoint.*{reason}", parse_recipe, arguments)
