"""Planning success over candidates, for every solver, with and without the actor's proposal; and the paper's Table 10.

    python eval/solver_curves.py model_cards/lewm-tworoom-mini model_cards/lewm-pusht-mini --out runs/curves
    python eval/solver_curves.py model_cards/lewm-pusht-mini --table10 --out runs/table10

Every point is an evaluation of its own below --out, on the same pairs: the same command continues after an
interruption, and takes further points and solvers in. `curves.json` holds them all, `MODEL.png` draws them.
The horizontal axis counts roll-outs of one plan, as the solver really asks for them; one that is differentiated takes
about three times as long as one that is not.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lewm_hf import LeWMConfig
from lewm_hf.evaluation.common.outputs import check_out
from lewm_hf.evaluation.common.plots import COLORS, figure
from lewm_hf.evaluation.common.results import read_result
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.files import write_atomic
from lewm_hf.planning import Planner, load_planner
from lewm_hf.planning.solvers import Solver, solver_names, solver_settings
from lewm_hf.scripts import run_script, script_parser

POINTS = ("16x2", "32x3", "128x3", "100x8", "300x10", "300x30")
# Without proposal the search starts anywhere; with it, close to where the actor would go.
BASES = {"none": "goal-time", "actor": "actor-guided"}
GRADIENT_STEPS = 30
# The paper's solvers on PushT (table 10): CEM as released, and 30 steps of each optimizer from 100 starts.
TABLE_10 = {
    "CEM": {"solver": "cem", "samples": 300, "iterations": 30, "elites": 30},
    **{
        name: {"solver": "gradient", "samples": 100, "iterations": 30, "optimizer": name.lower()}
        for name in ("SGD", "RMSProp", "Adam")
    },
}


def settings_of(name: str, samples: int, iterations: int) -> dict[str, Any]:
    """Settings with which a solver asks for about `samples * iterations` roll-outs."""
    total = samples * iterations
    if name == "random":
        return {"samples": total, "iterations": 1}
    if name == "gradient":
        steps = min(GRADIENT_STEPS, max(1, total // 8))
        return {"samples": max(1, total // steps), "iterations": steps}
    settings = {"samples": samples, "iterations": iterations}
    if "elites" in solver_settings(name):
        settings["elites"] = max(2, samples // 8)
    if name == "hybrid":
        settings["refined"] = min(4, settings["elites"])
    return settings


def rollouts(solver: Solver) -> int:
    """Candidates that a solver asks the costs of, for one plan: counted."""
    asked = 0

    def objective(candidates: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += candidates.shape[1]
        return candidates.square().sum((2, 3))

    def noise(iteration: int, color: float = 0.0) -> torch.Tensor:
        return torch.randn(1, solver.samples, 2, 2, generator=torch.Generator().manual_seed(iteration))

    solver(objective, torch.zeros(1, 2, 2), noise)
    return asked


def planned_points(solvers: list[str], points: list[str], proposals: list[str]) -> Iterator[tuple[str, str, Planner]]:
    """Solver, proposal and planner of every point, cheap ones first.

    Raises:
        ValueError: for a point that is not SAMPLESxITERATIONS.
    """
    sizes = []
    for point in points:
        first, _, second = point.partition("x")
        if not (first.isdigit() and second.isdigit() and int(first) > 1 and int(second) > 0):
            raise ValueError(f"point {point!r} is not SAMPLESxITERATIONS, like 300x30, with 2 samples at least")
        sizes.append((int(first), int(second)))
    for samples, iterations in sorted(sizes, key=lambda size: size[0] * size[1]):
        for proposal in proposals:
            for name in solvers:
                base = load_planner(BASES[proposal])
                yield name, proposal, base.override({"solver": name, **settings_of(name, samples, iterations)})


def measure(model: Path, planner: Planner, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The content of `results.json` of one point, measured unless it was before.

    Raises:
        ValueError: where the folder holds another evaluation.
    """
    if (folder / "results.json").exists():
        found = read_result(folder)
        asked = (planner.hash, args.n, args.seeds)
        held = (found["planner"]["hash"], found["manifests"][0]["n"], [one["seed"] for one in found["manifests"]])
        if held != asked:
            raise ValueError(f"{folder} holds an evaluation of {held}, not of {asked}: give another --out")
        return found
    return evaluate(
        str(model), episodes=args.episodes, protocol=args.protocol, planner=planner, n=args.n, seeds=args.seeds,
        out=folder, floors=False, progress=True,
    ).result  # fmt: skip


