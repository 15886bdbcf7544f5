"""Every frame goes through a frozen backbone once, and training sees what it would have computed itself."""

import pickle

import numpy as np
import pytest
import torch

from lewm_hf import DinoWMConfig, DinoWMModel, ImitationConfig, ImitationModel, LeWMImageProcessor
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.training.frozen_tokens import TokenCache, TokenWindows

ARCHITECTURE = {
    "model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
SHARED = {
    "image_size": 28, "backbone_config": ARCHITECTURE, "backbone": "dinov2", "pretrained": False,
    "action_mean": [0.0, 0.0], "action_std": [1.0, 1.0],
}  # fmt: skip


@pytest.mark.parametrize("goals", [None, 5])
def test_tokens_of_windows_are_those_of_their_frames(episodes_dir, tmp_path, goals):
    episodes, processor = load_episodes(episodes_dir, "train"), LeWMImageProcessor(image_size=28)
    torch.manual_seed(0)
    models = [
        DinoWMModel(DinoWMConfig(num_patches=4, feature_size=24, predictor_layers=1, predictor_heads=1, **SHARED)),
        ImitationModel(ImitationConfig(actor_hidden_size=8, **SHARED)),
    ]
    for number, model in enumerate(models):
        config = model.eval().config
        seen = []
        hook = model.encoder.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(len(inputs[0])))
        tokens = TokenCache(episodes, model, processor, tmp_path / str(number))
        windows = TokenWindows(episodes, config, tokens, goal_blocks=goals)
        plain = WindowDataset(episodes, config, goal_blocks=goals).batch([3, 0, 17])
        batch = windows.batch([3, 0, 17])
        assert sum(seen) == episodes.num_rows + 1  # one more to learn their shape
        hook.remove()
        assert "pixel_values" not in batch and batch["patch_tokens"].dtype == torch.float16
        pixels = {k: processor.normalize(v) for k, v in plain.items() if "pixel_values" in k}
        expected = model.patch_tokens(pixels["pixel_values"])
        torch.testing.assert_close(batch["patch_tokens"].float(), expected, rtol=2e-3, atol=2e-3)
        ours, theirs = model.losses(batch, {})["loss"], model.losses(plain | pixels, {})["loss"]
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)
        again = pickle.loads(pickle.dumps(windows))
        assert torch.equal(again.batch([3])["patch_tokens"], batch["patch_tokens"][:1])
        # Later runs find the file; another backbone has its own.
        assert len(list((tmp_path / str(number)).iterdir())) == 1
        TokenCache(episodes, model, processor, tmp_path / str(number))
        with torch.no_grad():
            next(model.encoder.parameters()).add_(1)
        TokenCache(episodes, model, processor, tmp_path / str(number))
        assert len(list((tmp_path / str(number)).iterdir())) == 2
    assert np.isfinite(float(ours))
