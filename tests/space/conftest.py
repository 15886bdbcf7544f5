"""The Space is a folder of scripts, not a package: its modules are imported by path."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

SPACE = Path(__file__).parents[2] / "model_cards" / "space"
sys.path.insert(0, str(SPACE))


@pytest.fixture(scope="session")
def save_checkpoint() -> Callable:
    """Writes a checkpoint with random weights, which says that it was trained in an environment."""
    from lewm_hf import LeWMImageProcessor, LeWMModel

    def save(folder: Path, config, env_id: str | None = "lewm/TwoRoom-v0") -> str:
        torch.manual_seed(0)
        LeWMModel(config).eval().save_pretrained(folder)
        LeWMImageProcessor(image_size=config.image_size).save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps({"env_id": env_id} if env_id else {}))
        return str(folder)

    return save
