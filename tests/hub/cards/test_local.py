"""Cards of checkpoints that are not on the Hub: every command in them does what it says, from the same folder."""

import json
import re
import shlex
import shutil

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from lewm_hf import LeWMImageProcessor, surprise
from lewm_hf.cli import main
from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.success.protocol import load_protocol, split_overrides
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.evaluation.surprise.result import SurpriseResult
from lewm_hf.evaluation.surprise.run import SurpriseAnalysis
from lewm_hf.hub.cards.collected import collect_command
from lewm_hf.hub.cards.write import write_card
from lewm_hf.hub.push import push
from lewm_hf.planning import load_planner
from lewm_hf.training.arguments import parse_recipe, recipe_values
from lewm_hf.training.facts import content_fingerprint, training_facts

from ..fake_hub import card_errors
from .test_write import GIVEN, TINY_PROTOCOL

LICENSES = {"license": "apache-2.0", "data_license": "cc-by-4.0"}
SHORT_PLANS = {name: value for name, value in TINY_PROTOCOL.items() if name != "goal_offset"}


@pytest.fixture
def home(furnished, tmp_path, monkeypatch):
    """A folder with episodes, a checkpoint that was trained on them, and evaluations of each kind."""
    home = tmp_path / "home"
    shutil.copytree(furnished, home)  # with its moments of change
    monkeypatch.chdir(home)
    return home


