"""The systems that LeWM is measured against, in one run: same data, steps, encoder and problems.

    python eval/compare_systems.py two_room push_t --out runs/comparison
    python eval/compare_systems.py two_room --systems lewm pldm gcbc --seeds 0 --pairs 30 --out runs/few

Collects episodes, trains every system from the task's mini recipe, evaluates all of them on the same held-out pairs
(goals 25, 50 and 100 steps away, and goals of other episodes, which no behavior in the data pursued), probes them,
shows them impossible events, and writes OUT/TASK/rows.json and, of all tasks that have one there, OUT/comparison.json,
comparison.md and comparison.png. What is finished is not done again: the same command continues after an interruption,
and two tasks may be compared by two commands at once.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.common.results import read_result, read_rows
from lewm_hf.evaluation.probe.run import probe
from lewm_hf.evaluation.success.manifest import Manifest, sample_manifest
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.evaluation.surprise.run import surprise
from lewm_hf.files import write_atomic
from lewm_hf.measures.intervals import mcnemar, paired_difference_interval, wilson_interval
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.tasks.registry import make_env
from lewm_hf.training.arguments import known_keys, read_recipe

ROOT = Path(__file__).resolve().parents[1]
# Recipe, episodes and steps of a training; the recipe's own steps would be 40 minutes of a core each on PushT.
TASKS = {"two_room": ("tworoom-mini", 800, 1000), "push_t": ("pusht-mini", 700, 800)}
# Environment steps to the goal, and the budget under which it has to be reached.
GOALS = {"25": (25, 50), "50": (50, 100), "100": (100, 200), "other": (50, 100)}
PLANNER = "small"
BASELINE = "LeWM"  # the row that the others are compared with, problem by problem


@dataclass(frozen=True)
class System:
    """One way to train, and the ways to act with what comes out.

    Args:
        acts: `evaluate`'s arguments by the name of the row.
        changes: recipe keys beside those of the task.
        backbone: another system whose checkpoint is the frozen encoder.
    """

    acts: Mapping[str, Mapping[str, Any]]
    changes: Mapping[str, Any] = field(default_factory=dict)
    backbone: str | None = None


PLANS, IMITATES = {"planner": PLANNER}, {"policy": "actor"}
# A task's recipe may have terms of its own beside LeWM's two: here each is a row.
PLAIN = {"inverse_weight": 0.0, "actor_weight": 0.0, "rollout_weight": 0.0}
INVERSE = {"inverse_weight": 0.2}
CLONING = {"model_type": "goal_imitation", "actor_hidden_size": 256}
SYSTEMS = {
    "lewm": System({"LeWM": PLANS, "random actions": {"policy": "random"}, "zero actions": {"policy": "zero"}}),
    "lewm-inverse": System({"LeWM + inverse dynamics": PLANS}, INVERSE),
    "lewm-actor": System(
        {
            "LeWM + actor: actor alone": IMITATES,
            "LeWM + actor: CEM alone": PLANS,
            "LeWM + actor: CEM from the actor": {"planner": "actor-guided"},
        },
        INVERSE | {"actor_weight": 0.5, "actor_inputs": "features"},
    ),
    "pldm": System({"PLDM": PLANS}, {"model_type": "pldm"}),
    # Chosen among five on validation pairs of TwoRoom: the paper's coefficients are those of 192 dimensions.
    "pldm-chosen": System(
        {"PLDM, coefficients chosen": PLANS},
        {"model_type": "pldm", "std_weight": 9.0, "cov_weight": 6.0, "similarity_weight": 0.7},
    ),
    "imagenet": System(
        {"frozen ImageNet features": PLANS},
        {
            "model_type": "dino_wm", "backbone": "efficientnet-lite0", "num_patches": 16, "feature_size": 112,
            "predictor_layers": 2, "predictor_heads": 4, "predictor_head_dim": 32, "predictor_mlp_size": 256,
            "learning_rate": 5e-4,
        },
    ),
    "gcbc": System({"GCBC from pixels": IMITATES}, CLONING),
    "gc-idm": System({"GC-IDM on LeWM": IMITATES}, CLONING, "lewm"),
    "gc-idm-pldm": System({"GC-IDM on PLDM": IMITATES}, CLONING, "pldm"),
    "gc-idm-random": System({"GC-IDM on a random encoder": IMITATES}, CLONING | {"pretrained": False}, "lewm"),
    "gc-idm-imagenet": System(
        {"GC-IDM on ImageNet features": IMITATES}, CLONING | {"backbone": "efficientnet-lite0"}
    ),
}  # fmt: skip


def recipe_of(task: str, system: System, folder: Path, seed: int) -> dict[str, Any]:
    """The task's mini recipe with a system's changes, less what its kind of model does not know."""
    known = known_keys(system.changes.get("model_type", "lewm"))
    values = {key: value for key, value in read_recipe(TASKS[task][0]).items() if key in known}
    values |= {key: value for key, value in PLAIN.items() if key in known} | dict(system.changes) | {"seed": seed}
    if system.backbone:
        values["backbone"] = str(folder.parent.parent / system.backbone / f"seed-{seed}" / "last")
    return values | {"eval_pairs": 0, "eval_every": None}  # all are judged at their end, and by the same pairs


def train(task: str, name: str, folder: Path, episodes: Path, seed: int, steps: int | None) -> dict[str, Any]:
    """Trains one system unless that is done, and returns the facts of its training."""
    facts = folder / "last" / "training.json"
    values = recipe_of(task, SYSTEMS[name], folder, seed)
    values["max_steps"] = steps or TASKS[task][2]
    if not facts.is_file() or json.loads(facts.read_text(encoding="utf-8"))["steps"] < values["max_steps"]:
        folder.parent.mkdir(parents=True, exist_ok=True)
        recipe = folder.parent / f"seed-{seed}.yaml"
        recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
        command = [sys.executable, str(ROOT / "training" / "train.py"), str(recipe)]
        command += ["--dataset", str(episodes), "--output_dir", str(folder)]
        subprocess.run([*command, *(["--resume"] if (folder / "recipe.yaml").exists() else [])], check=True)
    return json.loads(facts.read_text(encoding="utf-8"))


def problems(episodes, goals: str, pairs: int, seeds: Sequence[int]) -> tuple[Any, list[Manifest]]:
    """The protocol and the pairs of one kind of goal, for every system the same."""
    offset, budget = GOALS[goals]
    protocol = load_protocol("clean", {"goal_offset": offset, "budget": budget})
    manifests = [sample_manifest(episodes, protocol, pairs, seed) for seed in seeds]
    if goals == "other":
        protocol = load_protocol("clean", {"goal_offset": offset, "budget": budget, "deadline": False})
        manifests = [swap_goals(manifest) for manifest in manifests]
    return protocol, manifests


def swap_goals(manifest: Manifest) -> Manifest:
    """Every start with the goal of another episode: the first one, from half of the list further on, that is not yet
    reached there."""
    env = make_env(manifest.env_id, **manifest.env_kwargs)
    env.reset(seed=0, options={"goal_image": False})
    pairs, count = manifest.pairs, len(manifest)
    swapped = []
    for index, pair in enumerate(pairs):
        others = [pairs[(index + count // 2 + step) % count] for step in range(count)]
        others = [other for other in others if other.episode != pair.episode]
        goals = np.array([other.goal_state for other in others])
        reached = env.reached(np.broadcast_to(np.array(pair.start_state), goals.shape), goals)
        swapped.append(dataclasses.replace(pair, goal_state=others[int(np.argmin(reached))].goal_state))
    env.close()
    return dataclasses.replace(manifest, pairs=tuple(swapped))


def act(checkpoint: Path, episodes, out: Path, goals: str, pairs: int, seeds: Sequence[int], how: Mapping) -> dict:
    """Success of one row on one kind of goal, measured unless it was before.

    Raises:
        ValueError: where `out` holds an evaluation of other pairs.
    """
    if not (out / "results.json").is_file():
        protocol, manifests = problems(episodes, goals, pairs, seeds)
        # Swapped goals are pictures of other episodes than the pairs name: they are rendered.
        evaluate(
            checkpoint, episodes=None if goals == "other" else episodes, manifest=manifests, protocol=protocol,
            out=out, floors=False, **how,
        )  # fmt: skip
    result = read_result(out)
    held, asked = [(one["seed"], one["n"]) for one in result["manifests"]], [(seed, pairs) for seed in seeds]
    if held != asked:
        raise ValueError(f"{out} holds an evaluation of (seed, pairs) {held}, not of {asked}: give another --out")
    outcomes = {(row.seed, row.episode, row.start): row.success for row in read_rows(out)}
    return {"outcomes": outcomes, "seconds_per_plan": result["planning"]["seconds_per_plan"]}


def look(checkpoint: Path, episodes: Path, out: Path, plans: bool) -> dict[str, float | None]:
    """Mean R2 of MLP probes on single frames, and the AUC of teleports; the latter of what can predict."""
    if not (out / "probe" / "probe.json").is_file():
        probe(checkpoint, episodes, out=out / "probe", probes=["mlp"], seeds=(0, 1), frames=2000, controls=False)
    rows = json.loads((out / "probe" / "probe.json").read_text(encoding="utf-8"))["rows"]
    scores = [row["r2"] for row in rows if row["representation"] == "projected" and row["input"] == "frame"]
    if plans and not (out / "surprise" / "surprise.json").is_file():
        surprise(checkpoint, episodes=episodes, out=out / "surprise", trajectories=40)
    auc = None
    if plans:
        found = json.loads((out / "surprise" / "surprise.json").read_text(encoding="utf-8"))
        auc = found["events"]["teleport"]["at_event"]["roc_auc"]
    return {"probe_r2": statistics.mean(scores), "teleport_auc": auc}


def against(first: Sequence[bool], second: Sequence[bool]) -> dict[str, float]:
    """How a row differs from the first one, problem by problem: the difference, its 95 % interval, McNemar's p."""
    low, high = paired_difference_interval(first, second)
    difference = sum(first) / len(first) - sum(second) / len(second)
    return {"difference": difference, "low": low, "high": high, "p": mcnemar(first, second).p_value}


