"""Windows per second of a training step: model sizes, precisions, torch.compile, and the wait for the loader.

    python training/bench_training.py --sizes mini full --variants fp32 bf16 --steps 10
    python training/bench_training.py --sizes full --variants bf16 --batch_size 16 128 --against none
    python training/bench_training.py --sizes full --variants bf16 bf16+compile --dataset runs/episodes --num_workers 12

A step is that of `training/train.py`: Accelerate, the loader, the losses, the fused optimizer; waiting includes moving
and normalizing a batch, as in metrics.jsonl. Steps are timed in turn with those of `--against`, by default one put
together as the reference implementation's is (`training/reference_step.py`). Without a data set the windows are random
numbers in memory: the step alone. The share of the peak counts the matrix products of forward and backward, and its
peak is that of square ones, measured in the same run. Every case runs in a process of its own, whose peak memory is
told (of an accelerator: that of the tensors); with `--against none` it is that of our step alone.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.common.provenance import hardware, library_versions
from lewm_hf.files import write_atomic
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.training.arguments import TrainingRecipe, parse_recipe
from lewm_hf.training.batches import WindowBatches, loading
from lewm_hf.training.launch import launched
from lewm_hf.training.precision import encoder_in_bf16, training_device
from lewm_hf.training.world_model import WorldModelJob, WorldModelLosses

RECIPES = {
    "mini": "tworoom-mini.yaml",
    "pusht-mini": "pusht-mini.yaml",
    "cube-mini": "cube-mini.yaml",
    "full": "tworoom.yaml",
}
VARIANTS = tuple(name + compiled for compiled in ("", "+compile") for name in ("fp32", "bf16", "bf16_encoder"))
ROUNDS = 5
PEAK_SIZE = 2048


class RandomWindows(Dataset):
    """Windows that cost nothing to read: views into one block of random frames."""

    def __init__(self, config: LeWMConfig, count: int = 4096):
        generator = torch.Generator().manual_seed(0)
        self.time, self.count = config.window_frames, count
        shape = (64, config.image_size, config.image_size, 3)
        self.frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.actions = torch.randn(64, self.time, config.action_block_size, generator=generator)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        start = index % (64 - self.time)
        return {"pixel_values": self.frames[start : start + self.time], "actions": self.actions[index % 64]}


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(device)


def matmul_peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the best of several square matrix products."""
    left, right = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(12):
        synchronize(device)
        start = time.perf_counter()
        left @ right
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * PEAK_SIZE**3 / min(times)


