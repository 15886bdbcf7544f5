"""Uploads against a Hub on this machine: what goes, what stays, what happens when it goes wrong."""

import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from earlier import as_before
from huggingface_hub import HfApi, snapshot_download

from lewm_hf import LeWMImageProcessor, LeWMModel, LeWMPlanner
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.storage.lerobot_copy import write_lerobot
from lewm_hf.hub.push import push

SPLITS = ("train", "test")
MODEL_FILES = {"README.md", "config.json", "preprocessor_config.json", "model.safetensors", "training.json"}
PARQUET = {f"data/chunk-{split:03d}/file-{number:03d}.parquet" for split in (0, 1) for number in (0, 1)}
META = {
    "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet",
}  # fmt: skip
DATA_FILES = {"README.md", "episodes.json"} | PARQUET | META
GIT = {".gitattributes"}


def test_a_dry_run_lists_what_would_go_and_contacts_nobody(hub, model_folder, episode_folder):
    done = push("org/lewm", model=model_folder, dataset=episode_folder, dry_run=True)
    assert [{name for name, _ in upload.files} for upload in done.uploads] == [MODEL_FILES, DATA_FILES]
    assert [upload.repo_id for upload in done.uploads] == ["org/lewm", "org/lewm-episodes"]
    assert {name for name, _ in done.uploads[0].left} == {
        "metrics.jsonl", "logs/events.out.tfevents.1", "state/optimizer.bin", "state/random_states_0.pkl", ".hidden",
    }  # fmt: skip
    sizes = dict(done.uploads[0].files)
    assert sizes["model.safetensors"] == (model_folder / "model.safetensors").stat().st_size
    for word in ("model.safetensors", "stays here: 5 files", "dry run"):
        assert word in done.summary()
    assert not hub.requests and not hub.repos


def test_uploads_are_private_and_hold_the_same_bytes(online, model_folder, episode_folder):
    done = push("org/lewm", model=model_folder, dataset=episode_folder)
    assert len(done.urls) == 2
    for kind, repo_id, folder, names in (
        ("model", "org/lewm", model_folder, MODEL_FILES),
        ("dataset", "org/lewm-episodes", episode_folder, DATA_FILES),
    ):
        assert online.repos[kind, repo_id].private
        files = online.files(kind, repo_id)
        assert files.keys() == names | GIT
        for name in names:
            assert files[name] == (folder / name).read_bytes()


def test_paths_of_this_machine_stay_here(online, model_folder, tmp_path):
    secret = tmp_path / "home of anna" / "episodes"
    facts = {"recipe": {"dataset": str(secret), "dataset_revision": None}, "env_id": "lewm/TwoRoom-v0"}
    (model_folder / "training.json").write_text(json.dumps(facts, indent=2))
    result = model_folder / "evaluation" / "clean" / "results.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"model": {"source": str(model_folder)}, "dataset": {"source": "org/two-room"}}))
    (model_folder / "recipe.yaml").write_text(f"dataset: {secret}\nseed: 1\n")
    before = {path: path.read_bytes() for path in model_folder.rglob("*") if path.is_file()}
    said = push("org/lewm", model=model_folder, include=["recipe.yaml"], dry_run=True).summary()
    for line in ("training.json  ", f"{secret} goes as episodes", f"{model_folder} goes as {model_folder.name}"):
        assert line in said
    assert said.count("without paths of this machine") == 3
    push("org/lewm", model=model_folder, include=["recipe.yaml"])
    with pytest.raises(ValueError, match="--include recipes.yaml matches no file of .*checkpoint: give names"):
        push("org/lewm", model=model_folder, include=["recipe.yaml", "recipes.yaml"], dry_run=True)
    files = online.files("model", "org/lewm")
    assert all(str(tmp_path).encode() not in content for content in files.values())
    expected = facts | {"recipe": {"dataset": "episodes", "dataset_revision": None}}
    assert files["training.json"].decode() == json.dumps(expected, indent=2)
    assert json.loads(files["evaluation/clean/results.json"])["dataset"] == {"source": "org/two-room"}
    assert files["recipe.yaml"] == b"dataset: episodes\nseed: 1\n"
    assert files["model.safetensors"] == (model_folder / "model.safetensors").read_bytes()
    assert before == {path: path.read_bytes() for path in model_folder.rglob("*") if path.is_file()}