def compare_task(task: str, arguments) -> list[dict[str, Any]]:
    """All rows of one task."""
    folder = arguments.out / task
    episodes = folder / "episodes"
    if not (episodes / "episodes.json").exists():
        collect(task, episodes, arguments.episodes or TASKS[task][1], seed=0, image_size=64, test_fraction=0.3)
    held_out = load_episodes(episodes, "test")
    rows: list[dict[str, Any]] = []
    plain: dict[str, list[bool]] = {}
    for name in arguments.systems:
        system, trained, looked = SYSTEMS[name], [], []
        for seed in arguments.seeds:
            run = folder / name / f"seed-{seed}"
            trained.append(train(task, name, run, episodes, seed, arguments.steps))
            plans = any("planner" in how for how in system.acts.values())
            looked.append(look(run / "last", episodes, folder / name / f"looks-{seed}", plans))
        for row, how in system.acts.items():
            success: dict[str, dict[str, Any]] = {}
            seconds = []
            for goals in arguments.goals:
                outcomes: list[bool] = []
                rates: list[float] = []
                for seed in arguments.seeds:
                    out = folder / name / "acts" / f"{row}-{goals}-{seed}".replace(" ", "_")
                    found = act(
                        folder / name / f"seed-{seed}" / "last", held_out, out, goals, arguments.pairs,
                        arguments.pair_seeds, how,
                    )  # fmt: skip
                    of_seed = [found["outcomes"][problem] for problem in sorted(found["outcomes"])]
                    outcomes += of_seed
                    rates.append(sum(of_seed) / len(of_seed))
                    seconds.append(found["seconds_per_plan"])
                low, high = wilson_interval(sum(outcomes), len(outcomes))
                success[goals] = {
                    "rate": sum(outcomes) / len(outcomes), "low": low, "high": high, "n": len(outcomes),
                    "per_seed": rates,
                }  # fmt: skip
                if row != BASELINE and goals in plain:
                    success[goals]["against"] = against(outcomes, plain[goals])
                elif row == BASELINE:
                    plain[goals] = outcomes
            rows.append({
                "task": task, "system": name, "row": row, "success": success,
                "seconds_per_plan": statistics.median([s for s in seconds if s] or [0.0]),
                "parameters": trained[0]["parameters"], "steps": trained[0]["steps"],
                "training_seconds": statistics.mean(facts["seconds"] for facts in trained),
                "windows_per_second": statistics.mean(
                    facts["steps"] * facts["recipe"]["batch_size"] / facts["seconds"] for facts in trained
                ),
                **{key: _mean([one[key] for one in looked]) for key in ("probe_r2", "teleport_auc")},
                "hardware": trained[0]["hardware"], "versions": trained[0]["versions"],
            })  # fmt: skip
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def table(rows: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> str:
    """Markdown, one line per row; a star where a row differs from plain LeWM's on the same problems, p < 0.05."""
    heads = [*(f"goals {name}" for name in goals), "s / plan", "probe R2", "teleport AUC", "parameters", "windows/s"]
    lines = [f"| task | system | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 2)]
    for row in rows:
        cells = [rate_cell(row["success"].get(name)) for name in goals]
        cells.append(f"{row['seconds_per_plan']:.3f}")
        cells += ["" if row[key] is None else f"{row[key]:.2f}" for key in ("probe_r2", "teleport_auc")]
        cells += [f"{row['parameters']:,}", f"{row['windows_per_second']:.0f}"]
        lines.append(f"| {row['task']} | {row['row']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rate_cell(found: Mapping[str, Any] | None, seeds: bool = False) -> str:
    """Success in %, its interval, and a star where it differs from plain LeWM's on the same problems, p < 0.05.

    Args:
        seeds: also the rate of each training seed, where there are several.
    """
    if found is None:
        return "-"
    star = "*" if found.get("against", {"p": 1})["p"] < 0.05 else ""
    apart = found["per_seed"] if seeds and len(found["per_seed"]) > 1 else []
    each = f"; {', '.join(f'{100 * rate:.0f}' for rate in apart)}" if apart else ""
    return f"{100 * found['rate']:.0f}{star} ({100 * found['low']:.0f}-{100 * found['high']:.0f}{each})"


def draw(path: Path, rows: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> None:
    """Success by kind of goal, one panel per task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(6 * len(tasks), 0.45 * len(rows) + 1.5), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        shown = [row for row in rows if row["task"] == task]
        for place, name in enumerate(goals):
            measured = [(index, row["success"][name]) for index, row in enumerate(shown) if name in row["success"]]
            rates = [one for _, one in measured]
            heights = [index + 0.8 * place / len(goals) for index, _ in measured]
            errors = [[one["rate"] - one["low"] for one in rates], [one["high"] - one["rate"] for one in rates]]
            axis.barh(heights, [one["rate"] for one in rates], 0.8 / len(goals), xerr=errors, label=f"goals {name}")
        axis.set(title=task, xlim=(0, 1), xlabel="success", yticks=range(len(shown)))
        axis.set_yticklabels([row["row"] for row in shown])
        axis.invert_yaxis()
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def compare_all(arguments: argparse.Namespace) -> int:
    """The exit status: that of a training that failed, else 0.

    Raises:
        ValueError, OSError: one line.
    """
    for name in arguments.systems:
        needed = SYSTEMS[name].backbone
        if needed and needed not in arguments.systems[: arguments.systems.index(name)]:
            raise ValueError(f"{name} stands on {needed}: name {needed} before it in --systems")
    try:
        for task in arguments.tasks:
            found = compare_task(task, arguments)
            write_atomic(arguments.out / task / "rows.json", json.dumps(found, indent=1) + "\n")
    except subprocess.CalledProcessError as error:  # the training has said why
        return error.returncode
    files = [arguments.out / task / "rows.json" for task in TASKS]
    rows = [row for file in files if file.is_file() for row in json.loads(file.read_text(encoding="utf-8"))]
    goals = [name for name in GOALS if any(name in row["success"] for row in rows)]
    write_atomic(arguments.out / "comparison.json", json.dumps(rows, indent=1) + "\n")
    write_atomic(arguments.out / "comparison.md", table(rows, goals))
    draw(arguments.out / "comparison.png", rows, goals)
    print(table(rows, goals))
    print(*(arguments.out / name for name in ("comparison.json", "comparison.md", "comparison.png")), sep="\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("tasks", nargs="+", choices=TASKS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--goals", nargs="+", choices=GOALS, default=list(GOALS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="of the trainings")
    parser.add_argument("--pairs", type=int, default=50, help="problems per seed of the pairs")
    parser.add_argument("--pair-seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--episodes", type=int, help="default: the task's")
    parser.add_argument("--steps", type=int, help="of a training; default: the task's")
    return run_script(parser, compare_all, argv)


if __name__ == "__main__":
    sys.exit(main())
