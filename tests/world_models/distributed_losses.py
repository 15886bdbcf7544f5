"""Losses and gradients of each world model, by one and by two processes that share a batch.

A program of its own, because its ranks are forks, and a test process has threads that do not survive one.

Usage: distributed_losses.py FOLDER
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, debug_launcher

from lewm_hf import DinoWMConfig, DinoWMModel, PLDMConfig, PLDMModel

BATCH = 8
PLDM = {
    "image_size": 28, "encoder_hidden_size": 24, "encoder_layers": 2, "encoder_mlp_size": 48, "embed_dim": 12,
    "projector_hidden_size": 32, "predictor_hidden_size": 24, "predictor_layers": 2, "predictor_heads": 2,
    "predictor_head_dim": 8, "predictor_mlp_size": 32, "action_mlp_size": 48, "predictor_dropout": 0.0,
    "inverse_weight": 0.7, "cov_t_weight": 0.3,
}  # fmt: skip
DINOV2 = {
    "model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


def models():
    torch.manual_seed(0)
    yield "lewm", PLDMModel(PLDMConfig(**PLDM))
    yield "original", PLDMModel(PLDMConfig(objective="original", **PLDM))
    yield (
        "dino_wm",
        DinoWMModel(
            DinoWMConfig(
                image_size=28,
                num_patches=4,
                feature_size=24,
                pretrained=False,
                backbone_config=DINOV2,
                predictor_layers=2,
                predictor_heads=2,
                predictor_head_dim=8,
                predictor_mlp_size=32,
                predictor_dropout=0.0,
            )  # fmt: skip
        ),
    )


class Losses(torch.nn.Module):
    """What data-parallel wrappers call."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch, step_inputs):
        found = self.model.losses(batch, step_inputs)
        return {name: value for name, value in found.items() if not value.dim()}


def step(accelerator, model):
    if hasattr(model, "pred_proj") and model.pred_proj is not None:
        with torch.no_grad():
            for layer in model.predictor.layers:
                layer.modulation.bias.fill_(0.3)
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(BATCH, 4, 3, 28, 28, generator=generator)
    # Ranks see different distributions, so that anything measured by rank would show.
    frames += torch.linspace(-2, 2, BATCH).view(-1, 1, 1, 1, 1)
    actions = torch.randn(BATCH, 4, 10, generator=generator)
    share = BATCH // accelerator.num_processes
    mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    prepared = accelerator.prepare(Losses(model)).train()
    losses = prepared({"pixel_values": frames[mine], "actions": actions[mine]}, model.step_inputs(3, 5))
    accelerator.backward(losses["loss"])
    return {
        "losses": {name: accelerator.reduce(value.detach(), "mean") for name, value in losses.items()},
        "gradients": {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad},
    }


def write(folder: str):
    """What each process runs; the main one writes `<number of processes>.pt`, complete or not at all."""
    torch.set_num_threads(1)
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    found = {name: step(accelerator, model) for name, model in models()}
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        temporary = Path(folder) / "writing"
        torch.save(found, temporary)
        temporary.rename(Path(folder) / f"{accelerator.num_processes}.pt")


if __name__ == "__main__":
    for processes in (1, 2):
        debug_launcher(write, (sys.argv[1],), processes)
