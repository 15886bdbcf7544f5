"""What the cards of data sets say about licenses is what their makers said."""

import json
import shutil

import pytest
import yaml

from lewm_cli import main
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.storage.lerobot_copy import write_lerobot
from lewm_hf.hub.push import push
from lewm_hf.tasks import registry

from ..importers import foreign

EASY = {"workers": 1, "test_fraction": 0.0}
OTHER = {"license": "other", "license_name": "lab-data", "license_link": "https://example.org/terms"}


def stated(folder) -> dict:
    """The license in a card's metadata, read as YAML."""
    metadata = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    return {key: value for key, value in metadata.items() if key.startswith("license")}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return foreign.write_lerobot(tmp_path_factory.mktemp("recording") / "arm", foreign.make_rows((4,) * 7), "v3.0")


@pytest.mark.parametrize("said", [{"license": "cc-by-nc-4.0"}, {"license": ["mit", "cc-by-4.0"]}, OTHER])
def test_an_import_keeps_the_license_of_its_source(said, recording, tmp_path):
    source = shutil.copytree(recording, tmp_path / "arm")
    (source / "README.md").write_text(f"---\n{yaml.safe_dump({**said, 'tags': ['LeRobot']})}---\n\n# An arm\n")
    out = import_dataset("lerobot", source, tmp_path / "out", **EASY)
    assert stated(out) == said
    assert stated(write_lerobot(out, tmp_path / "copy")) == said
    (upload,) = push("org/arm", dataset=out, dry_run=True).uploads
    assert "README.md" in dict(upload.files)


@pytest.mark.parametrize(
    "text", [None, "# An arm\n", "---\n- a\n---\n", "---\nlicense: 3\n---\n", "---\nlicense: [\n---\n"]
)
def test_where_nobody_said_anything_nothing_is_claimed_until_somebody_does(text, recording, tmp_path, capsys):
    source = shutil.copytree(recording, tmp_path / "arm")
    if text is not None:
        (source / "README.md").write_text(text)
    out = import_dataset("lerobot", source, tmp_path / "out", **EASY)
    assert stated(out) == {}
    for refused in (["push", "org/arm", "--dataset", str(out), "--dry-run"], ["card", str(out)]):
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert main(refused) == 2
        said = capsys.readouterr().err
        assert "lacks license: write it again with `lewm card --license ID`" in said and said.count("\n") == 1
        assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert (
        main(["card", str(out), "--license", "GPL 3"]) == 2 and "is not a license identifier" in capsys.readouterr().err
    )
    assert main(["card", str(out), "--license", "cc-by-4.0"]) == 0
    assert stated(out) == {"license": "cc-by-4.0"}
    assert main(["card", str(out)]) == 0 and stated(out) == {"license": "cc-by-4.0"}
    push("org/arm", dataset=out, dry_run=True)
    # It is no argument of the import, which is still found done.
    assert import_dataset("lerobot", source, out, **EASY) == out
    assert json.loads((out / "episodes.json").read_text())["license"] == "cc-by-4.0"


def test_episodes_of_other_peoples_environments_are_theirs(room_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))  # no trace of the new task afterwards
    assert stated(room_dir) == {"license": "apache-2.0"}
    out = tmp_path / "pole"
    sizes = "--episodes 2 --image-size 16 --max-steps 4 --workers 1"
    assert main(["collect", "CartPole-v1", *sizes.split(), "--out", str(out)]) == 0
    assert stated(out) == {}