def curves(models: list[Path], args: argparse.Namespace) -> None:
    points, chosen = [], list(planned_points(args.solvers, args.points, args.proposals))
    for model in models:
        can_propose = LeWMConfig.from_pretrained(model).has_actor
        if not can_propose and "actor" in args.proposals:
            logging.info("%s has no actor: no curves with its proposal", model)
        for name, proposal, planner in chosen:
            if proposal == "actor" and not can_propose:
                continue
            count = rollouts(planner.solver)
            found = measure(model, planner, args.out / model.name / f"{name}-{proposal}-{count}", args)
            points.append({
                "model": model.name, "solver": name, "proposal": proposal, "rollouts": count,
                "planner": planner.to_dict(), "success": found["success"],
                "seconds_per_plan": found["planning"]["seconds_per_plan"],
            })  # fmt: skip
            success = found["success"]
            print(f"{model.name} {name} {proposal} {count}: {success['rate']:.3f} of {success['n']}", flush=True)
            record = {"protocol": found["protocol"]["label"], "hardware": found["hardware"], "points": points}
            write_atomic(args.out / "curves.json", json.dumps(record, indent=1) + "\n")
            draw(args.out / f"{model.name}.png", [point for point in points if point["model"] == model.name])


def draw(path: Path, points: list[dict[str, Any]]) -> None:
    """Success over roll-outs, a panel per proposal, with Wilson intervals."""
    from matplotlib import ticker

    proposals = list(dict.fromkeys(point["proposal"] for point in points))
    names = sorted({point["solver"] for point in points})
    with figure(path, 4.2 * len(proposals), 3.2, ncols=len(proposals), sharey=True, squeeze=False) as axes:
        for axis, proposal in zip(axes[0], proposals, strict=True):
            for number, name in enumerate(names):
                color = COLORS[number % len(COLORS)]  # more solvers than colors share them: none is left out
                of_solver = [p for p in points if (p["solver"], p["proposal"]) == (name, proposal)]
                if not of_solver:
                    continue
                of_solver.sort(key=lambda point: point["rollouts"])
                counts = [point["rollouts"] for point in of_solver]
                low, high = zip(*(point["success"]["interval"] for point in of_solver), strict=True)
                axis.plot(
                    counts, [point["success"]["rate"] for point in of_solver], "o-", ms=3, color=color, label=name
                )
                axis.fill_between(counts, low, high, color=color, alpha=0.1, lw=0)
            axis.set(xscale="log", xlabel="roll-outs of a plan", ylim=(0, 1))
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(ticker.NullFormatter())
            axis.set_title("from the actor's proposal" if proposal == "actor" else "by search alone")
        axes[0][0].set_ylabel("success")
        axes[0][0].legend()


def table_10(models: list[Path], args: argparse.Namespace) -> None:
    """Mean and population std over the seeds, in %, as the paper prints it."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, changes in TABLE_10.items():
        rows[name] = []
        for model in models:
            planner = load_planner("paper").override(changes)
            found = measure(model, planner, args.out / model.name / f"table10-{name.lower()}", args)
            rates = torch.tensor([100 * seed["rate"] for seed in found["per_seed"]], dtype=torch.float64)
            rows[name].append({"mean": float(rates.mean()), "std": float(rates.std(correction=0)), **found["success"]})
        print(f"{name}: " + ", ".join(f"{cell['mean']:.1f} ± {cell['std']:.1f}" for cell in rows[name]), flush=True)
    lines = [f"| {' | '.join(['', *(model.name for model in models)])} |", "|---" * (len(models) + 1) + "|"]
    for name, cells in rows.items():
        shown = [f"{cell['mean']:.1f} ± {cell['std']:.1f}" for cell in cells]
        lines.append(f"| {' | '.join([name, *shown])} |")
    write_atomic(args.out / "table10.md", "\n".join(lines) + "\n")
    write_atomic(args.out / "table10.json", json.dumps(rows, indent=1) + "\n")
    print("\n".join(lines))


def measure_all(args: argparse.Namespace) -> None:
    check_out(args.out)
    (table_10 if args.table10 else curves)(args.models, args)


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="folders of checkpoints")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table10", action="store_true", help="the paper's solver table instead of curves")
    drawing = [name for name in solver_names() if "samples" in solver_settings(name)]  # others have one point only
    parser.add_argument("--solvers", nargs="+", choices=drawing, default=drawing)
    parser.add_argument("--points", nargs="+", default=list(POINTS), metavar="SAMPLESxITERATIONS")
    parser.add_argument("--proposals", nargs="+", choices=list(BASES), default=list(BASES))
    parser.add_argument("--episodes", help="data set to draw pairs from; default: the pairs that ship with the package")
    parser.add_argument("--protocol", default="clean")
    parser.add_argument("-n", type=int, default=50, help="pairs per seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    return run_script(parser, measure_all, argv)


if __name__ == "__main__":
    sys.exit(main())
