"""Milliseconds per plan on this machine: solvers, precisions, torch.compile, problems at once, sizes of the search.

    python eval/bench_planning.py                          # the released size, random weights, this machine
    python eval/bench_planning.py --model org/lewm-pusht --problems 1 50 --variants fp32 bf16 fp32+compile bf16+compile
    python eval/bench_planning.py --solvers cem icem mppi --searches 300x30 128x3 --out runs/planning
    python eval/bench_planning.py --against my_module:plan # any other `(model, context, goal, settings)`

Every call is timed in turn with the other planner's, so that both see the machine in the same state: by default one
that computes as the reference implementations do (`eval/reference_planner.py`). The share of the peak counts the
operations of the roll-out's matrix products that are left once nothing is computed twice, and its peak is that of
square matrix products, measured in the same run. `--out` writes planning.json and planning.png.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lewm_hf import LeWMConfig, LeWMModel
from lewm_hf.evaluation.common.outputs import check_out
from lewm_hf.evaluation.common.plots import figure
from lewm_hf.evaluation.common.provenance import library_versions
from lewm_hf.files import write_atomic
from lewm_hf.planning import PlanSettings, plan
from lewm_hf.planning.solvers import make_solver, solver_name, solver_names, solver_settings
from lewm_hf.planning.world_model import for_search
from lewm_hf.scripts import run_script, script_parser

DTYPES: dict[str, Literal["bfloat16"] | None] = {"fp32": None, "bf16": "bfloat16"}
PEAK_SIZE = 2048

Planner = Callable[[LeWMModel, Tensor, Tensor, PlanSettings], object]


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def in_turn(functions: Sequence[Callable[[], object]], repeats: int, warmups: int, device: torch.device) -> list[float]:
    """Median milliseconds of each function, one call of each after the other, `warmups` rounds not counted."""
    rounds = [[seconds(function, device) for function in functions] for _ in range(warmups + repeats)]
    return [1000 * statistics.median(times) for times in zip(*rounds[warmups:], strict=True)]


def matmul_peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the best of several square matrix products."""
    left, right = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device, dtype=dtype) for _ in range(2))
    fastest = min(seconds(lambda: left @ right, device) for _ in range(12))
    return 2 * PEAK_SIZE**3 / fastest


