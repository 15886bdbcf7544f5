"""Milliseconds per plan: alone and in a batch, in float32 and bfloat16, compiled, and against a naive planner.

    python eval/bench_planning.py                          # the released size, random weights, this machine
    python eval/bench_planning.py --model org/lewm-pusht --problems 1 50 --variants fp32 bf16 fp32+compile bf16+compile

The naive planner draws the same noise and runs the same solver, and it encodes nothing twice either; but it imagines a
plan by sliding a window through `model.predict`, all of it again for every step. Roll-outs of both are compared first.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from lewm_hf import LeWMConfig, LeWMModel
from lewm_hf.planning import PlanSettings, plan


class NaiveRollout:
    """A world model whose roll-out runs the whole window through the predictor for every step."""

    training = False

    def __init__(self, model: LeWMModel):
        self.model, self.config, self.device = model, model.config, model.device

    def encode(self, pixel_values: Tensor) -> Tensor:
        return self.model.encode(pixel_values)

    def rollout(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        samples, horizon = candidates.shape[1:3]
        embeddings, blocks = context.repeat_interleave(samples, 0), candidates.flatten(0, 1)
        for end in range(1, horizon + 1):
            window = slice(max(0, end - self.config.history_size), end)
            following = self.model.predict(embeddings[:, window], blocks[:, window])[:, -1:]
            embeddings = torch.cat([embeddings, following], 1)
        return embeddings[:, 1:].unflatten(0, (-1, samples))


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def milliseconds(world, context: Tensor, goal: Tensor, settings: PlanSettings, repeats: int, warmups: int) -> float:
    """Median over `repeats` of the time of one call, after `warmups` that are not counted."""
    times = []
    for _ in range(warmups + repeats):
        synchronize(context.device)
        start = time.perf_counter()
        plan(world, context, goal, settings)
        synchronize(context.device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[warmups:])


def processor_name(device: torch.device) -> str:
    if device.type != "cpu":
        module = getattr(torch, device.type)
        return module.get_device_name(device) if hasattr(module, "get_device_name") else device.type
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def variant_settings(variant: str, base: dict) -> PlanSettings:
    """`fp32`, `bf16`, `fp32+compile`, `bf16+compile`."""
    precision, _, compiled = variant.partition("+")
    if precision not in ("fp32", "bf16") or compiled not in ("", "compile"):
        raise ValueError(f"variant {variant!r} is unknown: use fp32 or bf16, with +compile or without")
    return PlanSettings.of(**base, rollout_dtype="bfloat16" if precision == "bf16" else None, compile=bool(compiled))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="checkpoint; default: the released size with random weights")
    parser.add_argument("--device", help="default: the first accelerator, else the CPU")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--problems", type=int, nargs="+", default=[1, 50], help="problems planned at once")
    parser.add_argument("--variants", nargs="+", default=["fp32", "bf16"], help="fp32, bf16, fp32+compile, ...")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmups", type=int, default=1)
    parser.add_argument("--no-naive", action="store_true", help="skip the naive planner")
    arguments = parser.parse_args()

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = torch.device(arguments.device or accelerator or "cpu")
    torch.manual_seed(0)
    if arguments.model:
        model = LeWMModel.from_pretrained(arguments.model)
    else:
        model = LeWMModel(LeWMConfig(action_mean=[0.0, 0.0], action_std=[1.0, 1.0]))
        for layer in model.predictor.layers:  # fresh ones ignore the action
            torch.nn.init.normal_(layer.modulation.weight, std=0.02)
    model = model.to(device).eval()
    naive = NaiveRollout(model)
    base = {name: getattr(arguments, name) for name in ("samples", "iterations", "horizon")}
    base["elites"] = min(30, arguments.samples)
    variants = {variant: variant_settings(variant, base) for variant in arguments.variants}

    print(f"{processor_name(device)}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    print(f"{base['samples']} samples x {base['iterations']} iterations x horizon {base['horizon']}, ", end="")
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters, median of {arguments.repeats}")
    shape, blocks = (1, 1, model.config.embed_dim), (1, 8, base["horizon"], model.config.action_block_size)
    with torch.no_grad():
        context, candidates = torch.randn(shape, device=device), torch.randn(blocks, device=device)
        difference = (model.rollout(context, candidates) - naive.rollout(context, candidates)).abs().max()
    print(f"roll-outs, fast against naive: largest difference {difference.item():.1e}\n")

    print(f"{'problems':>8}  {'variant':<14} {'ms / plan':>10} {'ms / call':>10} {'against naive':>14}")
    for problems in arguments.problems:
        context = torch.randn(problems, 1, model.config.embed_dim, device=device)
        goal = torch.randn(problems, model.config.embed_dim, device=device)
        timing = (context, goal)
        for variant, settings in variants.items():
            call = milliseconds(model, *timing, settings, arguments.repeats, arguments.warmups)
            ratio = ""
            if not arguments.no_naive:
                # In turn with each variant, so that both see the machine in the same state; never compiled.
                plain = variant_settings(variant.partition("+")[0], base)
                ratio = f"{milliseconds(naive, *timing, plain, arguments.repeats, arguments.warmups) / call:.2f}x"
            print(f"{problems:>8}  {variant:<14} {call / problems:>10.1f} {call:>10.1f} {ratio:>14}", flush=True)


if __name__ == "__main__":
    main()