def test_more_goes_only_when_asked_for_and_public_only_with_leave(online, model_folder):
    push("org/lewm", model=model_folder, include=["metrics.jsonl", "state/*"], public=True)
    assert not online.repos["model", "org/lewm"].private
    expected = MODEL_FILES | GIT | {"metrics.jsonl", "state/optimizer.bin", "state/random_states_0.pkl"}
    assert online.files("model", "org/lewm").keys() == expected
    with pytest.raises(ValueError, match="exists and is public"):
        push("org/lewm", model=model_folder)


def test_a_checkpoint_in_shards_goes_whole(online, model_folder, tiny_model):
    (model_folder / "model.safetensors").unlink()
    tiny_model.save_pretrained(model_folder, max_shard_size="40KB")
    index = json.loads((model_folder / "model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) > 2
    (model_folder / "model-00001-of-00099.safetensors").write_bytes(b"of an earlier save")
    push("org/lewm", model=model_folder)
    expected = MODEL_FILES - {"model.safetensors"} | {"model.safetensors.index.json"} | shards | GIT
    assert online.files("model", "org/lewm").keys() == expected
    loaded = LeWMModel.from_pretrained("org/lewm").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in tiny_model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("model-00009-of-00009.safetensors", "lacks the shard model-00009-of-00009"),
        ("../elsewhere.safetensors", "which is not a shard beside it"),
        ("/etc/hostname", "which is not a shard beside it"),
        ("a\nb.safetensors", "which is not a shard beside it"),
    ],
)
def test_an_index_that_names_something_else_is_refused(model_folder, name, match):
    (model_folder / "model.safetensors").unlink()
    (model_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"encoder": name}}))
    with pytest.raises((ValueError, FileNotFoundError), match=match) as caught:
        push("org/lewm", model=model_folder, dry_run=True)
    assert "\n" not in str(caught.value)


def test_links_go_only_where_they_stay_inside(online, model_folder, episode_folder, tmp_path):
    """A folder that came from elsewhere may hold a link to a key; links within it are files like others."""
    secret = tmp_path / "key.json"
    secret.write_text('{"token": "hf_secret"}')
    (model_folder / "evaluation").mkdir()
    (episode_folder / "assets").mkdir()
    (model_folder / "kept.json").write_text('{"kind": "probe"}')
    (model_folder / "evaluation" / "probe.json").symlink_to("../kept.json")
    push("org/lewm", model=model_folder)
    assert online.files("model", "org/lewm")["evaluation/probe.json"] == b'{"kind": "probe"}'
    before = dict(online.files("model", "org/lewm"))
    for folder, place, kwargs in (
        (model_folder, "evaluation/health.json", {"model": model_folder}),
        (model_folder, "notes.txt", {"model": model_folder, "include": ["notes.txt"]}),
        (episode_folder, "assets/more.json", {"dataset": episode_folder}),
    ):
        (folder / place).symlink_to(secret)
        with pytest.raises(ValueError, match="is a link to .*key.json, outside of the folder") as caught:
            push("org/lewm", **kwargs)
        assert "\n" not in str(caught.value)
        (folder / place).unlink()
    assert online.files("model", "org/lewm") == before
    # What stays at home anyway may be a link to anywhere.
    (model_folder / "notes.txt").symlink_to(secret)
    push("org/lewm", model=model_folder, dry_run=True)


