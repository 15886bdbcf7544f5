"""A training step and a BatchNorm recalibration, shared by one and by two processes, and a run of the loop by one.

A program of its own, because its ranks are forks, and a test process has threads that do not survive one.

Usage: distributed_step.py CONFIG.json FOLDER [arguments of training/train.py]
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, debug_launcher
from accelerate.utils import set_seed

from lewm_hf import LeWMConfig, LeWMModel
from lewm_hf.training.arguments import parse_recipe
from lewm_hf.training.batch_norm import recalibrate_batch_norm

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from train import train  # noqa: E402

BATCH = 8


def step(config: LeWMConfig) -> dict:
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    set_seed(0)
    model = LeWMModel(config)
    with torch.no_grad():
        for layer in model.predictor.layers:
            layer.modulation.bias.fill_(0.3)
    generator = torch.Generator().manual_seed(1)
    frames = config.history_size + 1
    pixels = torch.randn(BATCH, frames, 3, config.image_size, config.image_size, generator=generator)
    # Ranks see different distributions, so that anything normalized by rank would show.
    pixels += torch.linspace(-1, 1, BATCH).view(-1, 1, 1, 1, 1)
    actions = torch.randn(BATCH, frames, config.action_block_size, generator=generator)
    share = BATCH // accelerator.num_processes
    mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    set_seed(0, device_specific=True)  # ranks' global generators differ, the directions must not
    torch.rand(accelerator.process_index + 1)

    directions = model.sigreg.directions(seed=3, step=5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    prepared.train()
    with accelerator.accumulate(prepared):
        output = prepared(pixel_values=pixels[mine], actions=actions[mine], sigreg_directions=directions)
        accelerator.backward(output.loss)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        norm = accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
    losses = torch.stack([output.loss, output.prediction_loss, output.sigreg_loss]).detach()
    result = {
        "processes": accelerator.num_processes,
        "directions": accelerator.gather(directions[None]),
        "losses": accelerator.reduce(losses, "mean"),
        "embeddings": accelerator.gather(output.embeddings.detach()),
        "gradients": gradients,
        "gradient_norm": norm,
        "running": [running_statistics(model).clone()],
    }
    recalibrate_batch_norm(model, [(pixels[mine], actions[mine]), (2 * pixels[mine], actions[mine])])
    result["running"].append(running_statistics(model).clone())
    # Every rank must hold the same statistics, whichever one saves them.
    result["running_by_rank"] = accelerator.gather(running_statistics(model)[None])
    accelerator.wait_for_everyone()
    return result if accelerator.is_main_process else {}


def running_statistics(model: LeWMModel) -> torch.Tensor:
    return torch.cat([buffer.flatten() for name, buffer in model.named_buffers() if ".running_" in name])


def write_step(config: LeWMConfig, folder: str):
    """What each process runs; the main one writes `<number of processes>.pt`, complete or not at all."""
    torch.set_num_threads(1)
    result = step(config)
    if result:
        temporary = Path(folder) / "writing"
        torch.save(result, temporary)
        temporary.rename(Path(folder) / f"{result['processes']}.pt")


def run_loop(arguments: list[str]):
    torch.set_num_threads(1)
    train(*parse_recipe(arguments))


if __name__ == "__main__":
    config, folder, arguments = LeWMConfig.from_json_file(sys.argv[1]), sys.argv[2], sys.argv[3:]
    for processes in (1, 2):
        debug_launcher(write_step, (config, folder), processes)
    debug_launcher(run_loop, ([*arguments, f"--output_dir={folder}/run-1"],), 1)
