"""Set before any library is imported. Without a network each unknown id of the Hub costs half a minute; and with one
process of tests for each core, threads of numerical libraries only wait for one another.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# A busy machine is no failure. A change is judged by the same examples every time; exploring new ones is for
# everybody's own machine.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return FIXTURES


def make_tiny_config():
    from lewm_hf import LeWMConfig

    return LeWMConfig(
        image_size=28,
        patch_size=14,
        encoder_hidden_size=24,
        encoder_layers=2,
        encoder_heads=3,
        encoder_mlp_size=48,
        embed_dim=16,
        projector_hidden_size=32,
        predictor_hidden_size=24,
        predictor_layers=2,
        predictor_heads=2,
        predictor_head_dim=8,
        predictor_mlp_size=32,
        action_mlp_size=48,
        sigreg_projections=64,
        action_mean=[0.1, -0.2],
        action_std=[0.5, 0.6],
    )


def make_tiny_model(config):
    from lewm_hf import LeWMModel

    torch.manual_seed(0)
    model = LeWMModel(config)
    with torch.no_grad():
        for layer in model.predictor.layers:
            layer.modulation.weight.normal_(std=0.2)
            layer.modulation.bias.normal_(std=0.2)
        for projector in (model.projector, model.pred_proj):
            projector.batch_norm.running_mean.normal_(std=0.3)
            projector.batch_norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture
def tiny_config():
    """A model of a few thousand parameters with every part of the real one."""
    return make_tiny_config()


@pytest.fixture
def tiny_model(tiny_config):
    """Random weights with open AdaLN gates and uneven BatchNorm statistics, in eval mode."""
    return make_tiny_model(tiny_config)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A folder with `tiny_model`, for what many tests copy and none changes."""
    from lewm_hf import LeWMImageProcessor

    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    make_tiny_model(make_tiny_config()).save_pretrained(folder)
    LeWMImageProcessor(image_size=28).save_pretrained(folder)
    return folder
