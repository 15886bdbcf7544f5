import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from lewm_hf.data.collect import collect
from lewm_hf.training.arguments import parse_recipe

ROOT = Path(__file__).parents[2]

TINY = (
    "max_steps=12 batch_size=20 num_workers=0 learning_rate=1e-2 precision=fp32 tracker=none log_every=1 eval_pairs=0 "
    "eval_batches=2 recalibration_batches=3 image_size=28 patch_size=14 encoder_hidden_size=24 encoder_layers=2 "
    "encoder_mlp_size=48 embed_dim=16 projector_hidden_size=32 predictor_hidden_size=24 predictor_layers=2 "
    "predictor_heads=2 predictor_head_dim=8 predictor_mlp_size=32 action_mlp_size=48 sigreg_projections=64"
)


@pytest.fixture(scope="session")
def episodes_dir(tmp_path_factory) -> Path:
    """Ten TwoRoom episodes of 40 steps at 28 pixels; nine to train on, 22 windows each: 9 batches of 20 per epoch."""
    folder = tmp_path_factory.mktemp("data") / "episodes"
    return collect("two_room", folder, 10, image_size=28, max_steps=40, stop_at_success=False, workers=1)


@pytest.fixture(scope="session")
def train_module():
    """training/train.py, which is a script and not part of the package."""
    sys.path.insert(0, str(ROOT / "training"))
    try:
        import train

        return train
    finally:
        sys.path.remove(str(ROOT / "training"))


@pytest.fixture(scope="session")
def tiny_arguments(episodes_dir):
    """Command line of a run of seconds; `overrides` win."""

    def arguments(output_dir, *flags: str, **overrides) -> list[str]:
        values = dict(entry.split("=") for entry in TINY.split()) | {"dataset": episodes_dir, "output_dir": output_dir}
        given = {key: value for key, value in (values | overrides).items() if value is not None}
        return [*(f"--{key}={value}" for key, value in given.items()), *flags]

    return arguments


@pytest.fixture
def run_training(train_module, tiny_arguments):
    """Trains in this process, on one thread, as a fresh process would."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(output_dir, *flags: str, evaluate=None, **overrides):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return train_module.train(*parse_recipe(tiny_arguments(output_dir, *flags, **overrides)), evaluate=evaluate)

    yield run
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
