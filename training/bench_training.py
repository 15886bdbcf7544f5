"""Windows per second of a training step: model sizes, precisions, torch.compile, and the wait for the loader.

    python training/bench_training.py --sizes mini full --variants fp32 bf16 --steps 10
    python training/bench_training.py --sizes full --variants bf16 bf16+compile --dataset runs/episodes --num_workers 12

Without a data set the windows are random numbers in memory: the step alone. The device is Accelerate's.
"""

import argparse
import time

import torch
from torch.utils.data import Dataset

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.common.provenance import hardware
from lewm_hf.training.arguments import parse_recipe
from lewm_hf.training.batches import WindowBatches, batch_loader
from lewm_hf.training.precision import training_device

RECIPES = {"mini": "tworoom-mini.yaml", "full": "tworoom.yaml"}
WARMUP = 3


class RandomWindows(Dataset):
    """Windows that cost nothing to read: views into one block of random frames."""

    def __init__(self, config: LeWMConfig, count: int = 4096):
        generator = torch.Generator().manual_seed(0)
        self.time, self.count = config.history_size + 1, count
        shape = (64, config.image_size, config.image_size, 3)
        self.frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.actions = torch.randn(64, self.time, config.action_block_size, generator=generator)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        start = index % (64 - self.time)
        return {"pixel_values": self.frames[start : start + self.time], "actions": self.actions[index % 64]}


def synchronize(device: torch.device):
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(device)


def measure(config: LeWMConfig, windows: Dataset, variant: str, args, device: torch.device) -> dict:
    """Seconds of `args.steps` optimizer steps after a warm-up, and the seconds of them spent waiting for data."""
    torch.manual_seed(0)
    model = LeWMModel(config).to(device).train()
    sigreg, normalize = model.sigreg, LeWMImageProcessor(image_size=config.image_size).normalize
    if variant.endswith("+compile"):
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e-3, fused=True)
    order = WindowBatches(len(windows), args.batch_size, 0, 0, WARMUP + args.steps)
    loader = iter(batch_loader(windows, order, args.num_workers, device))
    started = waited = 0.0
    for step in range(WARMUP + args.steps):
        if step == WARMUP:
            synchronize(device)
            started, waited = time.perf_counter(), 0.0
        asked = time.perf_counter()
        batch = next(loader)
        waited += time.perf_counter() - asked
        pixels = normalize(batch["pixel_values"].to(device, non_blocking=True))
        actions = batch["actions"].to(device, non_blocking=True)
        directions = sigreg.directions(0, step).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.startswith("bf16")):
            loss = model(pixel_values=pixels, actions=actions, sigreg_directions=directions).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    synchronize(device)
    return {"seconds": time.perf_counter() - started, "waited": waited}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument(
        "--variants", nargs="+", choices=["fp32", "bf16", "fp32+compile", "bf16+compile"], default=["fp32", "bf16"]
    )
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--dataset", help="directory or Hub id of episodes; without it random windows in memory")
    args = parser.parse_args()
    device = training_device()
    print(
        f"{hardware(device)['device_name']}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"batch {args.batch_size}, {args.num_workers} loader processes"
    )
    print("| model | parameters | variant | windows/s | ms/step | waiting for data |")
    print("|---|---|---|---|---|---|")
    for size in args.sizes:
        _, config = parse_recipe([RECIPES[size], "--dataset", "none", "--output_dir", "none"])
        windows = RandomWindows(config)
        if args.dataset:
            config.action_mean, config.action_std = [0.0] * config.action_dim, [1.0] * config.action_dim
            windows = WindowDataset(load_episodes(args.dataset, "train"), config)
        parameters = sum(p.numel() for p in LeWMModel(config).parameters())
        for variant in args.variants:
            result = measure(config, windows, variant, args, device)
            rate = args.steps * args.batch_size / result["seconds"]
            print(
                f"| {size} | {parameters:,} | {variant} | {rate:,.1f} | {1000 * result['seconds'] / args.steps:,.1f} "
                f"| {result['waited'] / result['seconds']:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
