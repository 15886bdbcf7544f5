"""The checkpoints of `model_cards/`: what lies there is what a Hub repository would hold, and could go there now."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from lewm_hf.data.local_paths import SUFFIXES, clean_text
from lewm_hf.hub.push import push

from .fake_hub import card_errors

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "model_cards").glob("*/model.safetensors"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_shipped_checkpoint_could_be_pushed_as_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # places within the repository are none of this machine's
    (upload,) = push(f"org/{folder.name}", model=folder, dry_run=True).uploads
    assert upload.paths == {}
    for path in folder.rglob("*"):
        if path.suffix in SUFFIXES:
            assert clean_text(path.read_text(encoding="utf-8"), path.suffix)[1] == {}, path
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert card_errors(text) == []
    stated = {entry.metric_value for entry in ModelCard(text).data.eval_results if entry.metric_type == "success_rate"}
    for path in folder.glob("evaluation/*/results.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert round(result["success"]["rate"], 4) in stated, path