@pytest.fixture(scope="module")
def furnished(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("furnished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        furnish(folder, tiny_checkpoint)
    return folder


def furnish(folder, checkpoint):
    """All paths are relative: it works wherever it is copied."""
    collect("two_room", "demo/episodes", 4, image_size=28, test_fraction=0.5, max_steps=12, noise=3.0, workers=1)
    train = load_episodes("demo/episodes", "train")
    shutil.copytree(checkpoint, "runs/best")
    recipe, config = parse_recipe(
        ["--dataset", "demo/episodes", "--output_dir", "runs", "--max_steps", "700", "--image_size", "28"]
    )
    progress = {
        "step": 700, "seconds": 1234.5, "env_id": train.env_id, "train_fingerprint": content_fingerprint(train),
        "env_kwargs": train.env_kwargs, "train_windows": 8000, "num_processes": 2, "mixed_precision": "bf16",
    }  # fmt: skip
    facts = training_facts(recipe_values(recipe, config), progress, 125.0, 43_038, torch.device("cpu"))
    (folder / "runs" / "best" / "training.json").write_text(json.dumps(facts))
    of_protocol, of_planner = split_overrides(TINY_PROTOCOL | {"elites": 3})
    mine = load_protocol("paper", of_protocol).to_dict() | {"name": "mine", "version": 7}
    ours = load_planner("paper", of_planner).to_dict() | {"name": "ours", "version": 7}
    for content in (mine, ours):
        del content["overrides"]
        (folder / f"{content['name']}.yaml").write_text(yaml.safe_dump(content))
    kinds = {
        "drawn": {"episodes": "demo/episodes", "protocol": "paper", "overrides": TINY_PROTOCOL, "n": 2, "seeds": [1]},
        "shipped": {"protocol": "clean", "overrides": SHORT_PLANS, "n": 1},
        "given": {
            "protocol": "paper", "overrides": TINY_PROTOCOL,
            "manifest": "runs/best/evaluation/drawn/manifests/seed-1.json",
        },
        "own": {"episodes": "demo/episodes", "protocol": "mine.yaml", "planner": "ours.yaml", "n": 1, "seeds": [3]},
    }  # fmt: skip
    for name, arguments in kinds.items():
        evaluate("runs/best", **arguments, out=f"runs/best/evaluation/{name}", videos=0)


def commands(text):
    return [shlex.split(block.split("\n```")[0]) for block in text.split("```bash\n")[1:]]


def test_every_command_gives_the_same_again(home):
    text = write_card("runs/best", **LICENSES, local=True).read_text()
    installing, collecting, *measuring = commands(text)
    assert installing == ["pip", "install", "lewm-hf[tworoom]"]
    assert len(measuring) == 4 and all(words[:3] == ["lewm", "eval", "runs/best"] for words in measuring)
    results = {json.loads(path.read_text())["rows_hash"] for path in home.glob("runs/best/evaluation/*/results.json")}
    again = set()
    for number, words in enumerate(measuring):
        assert main([*words[1:], "--out", f"again/{number}"]) == 0
        again.add(json.loads((home / "again" / str(number) / "results.json").read_text())["rows_hash"])
    assert again == results and len(results) >= 3
    assert collecting[:3] == ["lewm", "collect", "two_room"] and collecting[-1] == "demo/episodes"
    train = load_episodes("demo/episodes", "train")
    shutil.rmtree("demo")
    assert main([*collecting[1:], "--workers", "1"]) == 0
    assert content_fingerprint(load_episodes("demo/episodes", "train")) == content_fingerprint(train)
    # And the card says where pairs and protocols come from.
    for words in (
        "Pairs drawn from the train episodes of `demo/episodes`",
        "Pairs that ship with lewm-hf; no data set was opened",
        "Pairs of manifests that were given", "This needs the manifests", "This needs the file `mine.yaml`",
        "the file `ours.yaml`",
        "--protocol mine.yaml", "--manifest runs/best/evaluation/given/manifests/seed-1.json",
        'from_pretrained("runs/best")', "Not on the Hub",
    ):  # fmt: skip
        assert words in text, words
    assert "org/lewm" not in text and "org/two" not in text and "huggingface.co" not in text and str(home) not in text


def test_the_metadata_names_no_repository(home):
    text = write_card("runs/best", **LICENSES, local=True).read_text()
    data = ModelCard(text).data
    assert data.datasets is None and data.model_name == "best" and card_errors(text) == []
    assert all("/" not in entry.dataset_type and entry.dataset_revision is None for entry in data.eval_results)
    assert not (home / "runs" / "best" / ".eval_results").exists()
    names = {name for name, _ in push("org/best", model="runs/best", dry_run=True).uploads[0].files}
    assert {"collection.json", "README.md", "evaluation/given/manifests/seed-1.json"} < names
    # A card for the Hub beside it leaves a list for leaderboards, which a local card takes away again.
    write_card("runs/best", **GIVEN)
    assert (home / "runs" / "best" / ".eval_results" / "planning.yaml").exists()
    assert write_card("runs/best", **LICENSES, local=True).read_text() == text
    assert not (home / "runs" / "best" / ".eval_results" / "planning.yaml").exists()
    assert write_card(home / "runs" / "best", **LICENSES, local=True).read_text().count(str(home)) == 0


def test_the_card_needs_the_episodes_only_once(home):
    def refused(match, error=ValueError, **given):
        with pytest.raises(error, match=match) as caught:
            write_card("runs/best", **(LICENSES | {"local": True} | given))
        assert "\n" not in str(caught.value) and not (home / "runs" / "best" / "README.md").exists()

    shutil.move("demo/episodes", "elsewhere")
    refused("would lack --episodes")
    collect("two_room", "others", 2, image_size=28, test_fraction=0.5, max_steps=12, workers=1)
    refused("holds other episodes than .* was trained on", episodes="others")
    refused("no data set nowhere", FileNotFoundError, episodes="nowhere")
    refused("--repo-id and --local contradict", repo_id="org/name")
    refused("--episodes is for --local", local=False, episodes="elsewhere", **GIVEN)
    text = write_card("runs/best", **LICENSES, local=True, episodes="elsewhere").read_text()
    shutil.rmtree("elsewhere")
    assert write_card("runs/best", **LICENSES, local=True).read_text() == text
    kept = home / "runs" / "best" / "collection.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"fingerprint": "0" * 64}))
    (home / "runs" / "best" / "README.md").unlink()
    refused("is about other episodes")


def test_notes_of_people_are_taken_over(home):
    (home / "runs" / "best" / "NOTES.md").write_text("The recipe was chosen on 20 further pairs.\n")
    flags = [part for name, value in LICENSES.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert main(["card", "runs/best", "--local", "--episodes", "demo/episodes", *flags]) == 0
    text = (home / "runs" / "best" / "README.md").read_text()
    assert "ran on the same pairs.\n\nThe recipe was chosen on 20 further pairs.\n\n## Use" in text


def test_analyses_that_lie_beside_the_evaluations_are_shown_and_pushed(home):
    measured = home / "runs" / "best" / "evaluation" / "surprise"
    surprise("runs/best", env="two_room", env_kwargs={"image_size": 28}, trajectories=3, steps=40, out=measured)
    text = write_card("runs/best", **LICENSES, local=True).read_text()
    shown = text.partition(f"### {SurpriseAnalysis.title}\n")[2]
    (picture,) = re.findall(r"\A\n!\[.*\]\((.*)\)\n", shown)
    assert (home / "runs" / "best" / picture).is_file()
    result = SurpriseResult.from_json(json.loads((measured / "surprise.json").read_text()))
    assert shown.partition("```text\n")[2].startswith(SurpriseAnalysis.text(result) + "\n```")
    uploads = push("org/tiny", model="runs/best", dry_run=True).uploads
    assert {"evaluation/surprise/surprise.json", picture} <= {name for upload in uploads for name, _ in upload.files}

    content = json.loads((measured / "surprise.json").read_text())
    content["model"]["fingerprint"] = "0" * 64
    (measured / "surprise.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="surprise.json was measured on other weights than those of runs/best"):
        write_card("runs/best", **LICENSES, local=True)


def usage(text: str) -> str:
    return text.split("```python\n")[1].split("\n```")[0]


def test_the_six_lines_run_as_they_stand(home):
    text = write_card("runs/best", **LICENSES, local=True).read_text()
    assert len([line for line in usage(text).splitlines() if line and not line.startswith("import")]) <= 6
    names: dict = {}
    exec(compile(usage(text), "card", "exec"), names)
    assert names["plan"]["actions"].shape == (25, 2) and "(25, 2) float32" in usage(text)
    assert names["env"].unwrapped.image_size == 28


def test_a_reader_sees_the_agent_then_one_sentence_one_table_and_the_use(home):
    """And details, with everything that has a hash, come last."""
    videos = home / "runs" / "best" / "evaluation" / "drawn" / "videos"
    videos.mkdir()
    for name in ("01-missed-seed1-episode0-frame1.gif", "02-reached-seed1-episode1-frame1.gif"):
        (videos / name).write_bytes(b"GIF89a")
    text = write_card("runs/best", **LICENSES, local=True).read_text().partition("\n---\n")[2]
    film, sentence, table, note, use = text.strip().split("\n\n")[1:6]
    assert film.endswith("(evaluation/drawn/videos/02-reached-seed1-episode1-frame1.gif)")
    assert sentence.startswith("A [LeWorldModel]") and sentence.count(". ") == 0
    assert table.startswith("| protocol | planner | success |") and note.startswith("Success: ") and use == "## Use"
    before, _, details = text.partition("\n## Details\n")
    assert not re.search(r"[0-9a-f]{12}", before)
    assert "SHA-256" in details and "hash `" in details
    assert "@article{maes2026leworldmodel" in before and "arXiv:2603.19312" in before
    uploaded = {name for name, _ in push("org/best", model="runs/best", dry_run=True).uploads[0].files}
    assert "evaluation/drawn/videos/02-reached-seed1-episode1-frame1.gif" in uploaded
    (home / "runs" / "best" / "assets").mkdir()
    (home / "runs" / "best" / "assets" / "agent.gif").write_bytes(b"GIF89a")
    assert "](assets/agent.gif)" in write_card("runs/best", **LICENSES, local=True).read_text()


def test_a_model_of_recordings_has_a_card_and_can_be_pushed(home):
    """Imported episodes without an environment: nothing to evaluate in, and the card says so."""
    path = home / "runs" / "best" / "training.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"env_id": None, "env_kwargs": {}}))
    collection = {"env": None, "env_kwargs": {}, "collector": {"source": "robot.h5"}, "versions": {}}
    kept = home / "runs" / "best" / "collection.json"
    kept.write_text(json.dumps(collection | {"fingerprint": facts["train_fingerprint"]}))
    shutil.rmtree(home / "runs" / "best" / "evaluation")
    for given in (LICENSES | {"local": True}, GIVEN):
        text = write_card("runs/best", **given).read_text()
        assert "**Not evaluated.**" in text and "recordings without an environment" in text
        assert "None" not in text and "lewm eval" not in text and card_errors(text) == []
        assert not ModelCard(text).data.eval_results
        (upload,) = push("org/best", model="runs/best", dry_run=True).uploads
        assert "README.md" in dict(upload.files)
        if "local" in given:
            for cameras in (["top", "wrist"], None):  # side by side; or one alone
                LeWMImageProcessor(image_size=28, cameras=cameras).save_pretrained("runs/best")
                names: dict = {}
                exec(compile(usage(write_card("runs/best", **given).read_text()), "card", "exec"), names)
                assert names["plan"]["actions"].shape == (25, 2)
    # Where there is an environment, a card without a measurement is refused as before.
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="would lack .*--results"):
        write_card("runs/best", **LICENSES, local=True)


def test_collections_that_the_command_line_cannot_repeat(home, collected):
    description = json.loads((collected / "episodes.json").read_text())  # stop_at_success=False
    assert collect_command(description, "x") is None
    assert collect_command(description | {"env": None, "collector": {"source": "x.h5"}}, "x") is None


def test_the_command_of_a_collection_that_keeps_every_fifth_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"image_size": 16, "max_steps": 20, "every": 5, "seed": 3, "workers": 1}
    known = load_episodes(collect("two_room", "first", 4, **given))
    command = collect_command({**known.description, "every": known.every}, "again")
    assert "--every 5" in command
    assert main([*shlex.split(command)[1:], "--workers", "1"]) in (0, None)
    assert content_fingerprint(load_episodes("again")) == content_fingerprint(known)
