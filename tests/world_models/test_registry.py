"""A world model of another package is known by its entry point alone: to recipes and to everything that loads."""

from pathlib import Path

import pytest
import torch

from lewm_hf import LeWMImageProcessor
from lewm_hf.evaluation.common.agent import load_agent
from lewm_hf.training.arguments import parse_recipe, recipe_values
from lewm_hf.world_models.registry import BUILT_IN, find_world_model

SOURCE = (Path(__file__).parent / "patch_world.py").read_text()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with one file and an entry point, as pip would leave it."""
    site = tmp_path / "site"
    (site / "their_worlds-1.0.dist-info").mkdir(parents=True)
    (site / "their_worlds.py").write_text(SOURCE.replace("patch_world", "their_world"))
    (site / "their_worlds-1.0.dist-info" / "METADATA").write_text("Name: their-worlds\nVersion: 1.0\n")
    (site / "their_worlds-1.0.dist-info" / "entry_points.txt").write_text(
        "[lewm_hf.world_models]\ntheir_world = their_worlds\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return site


def test_by_entry_point(installed, tmp_path):
    recipe, config = parse_recipe(
        ["--model_type=their_world", "--width=9", "--history_size", "2", "--dataset=d", "--output_dir=o"]
    )
    assert type(config).__module__ == "their_worlds" and (config.width, config.history_size) == (9, 2)
    assert recipe_values(recipe, config)["width"] == 9
    with pytest.raises(ValueError, match="unknown recipe key 'widht' in the command line: .* 'width'"):
        parse_recipe(["--model_type=their_world", "--widht=9", "--dataset=d", "--output_dir=o"])
    with pytest.raises(ValueError, match="precision=bf16_encoder needs a part called encoder, which PatchWorldModel"):
        parse_recipe(["--model_type=their_world", "--precision=bf16_encoder", "--dataset=d", "--output_dir=o"])
    _, kind = find_world_model("their_world")
    model = kind(config).eval()
    model.save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    agent = load_agent(tmp_path / "model")
    frames = torch.randn(1, 1, 3, 28, 28)
    assert torch.equal(agent.model.encode(frames), model.encode(frames))


def test_names():
    for name in BUILT_IN:
        config, model = find_world_model(name)
        assert config.model_type == name and model.config_class is config
    for name in ("lewm_decoder", "bert", "no_such"):
        with pytest.raises(ValueError, match=f"model_type='{name}' is not a world model: use one of {BUILT_IN[2]}"):
            find_world_model(name)