def test_a_branch_can_be_named(online, model_folder):
    push("org/lewm", model=model_folder)
    (model_folder / "README.md").write_text((model_folder / "README.md").read_text() + "\nmore\n")
    push("org/lewm", model=model_folder, revision="next")
    assert b"more" in online.files("model", "org/lewm", "next")["README.md"]
    assert b"more" not in online.files("model", "org/lewm", "main")["README.md"]


def test_a_lerobot_data_set_is_tagged_with_its_version(online, collected, tmp_path):
    folder = write_lerobot(collected, tmp_path / "lerobot")
    for _ in range(2):  # the tag moves along
        push("org/set", dataset=folder)
        repo = online.repos["dataset", "org/set"]
        assert repo.tags == {"v3.0": repo.branches["main"]}
        (folder / "README.md").write_text((folder / "README.md").read_text() + "\nMore.\n")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert online.files("dataset", "org/set").keys() == names | GIT
    assert {"meta/info.json", "meta/episodes/chunk-000/file-000.parquet", "data/chunk-001/file-000.parquet"} <= names


def test_an_interrupted_upload_continues_where_it_stopped(online, episode_folder):
    online.uploads_left = 1
    with pytest.raises(OSError, match="org/episodes was not uploaded .*upload refused") as caught:
        push("org/episodes", dataset=episode_folder)
    assert "\n" not in str(caught.value)
    assert len(online.blobs) == 1
    assert online.files("dataset", "org/episodes").keys() == GIT  # no half data set
    online.uploads_left, online.requests[:] = None, []
    push("org/episodes", dataset=episode_folder)
    assert online.files("dataset", "org/episodes").keys() == DATA_FILES | GIT
    assert sum(line.startswith("PUT /lfs/") for line in online.requests) == len(PARQUET) + 2 - 1


