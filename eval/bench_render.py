"""Frames and steps per second of every environment on one core, beside copying as many bytes as the frames have.

    OMP_NUM_THREADS=1 python eval/bench_render.py --envs two_room --image-size 224 --seconds 3

The copy of the same bytes is what a renderer could reach at best, measured in the same run: rates of a loaded or slow
machine are read relative to it.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable

import gymnasium
import numpy as np
import torch

from lewm_hf.scripts import run_script, script_parser
from lewm_hf.tasks.registry import task_names
from lewm_hf.tasks.vector import GoalVectorEnv

BATCH = 16


def rate(work: Callable[[], int], seconds: float) -> float:
    """Units per second of `work`, which returns how many it did; best of three rounds."""
    work()
    rates = []
    for _ in range(3):
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / 3:
            done += work()
        rates.append(done / spent)
    return max(rates)


def copy_rate(image_size: int, seconds: float) -> float:
    source = np.random.default_rng(0).integers(0, 256, (BATCH, image_size, image_size, 3), dtype=np.uint8)
    target = np.empty_like(source)

    def copy() -> int:
        target[:] = source
        return BATCH

    return rate(copy, seconds)


def measure(name: str, image_size: int, seconds: float) -> dict[str, float]:
    rng = np.random.default_rng(0)
    with GoalVectorEnv(name, BATCH, image_size=image_size) as envs:
        space = envs.single_action_space
        for env in envs.envs:
            for _ in range(5):
                env.step(rng.uniform(space.low, space.high))
        actions = rng.uniform(space.low, space.high, (64, *space.shape))
        single = envs.envs[0]

        def steps() -> int:
            for action in actions:
                single.step(action)
            return len(actions)

        def batch() -> int:
            return len(envs.render())

        def one() -> int:
            single.render()
            return 1

        return {"steps": rate(steps, seconds), "frames": rate(one, seconds), "batched": rate(batch, seconds)}


def bench(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    copies = copy_rate(arguments.image_size, arguments.seconds)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, torch {torch.__version__}, "
        f"gymnasium {gymnasium.__version__}; {arguments.image_size} px; copying the bytes: {copies:,.0f} frames/s"
    )
    print(f"{'environment':12} {'steps/s':>10} {'frames/s':>10} {'batched':>10} {'of copying':>10}")
    for name in arguments.envs:
        try:
            figures = measure(name, arguments.image_size, arguments.seconds)
        except ImportError as error:
            print(f"{name:12} skipped: {error}")
            continue
        print(
            f"{name:12} {figures['steps']:10,.0f} {figures['frames']:10,.0f} {figures['batched']:10,.0f} "
            f"{figures['batched'] / copies:10.1%}"
        )


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--envs", nargs="+", choices=task_names(), default=list(task_names()))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=3.0, help="per figure")
    return run_script(parser, bench, argv)


if __name__ == "__main__":
    sys.exit(main())