def window_flops(config: LeWMConfig) -> float:
    """Operations of the matrix products and convolutions of one window, forward and backward."""
    model, count = LeWMModel(config).train(), 2
    model.set_attn_implementation("eager")  # on CPUs those of the fused kernel are not counted
    pixels = torch.randn(count, config.window_frames, config.num_channels, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter:
        model(pixels, torch.randn(count, config.window_frames - 1, config.action_block_size)).loss.backward()
    return counter.get_total_flops() / count


def peak_memory(device: torch.device) -> float:
    """GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def load_step(name: str) -> Callable:
    """`MODULE:CALLABLE`, see `reference_step.build`.

    Raises:
        ValueError: where there is none.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--against {name}: {error}; give MODULE:CALLABLE, with MODULE on PYTHONPATH") from error


def measure(
    recipe: TrainingRecipe,
    config: LeWMConfig,
    windows: Dataset,
    variant: str,
    batch_size: int,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Seconds of a step, seconds of it spent waiting for data, and seconds of a step of `--against`, medians."""
    torch.manual_seed(0)
    precision, _, compiled = variant.partition("+")
    recipe.precision = precision
    per_round = max(1, args.steps // ROUNDS)
    total = (ROUNDS + 1) * per_round
    job = WorldModelJob(recipe, config)
    job.model, job.image_processor = LeWMModel(config), LeWMImageProcessor(image_size=config.image_size)
    with (
        tempfile.TemporaryDirectory() as folder,
        launched(output_dir=folder, precision=precision, tracker="none", compile=bool(compiled)) as launch,
    ):
        accelerator, job.device = launch.accelerator, launch.accelerator.device
        if precision == "bf16_encoder":
            encoder_in_bf16(job.model, job.device)
        module = WorldModelLosses(job.model)
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, weight_decay=recipe.weight_decay, fused=True)
        module, optimizer = accelerator.prepare(module, optimizer)
        if launch.compile_options is not None:
            job.model.compile(**launch.compile_options)
        module.train()
        dtype = torch.bfloat16 if precision != "fp32" else None
        other = load_step(args.against)(config, job.device, dtype, recipe.seed) if args.against != "none" else None
        waited = 0.0

        def ours(batches: Iterator[Any], number: int) -> None:
            nonlocal waited
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            with accelerator.accumulate(module):
                accelerator.backward(module(batch, job.step_inputs(number))["loss"])
                accelerator.clip_grad_norm_(module.parameters(), recipe.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()

        def theirs(batches: Iterator[Any], number: int) -> None:
            assert other is not None
            other(next(batches), number)

        def order() -> WindowBatches:
            return WindowBatches(len(windows), batch_size, recipe.seed, 0, total)

        with (
            loading(windows, order(), args.num_workers, job.device) as loaded,
            loading(windows, order(), args.num_workers, job.device) as loaded_too,
        ):
            sides: list[tuple[Callable[[Iterator[Any], int], None], Iterator[Any], list[float]]]
            sides = [(ours, job.prepared(loaded), []), *([(theirs, loaded_too, [])] if other else [])]
            for round in range(ROUNDS + 1):  # the first one warms up
                waited = 0.0 if round == 1 else waited
                for step, batches, times in sides:
                    synchronize(job.device)
                    start = time.perf_counter()
                    for number in range(round * per_round, (round + 1) * per_round):
                        step(batches, number)
                    synchronize(job.device)
                    times.append((time.perf_counter() - start) / per_round)
    seconds = [statistics.median(times[1:]) for _, _, times in sides]
    return {"seconds": seconds[0], "waited": waited / (ROUNDS * per_round), "against": seconds[-1] if other else 0.0}


def bench(args: argparse.Namespace) -> int:
    """Raises:
    ValueError: where `--against` names nothing, or cannot rebuild a size.
    """
    if args.against != "none":
        load_step(args.against)
    cases = list(itertools.product(args.sizes, args.variants, args.batch_size))
    if args.alone:
        for size, variant, batch_size in cases:
            print(json.dumps(row(size, variant, batch_size, args)), flush=True)
        return 0
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)  # refused here, before any work
    device = training_device()
    print(
        f"{hardware(device)['device_name']}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{args.num_workers} loader processes"
    )
    print(
        "| model | parameters | variant | batch | windows/s | ms/step | waiting for data | of peak | memory | against |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    shared = ["--steps", str(args.steps), "--num_workers", str(args.num_workers), "--against", args.against]
    shared += ["--dataset", args.dataset] if args.dataset else []
    rows = []
    for size, variant, batch_size in cases:
        case = ["--alone", "--sizes", size, "--variants", variant, "--batch_size", str(batch_size), *shared]
        finished = subprocess.run([sys.executable, __file__, *case], stdout=subprocess.PIPE, text=True)
        if finished.returncode:
            return finished.returncode  # it has said why
        rows.append(json.loads(finished.stdout))
        print(line(rows[-1]), flush=True)
    if args.out:
        facts = {"machine": hardware(device), "threads": torch.get_num_threads(), "versions": library_versions()}
        write_atomic(Path(args.out), json.dumps(facts | {"against": args.against, "rows": rows}, indent=1) + "\n")
        print(f"wrote {args.out}")
    return 0


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    ratio = f"{row['ratio']:.2f}x" if row["ratio"] else ""
    return (
        f"| {row['size']} | {row['parameters']:,} | {row['variant']} | {row['batch_size']} "
        f"| {row['windows_per_second']:,.1f} | {1000 * row['seconds']:,.1f} | {row['waiting']:.0%} "
        f"| {row['of_peak']:.0%} of {row['peak'] / 1e9:,.0f} GFLOP/s | {row['memory_gb']:.1f} GB | {ratio} |"
    )


def row(size: str, variant: str, batch_size: int, args: argparse.Namespace) -> dict[str, Any]:
    """What one case takes; `ratio` to a step of `--against`, `None` without one."""
    dtype = torch.float32 if variant.startswith("fp32") else torch.bfloat16
    peak = matmul_peak(dtype, training_device())
    recipe, config = parse_recipe([RECIPES[size], "--dataset", "none", "--output_dir", "none"])
    windows: Dataset = RandomWindows(config)
    if args.dataset:
        config.action_mean, config.action_std = [0.0] * config.action_dim, [1.0] * config.action_dim
        goal_blocks = config.actor_max_blocks if config.actor_weight else None
        windows = WindowDataset(load_episodes(args.dataset, "train"), config, goal_blocks=goal_blocks)
    parameters, flops = sum(p.numel() for p in LeWMModel(config).parameters()), window_flops(config)
    result = measure(recipe, config, windows, variant, batch_size, args)
    rate = batch_size / result["seconds"]
    return {
        "size": size, "variant": variant, "batch_size": batch_size, "parameters": parameters,
        "windows_per_second": rate, "seconds": result["seconds"], "waiting": result["waited"] / result["seconds"],
        "of_peak": flops * rate / peak, "peak": peak, "memory_gb": peak_memory(training_device()),
        "ratio": result["against"] / result["seconds"] if result["against"] else None,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=RECIPES, default=["mini", "full"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["fp32", "bf16"])
    parser.add_argument("--batch_size", type=int, nargs="+", default=[128])
    parser.add_argument("--steps", type=int, default=20, help=f"timed in {ROUNDS} rounds")
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--dataset", help="directory or Hub id of episodes; without it random windows in memory")
    parser.add_argument("--against", default="reference_step:build", help="MODULE:CALLABLE, or none")
    parser.add_argument("--out", help="file that the figures are written to, as JSON")
    parser.add_argument("--alone", action="store_true", help="in this process, a line of JSON for each case")
    return run_script(parser, bench, argv)


if __name__ == "__main__":
    sys.exit(main())