def test_a_server_that_is_gone_is_one_line(online, model_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(OSError, match="org/lewm was not uploaded .*run the command again") as caught:
        push("org/lewm", model=model_folder)
    assert "\n" not in str(caught.value)


def test_a_refused_token_is_one_line(online, model_folder, monkeypatch):
    for token in ("hf_wrong", False):
        with pytest.raises(OSError, match="org/lewm was not uploaded .*hf auth login") as caught:
            push("org/lewm", model=model_folder, token=token)
        assert "\n" not in str(caught.value)
    assert not online.repos


def test_the_command_itself_says_what_went_and_what_went_wrong_and_no_more(hub, model_folder, tmp_path):
    settings = {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip

    command = ["push", "org/lewm", "--model", str(model_folder)]
    code = (
        f"import os, sys; from lewm_hf.cli import main; os.environ['HF_TOKEN'] = 'hf_wrong'; wrong = main({command})\n"
        "print('---', wrong, flush=True); print('---', file=sys.stderr, flush=True)\n"
        f"os.environ['HF_TOKEN'] = 'hf_valid'; sys.exit(main({command}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True, timeout=240
    )
    (out, uploaded), (refused, said) = run.stdout.split("--- 2\n"), run.stderr.split("---\n")
    assert not out and refused.startswith("lewm push: model org/lewm was not uploaded"), run.stderr
    assert refused.count("\n") == 1, refused
    assert run.returncode == 0, run.stderr
    assert f"uploaded: {hub.url}/org/lewm/commit/" in uploaded and "HTTP" not in said
    assert hub.repos["model", "org/lewm"].private and hub.files("model", "org/lewm").keys() == MODEL_FILES | GIT


def test_incomplete_and_damaged_folders_are_refused_before_anything_is_sent(online, model_folder, episode_folder):
    def refused(match, error=ValueError, repo_id="org/lewm", **folders):
        with pytest.raises(error, match=match) as caught:
            push(repo_id, **folders)
        assert "\n" not in str(caught.value)

    refused("nothing to push")
    refused("no folder", FileNotFoundError, model=model_folder / "nowhere")
    refused("not a repository id", repo_id="a/b/c", model=model_folder)
    # The data set is checked before the model goes.
    (episode_folder / "episodes.json").unlink()
    (episode_folder / "meta/info.json").unlink()
    refused("episodes has no episodes.json", FileNotFoundError, model=model_folder, dataset=episode_folder)
    processor = (model_folder / "preprocessor_config.json").read_bytes()
    (model_folder / "preprocessor_config.json").unlink()
    refused("no preprocessor_config.json: save the image processor", FileNotFoundError, model=model_folder)
    (model_folder / "preprocessor_config.json").write_bytes(processor)
    weights = (model_folder / "model.safetensors").read_bytes()
    (model_folder / "model.safetensors").write_bytes(weights[:-100])
    refused("weights of .*checkpoint are damaged or cut short", model=model_folder)
    (model_folder / "model.safetensors").write_bytes(weights)
    config = (model_folder / "config.json").read_text()
    for change, match in (
        ({"model_type": "vit"}, "model_type='vit': only world models and their decoders"),
        ({"predictor_layers": 3}, "does not hold the tensors of its config"),
        ({"image_size": 56}, "does not hold the tensors of its config"),
        ({"history_sise": 3}, "unknown field 'history_sise', the closest known one is 'history_size'"),
        ({"action_dim": 3}, "action_mean has 2 entries, but action_dim=3"),
    ):
        (model_folder / "config.json").write_text(json.dumps(json.loads(config) | change))
        refused(match, model=model_folder)
    (model_folder / "config.json").write_text(config)
    (model_folder / "preprocessor_config.json").write_bytes(processor.replace(b"28", b"64"))
    refused("makes 64 pixels, but the model takes image_size=28", model=model_folder)
    (model_folder / "preprocessor_config.json").write_bytes(b"{")
    refused("preprocessor_config.json is not valid JSON", model=model_folder)
    (model_folder / "preprocessor_config.json").write_bytes(processor)
    (model_folder / "training.json").write_text("{")
    refused("training.json is damaged", model=model_folder)
    (model_folder / "training.json").write_text("{}")
    card = (model_folder / "README.md").read_text()
    (model_folder / "README.md").write_text("# no metadata\n")
    refused("card's metadata lacks license", model=model_folder)
    (model_folder / "README.md").write_text("---\nlicense: [\n---\n")
    refused("card's metadata is invalid", model=model_folder)
    (model_folder / "README.md").unlink()
    refused("no README.md: write its card with `lewm card`", FileNotFoundError, model=model_folder)
    assert not online.requests
    # What only the Hub's own validation finds.
    (model_folder / "README.md").write_text(card.replace("name: TwoRoom", "name: ''"))
    refused("the Hub refuses the card .*dataset.name", model=model_folder)
    assert not online.repos


def test_up_and_down_again(online, model_folder, tiny_model):
    """Our push, then the libraries' own download; and the libraries' own push, then theirs."""
    push("org/ours", model=model_folder)
    sha = online.repos["model", "org/ours"].branches["main"]
    tiny_model.push_to_hub("org/theirs", private=True)
    LeWMImageProcessor(image_size=28).push_to_hub("org/theirs")
    pixels = torch.rand(1, 1, 3, 28, 28)
    for repo_id in ("org/ours", "org/theirs"):
        model = LeWMModel.from_pretrained(repo_id)
        assert torch.equal(model.encode(pixels), tiny_model.encode(pixels))
        planner = LeWMPlanner.from_pretrained(repo_id, samples=4, iterations=1, elites=2)
        assert planner.image_processor.image_size == 28
    with torch.no_grad():
        tiny_model.encoder.cls_token.add_(1)
    tiny_model.push_to_hub("org/ours")
    assert not torch.equal(LeWMModel.from_pretrained("org/ours").encode(pixels), model.encode(pixels))
    pinned = LeWMModel.from_pretrained("org/ours", revision=sha)
    assert torch.equal(pinned.encode(pixels), model.encode(pixels))
    assert HfApi().repo_info("org/ours").private
    assert snapshot_download("org/ours", revision=sha).endswith(sha)


def test_episodes_come_back_from_the_hub(online, collected, tmp_path):
    push("org/two-room", dataset=collected)
    cache = tmp_path / "datasets"
    for split in SPLITS:
        here = load_episodes(collected, split, cache_dir=cache)
        there = load_episodes("org/two-room", split, cache_dir=cache)
        np.testing.assert_array_equal(there.actions, here.actions)
        np.testing.assert_array_equal(there.frames(range(5)), here.frames(range(5)))
        assert there.env_id == "lewm/TwoRoom-v0"
    plain = datasets.load_dataset("org/two-room", cache_dir=cache)
    assert {split: len(rows) for split, rows in plain.items()} == {"train": 26, "test": 26}
    streamed = next(iter(datasets.load_dataset("org/two-room", split="test", streaming=True)))
    assert streamed["observation.image"].size == (28, 28)
    plain["test"].push_to_hub("org/again", private=True)
    again = datasets.load_dataset("org/again", split="test", cache_dir=cache)
    assert again["action"][3] == plain["test"]["action"][3]
    with pytest.raises(FileNotFoundError, match="org/nothing"):
        load_episodes("org/nothing")


def test_a_collected_data_set_is_tagged_for_lerobot(online, episode_folder):
    push("org/episodes", dataset=episode_folder)
    assert set(online.repos["dataset", "org/episodes"].tags) == {"v3.0"}
    assert "- LeRobot\n" in online.files("dataset", "org/episodes")["README.md"].decode()
    for split in SPLITS:
        there, here = load_episodes("org/episodes", split), load_episodes(episode_folder, split)
        np.testing.assert_array_equal(there.frames(range(there.num_rows)), here.frames(range(here.num_rows)))
    # Nothing is said of a folder that lerobot cannot open.
    (episode_folder / "meta/info.json").rename(episode_folder / "info")
    with pytest.raises(ValueError, match=r"has the tag LeRobot, but there is no meta/info\.json"):
        push("org/other", dataset=episode_folder)
    (episode_folder / "info").rename(episode_folder / "meta/info.json")
    info = json.loads((episode_folder / "meta/info.json").read_text())
    (episode_folder / "meta/info.json").write_text(json.dumps({**info, "total_frames": 7}))
    with pytest.raises(ValueError, match="restore the folder meta"):
        push("org/other", dataset=episode_folder)


def test_what_an_earlier_version_collected_goes_as_a_copy_that_lerobot_opens(online, episode_folder):
    as_before(episode_folder)
    push("org/before", dataset=episode_folder)
    assert not online.repos["dataset", "org/before"].tags
    assert "LeRobot" not in online.files("dataset", "org/before")["README.md"].decode()
    push("org/episodes", dataset=episode_folder, lerobot=True)
    files = online.files("dataset", "org/episodes")
    assert json.loads(files["meta/info.json"])["splits"] == {"train": "0:2", "test": "2:4"}
    assert {"meta/tasks.parquet", "meta/stats.json", "meta/episodes/chunk-000/file-000.parquet"} <= files.keys()
    assert not any(name.startswith("data/train") for name in files) and "episodes.json" not in files
    assert set(online.repos["dataset", "org/episodes"].tags) == {"v3.0"}
    for split in ("train", "test"):
        there, here = load_episodes("org/episodes", split), load_episodes(episode_folder, split)
        np.testing.assert_array_equal(there.actions, here.actions)
        np.testing.assert_array_equal(there.frames(range(there.num_rows)), here.frames(range(here.num_rows)))
    with pytest.raises(ValueError, match="--lerobot is for data sets: add --dataset DIR"):
        push("org/model", model=episode_folder, lerobot=True)