def candidate_flops(model: LeWMModel, context: Tensor, horizon: int, samples: int) -> float:
    """Operations of the matrix products of a candidate's roll-out, as a search among `samples` in float32 makes it."""
    candidates = torch.zeros(1, samples, horizon, model.config.action_block_size, device=context.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what other threads do is not counted
    try:
        imaginer, _ = for_search(model, None, compiled=False)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            imaginer.rollout(context[:1], candidates)
    finally:
        torch.set_num_threads(threads)
    return counter.get_total_flops() / samples


class Counter:
    """A world in which nothing is computed, only counted: a roll-out's gradient costs twice what it does itself."""

    training = False

    def __init__(self, model: LeWMModel):
        self.config, self.device, self.judged = model.config, model.device, 0

    def rollout(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        self.judged += candidates.shape[1] * (3 if torch.is_grad_enabled() and candidates.requires_grad else 1)
        return context[:, None, -1:] + candidates.mean(-1, keepdim=True)


def roll_outs(model: LeWMModel, context: Tensor, goal: Tensor, settings: PlanSettings) -> int:
    """How many roll-outs a plan takes, each gradient counted as two more."""
    counter = Counter(model)
    plan(counter, context[:1], goal[:1], replace(settings, compile=False))
    return counter.judged


def processor_name(device: torch.device) -> str:
    if device.type != "cpu":
        module = getattr(torch, device.type)
        return module.get_device_name(device) if hasattr(module, "get_device_name") else device.type
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    amx = " with AMX" if "amx_bf16" in facts.get("flags", "").split() else ""
    return f"{facts['model name']}{amx} (family {facts['cpu family']}, model {facts['model']})"


def variant_settings(solver: str, variant: str, samples: int, iterations: int, horizon: int) -> PlanSettings:
    """`fp32`, `bf16`, `fp32+compile`, `bf16+compile`.

    Raises:
        ValueError: for another variant, an unknown solver, or a search that it cannot make.
    """
    precision, _, compiled = variant.partition("+")
    if precision not in DTYPES or compiled not in ("", "compile"):
        raise ValueError(f"variant {variant!r} is unknown: use fp32 or bf16, with +compile or without")
    chosen = {"samples": samples, "iterations": iterations}
    if "elites" in solver_settings(solver):
        chosen["elites"] = max(2, min(30, samples // 4))
    return PlanSettings(
        solver=make_solver(solver, **chosen), horizon=horizon, rollout_dtype=DTYPES[precision], compile=bool(compiled)
    )


def parse_search(text: str) -> tuple[int, int]:
    """`300x30`: samples x iterations."""
    try:
        samples, iterations = map(int, text.split("x"))
    except ValueError as error:
        raise ValueError(f"search {text!r} is not SAMPLESxITERATIONS, such as 300x30") from error
    return samples, iterations


def load_planner(name: str) -> Planner:
    """`MODULE:CALLABLE`, a function `(model, context, goal, settings)`.

    Raises:
        ValueError: where there is none.
    """
    module, _, attribute = name.partition(":")
    try:
        planner = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--against {name}: {error}; give MODULE:CALLABLE, with MODULE on PYTHONPATH") from error
    if not callable(planner):
        raise ValueError(f"--against {name} is a {type(planner).__name__}: give a function")
    return planner


def draw(rows: list[dict], title: str, path: Path) -> None:
    """One bar per row, and the other planner's beside it."""
    with figure(path, 8, 1.5 + 0.45 * len(rows)) as axes:
        names = [
            f"{row['solver']} {row['samples']}x{row['iterations']}, {row['variant']}, {row['problems']} at once"
            for row in rows
        ]
        places = range(len(rows))
        axes.barh([place - 0.2 for place in places], [row["ms_per_plan"] for row in rows], 0.4, label="lewm_hf")
        if "against_ms_per_plan" in rows[0]:
            others = [row["against_ms_per_plan"] for row in rows]
            axes.barh([place + 0.2 for place in places], others, 0.4, label=rows[0]["against"])
        axes.set_yticks(list(places), names)
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds per plan")
        axes.set_title(title, fontsize=9)
        axes.legend()


def bench(arguments: argparse.Namespace) -> None:
    other = None if arguments.against == "none" else load_planner(arguments.against)
    searches = [parse_search(text) for text in arguments.searches]
    cases = [
        (search, variant, variant_settings(solver, variant, *search, arguments.horizon))
        for solver in arguments.solvers for search in searches for variant in arguments.variants
    ]  # fmt: skip
    check_out(arguments.out)
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

    most = max(arguments.problems)
    context = torch.randn(most, 1, model.config.embed_dim, device=device)
    goal = torch.randn(most, model.config.embed_dim, device=device)
    flops = {samples: candidate_flops(model, context, arguments.horizon, samples) for samples, _ in searches}
    precisions = {variant.partition("+")[0] for variant in arguments.variants}
    peaks = {name: matmul_peak(torch.float32 if name == "fp32" else torch.bfloat16, device) for name in precisions}
    with torch.no_grad():
        candidates = torch.randn(1, searches[0][0], arguments.horizon, model.config.action_block_size, device=device)
        fast = for_search(model, None, compiled=False)[0].rollout(context[:1], candidates)
        difference = (fast - import_module("reference_planner").rollout(model, context[:1], candidates)).abs().max()
    facts = {
        "processor": processor_name(device), "threads": torch.get_num_threads(), "versions": library_versions(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()), "horizon": arguments.horizon,
        "matmul_peak_flops": peaks, "largest_difference": difference.item(), "repeats": arguments.repeats,
        "model": arguments.model or "released size, random weights",
    }  # fmt: skip
    print(f"{facts['processor']}, {facts['threads']} CPU threads, torch {torch.__version__}")
    print(", ".join(f"{name} matrix products {peak / 1e9:,.0f} GFLOP/s" for name, peak in sorted(peaks.items())))
    print(
        f"{facts['parameters']:,} parameters, horizon {arguments.horizon}, "
        f"{', '.join(f'{each / 1e6:.0f} MFLOP for each of {count} candidates' for count, each in flops.items())}, "
        f"roll-outs differ by at most {difference:.1e} from the baseline's, median of {arguments.repeats}\n"
    )
    print("| solver | search | variant | problems | ms / plan | share of peak | against | ratio |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for (samples, iterations), variant, settings in cases:
        solver, judged = solver_name(settings.search), roll_outs(model, context, goal, settings)
        for problems in arguments.problems:
            given = (model, context[:problems], goal[:problems], settings)
            planners = [plan, other] if other else [plan]
            calls = [partial(planner, *given) for planner in planners]
            times = in_turn(calls, arguments.repeats, arguments.warmups, device)
            ours, *theirs = (value / problems for value in times)
            share = flops[samples] * judged / (ours / 1000) / peaks[variant.partition("+")[0]]
            row = {"solver": solver, "samples": samples, "iterations": iterations, "variant": variant,
                   "problems": problems, "flops_per_candidate": flops[samples], "ms_per_plan": ours,
                   "share_of_peak": share}  # fmt: skip
            compared = "|"
            if other:
                row |= {"against": arguments.against, "against_ms_per_plan": theirs[0], "ratio": theirs[0] / ours}
                compared = f"{theirs[0]:,.1f} ms | {theirs[0] / ours:.2f}x"
            rows.append(row)
            search = f"{solver} | {samples}x{iterations} | {variant} | {problems}"
            print(f"| {search} | {ours:,.1f} | {share:.0%} | {compared} |", flush=True)
    if arguments.out:
        write_atomic(Path(arguments.out) / "planning.json", json.dumps(facts | {"rows": rows}, indent=2) + "\n")
        draw(rows, f"{facts['processor']}, {facts['threads']} threads", Path(arguments.out) / "planning.png")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--model", help="checkpoint; default: the released size with random weights")
    parser.add_argument("--device", help="default: the first accelerator, else the CPU")
    parser.add_argument("--threads", type=int, help="CPU threads of torch; default: OMP_NUM_THREADS, else all cores")
    parser.add_argument("--solvers", nargs="+", choices=solver_names(), default=["cem"])
    parser.add_argument("--problems", type=int, nargs="+", default=[1], help="problems planned at once")
    parser.add_argument("--variants", nargs="+", default=["fp32", "bf16"], help="fp32, bf16, fp32+compile, ...")
    parser.add_argument("--searches", nargs="+", default=["300x30"], help="samples x iterations")
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmups", type=int, default=1)
    parser.add_argument("--against", default="reference_planner:plan", help="MODULE:CALLABLE, or none")
    parser.add_argument("--out", help="folder for planning.json and planning.png")
    return run_script(parser, bench, argv)


if __name__ == "__main__":
    sys.exit(main())
