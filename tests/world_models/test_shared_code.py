"""Every world model brings its code: loaded in a process that cannot import the package."""

import os
import subprocess
import sys
import sysconfig

import pytest
import torch

from lewm_hf import (
    DinoWMConfig,
    DinoWMModel,
    ImitationConfig,
    ImitationModel,
    LeWMDecoder,
    LeWMDecoderConfig,
    LeWMImageProcessor,
    PLDMConfig,
    PLDMModel,
)
from lewm_hf.hub.export.code import export_code

from .sizes import LEWM, SIZES

DINO = SIZES | {
    "num_patches": 4, "feature_size": 24, "predictor_layers": 1, "predictor_heads": 1, "predictor_head_dim": 8,
    "predictor_mlp_size": 8,
}  # fmt: skip
PROGRAM = """
import sys, torch
from transformers import AutoModel, AutoImageProcessor
assert "lewm_hf" not in sys.modules
frames = torch.linspace(-1, 1, 3 * 28 * 28).view(1, 1, 3, 28, 28)
latents = torch.linspace(-1, 1, 32).view(2, 16)
found = {}
for name in sys.argv[2:]:
    model = AutoModel.from_pretrained(name, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    AutoImageProcessor.from_pretrained(name, trust_remote_code=True)
    found[name] = (model.encode(frames) if hasattr(model, "encode") else model(latents).pixels).detach()
torch.save(found, sys.argv[1])
"""


def test_all_models_load_without_the_package(tmp_path, dinov2_folder):
    torch.manual_seed(0)
    decoder = LeWMDecoder(
        LeWMDecoderConfig(embed_dim=16, image_size=28, patch_size=14, hidden_size=16, layers=1, heads=2, mlp_size=32)
    )
    torch.nn.init.normal_(decoder.pixels.weight)
    models = {
        "pldm": PLDMModel(PLDMConfig(**LEWM)),
        "dino_wm": DinoWMModel(DinoWMConfig(backbone=str(dinov2_folder), **DINO)),
        "goal_imitation": ImitationModel(ImitationConfig(**LEWM)),
        "decoder": decoder,
    }
    for name, model in models.items():
        model.eval().save_pretrained(tmp_path / name)
        LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / name)
        written = export_code(tmp_path / name)
        assert ("pipeline_lewm.py" in written) == hasattr(model, "rollout")
    environment = os.environ | {
        "PYTHONPATH": sysconfig.get_paths()["purelib"], "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    folders = [str(tmp_path / name) for name in models]
    run = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, str(tmp_path / "found.pt"), *folders],
        cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert (tmp_path / "found.pt").exists(), run.stderr[-3000:]
    frames, latents = torch.linspace(-1, 1, 3 * 28 * 28).view(1, 1, 3, 28, 28), torch.linspace(-1, 1, 32).view(2, 16)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found.keys() == set(folders)
    for name, model in models.items():
        expected = model(latents).pixels if model is decoder else model.encode(frames)
        torch.testing.assert_close(found[str(tmp_path / name)], expected.detach())


def test_models_of_others_are_not_exported(tmp_path):
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path)
    for kind in ("bert", "no_such_model"):
        (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
        with pytest.raises(
            ValueError, match=f"model_type='{kind}': only checkpoints of models of lewm_hf take its code"
        ):
            export_code(tmp_path)
