"""The tables of README and docs: checkpoints that ship, the demo, comparisons, from the result files in the repository.

python eval/readme_tables.py            # writes them between their markers
python eval/readme_tables.py --check    # exit status 1 where a number there is not the files'
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from any_goal import RESETS
from compare_systems import rate_cell

from lewm_hf.evaluation.common.results import read_result
from lewm_hf.evaluation.success.result import EvaluationResult

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CARDS = ROOT / "model_cards"
DEMO = ROOT / "docs" / "demo"  # results.json of `make demo`, one folder for each protocol
MEASURED = ROOT / "docs" / "measurements"  # what eval/bench_planning.py and training/bench_data.py wrote
SHIPPED = ("lewm-tworoom-mini", "lewm-pusht-mini", "lewm-reacher-mini", "lewm-cube-mini", "lewm-tworoom")
# Who acts, best first, and what the table calls it.
COLUMNS = {
    "actor-guided": "search guided by an actor", "actor-guided-fast": "the best of eight plans of an actor",
    "actor": "actor alone", "goal-time-small": "search, goal-time",
    "goal-time-close": "search, goal-time, down to one block",
    "paper": "the paper's planner", "small": "the paper's, a tenth of the candidates",
}  # fmt: skip
TASK_ORDER = ("TwoRoom", "PushT", "Reacher", "Cube")
BEGIN, END = "<!-- {name}: python eval/readme_tables.py -->", "<!-- end of {name} -->"


def shipped_results(checkpoint: Path) -> list[EvaluationResult]:
    """All evaluations of one checkpoint, read from the files below its folder."""
    return [read_result(path) for path in sorted((checkpoint / "evaluation").rglob("results.json"))]


def find(results: Sequence[EvaluationResult], protocol: str, offset: int, planner: str) -> EvaluationResult | None:
    """The evaluation under these circumstances, nothing overridden but the goal's distance and the number of pairs."""
    for result in results:
        rules, acts = result["protocol"], result["planner"]
        free = {"goal_offset", "budget", "pairs", "seeds"}
        if (
            (rules["name"], rules["goal_offset"], acts["name"]) == (protocol, offset, planner)
            and not set(rules["overrides"]) - free
            and not acts["overrides"]
        ):
            return result
    return None


def cell(success: dict | None, strong: bool = False, usual: int | None = None) -> str:
    """A rate and its interval, and how many pairs it is of where that is not as `usual`."""
    if success is None:
        return "-"
    number = f", n = {success['n']}" if usual not in (None, success["n"]) else ""
    low, high = (100 * bound for bound in success["interval"])
    rate = f"{100 * success['rate']:.1f} %"
    return (f"**{rate}**" if strong else rate) + f" ({low:.1f}-{high:.1f}{number})"


def link(name: str) -> str:
    return f"[{name}](model_cards/{name})"


def checkpoints() -> list[tuple[str, list[EvaluationResult]]]:
    return [(name, shipped_results(CARDS / name)) for name in SHIPPED if (CARDS / name / "model.safetensors").is_file()]


def success_table() -> str:
    """Goals 25 steps ahead under `clean`, one column for each way of acting that was measured."""
    rows = checkpoints()
    used = [c for c in COLUMNS if any(find(results, "clean", 25, c) for _, results in rows)]
    lines = [
        "| checkpoint | n | " + " | ".join(COLUMNS[c] for c in used) + " | random policy |",
        "|---|---|" + "---|" * (len(used) + 1),
    ]
    for name, results in rows:
        found = {c: find(results, "clean", 25, c) for c in used}
        best = max((r["success"]["rate"] for r in found.values() if r), default=0)
        shown = next(r for r in found.values() if r)
        cells = [
            cell(r["success"], r["success"]["rate"] == best, shown["success"]["n"]) if r else "-"
            for r in (found[c] for c in used)
        ]
        lines.append(
            f"| {link(name)} | {shown['success']['n']} | {' | '.join(cells)} | {cell(shown['floors']['random'])} |"
        )
    return "\n".join(lines)


def distance_table() -> str:
    """Each checkpoint under `paper`, and for goals farther away under `clean`, with its best way of acting."""
    lines = [
        "| checkpoint | who acts | `paper`, 25 steps | random | `clean`, 50 steps | random | `clean`, 100 steps "
        "| random |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, results in checkpoints():
        for planner in COLUMNS:
            found = [find(results, "paper", 25, planner), find(results, "clean", 50, planner),
                     find(results, "clean", 100, planner)]  # fmt: skip
            if any(found):
                cells = " | ".join(
                    f"{cell(r and r['success'])} | {cell(r and r['floors'].get('random'))}" for r in found
                )
                lines.append(f"| {link(name)} | {COLUMNS[planner]} | {cells} |")
    return "\n".join(lines)


def demo_table() -> str:
    """What one run of `make demo` found."""
    lines = [
        "| protocol | success | random policy | zero actions | solved at the start | s/plan | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    for folder in sorted(DEMO.iterdir(), reverse=True):
        result = read_result(folder)
        floors = result["floors"]
        cells = [
            f"`{result['protocol']['name']}`, held-out episodes, n = {result['success']['n']}",
            cell(result["success"], True), cell(floors["random"]), f"{100 * floors['zero_action']['rate']:.1f} %",
            f"{100 * result['solved_at_start']['share']:.1f} %", f"{result['planning']['seconds_per_plan']:.2f}",
            result["hardware"]["device_name"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def planning_table() -> str:
    """One plan of the released size beside a planner that computes as the reference implementation does."""
    files = [MEASURED / f"planning-{processor}.json" for processor in ("amd", "intel")]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    first = found[0]["rows"][0]
    search = f"{first['samples']} x {first['iterations']}, horizon {found[0]['horizon']}, {found[0]['threads']} threads"
    lines = [f"| {search} | precision | s/plan | of matmul peak | reference, the same precision | ratio |"]
    lines.append("|---" * 6 + "|")
    for machine, row in ((one, row) for one in found for row in one["rows"]):
        lines.append(
            f"| {machine['processor'].partition(' (family')[0]} | {row['variant']} | {row['ms_per_plan'] / 1000:.1f} "
            f"| {100 * row['share_of_peak']:.0f} % | {row['against_ms_per_plan'] / 1000:.1f} s "
            f"| **{row['ratio']:.2f}x** |"
        )
    return "\n".join(lines)


def problems_table() -> str:
    """Milliseconds a plan of a small checkpoint, alone and among fifty, on one core and on two."""
    variants = ("fp32", "bf16")
    files = [MEASURED / f"planning-pusht-mini-{threads}.json" for threads in (1, 2)]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    processor = found[0]["processor"].partition(" (family")[0]
    lines = [f"| {processor}, ms a plan | {' | '.join(variants)} |", "|---" * (len(variants) + 1) + "|"]
    for problems in (1, 50):
        for machine in found:
            times = {row["variant"]: row["ms_per_plan"] for row in machine["rows"] if row["problems"] == problems}
            threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
            asked = "1 problem" if problems == 1 else f"{problems} problems"
            lines.append(f"| {asked}, {threads} | {' | '.join(f'{times[name]:.0f}' for name in variants)} |")
    return "\n".join(lines)


LOADERS = {
    "HDF5 with Blosc": "HDF5 with Blosc, the released layout", "datasets, as documented": "`datasets`, as documented",
    "datasets, only what is used": "`datasets`, decoding only what is used",
    "decode, 0 workers": "this package, decoding", "memmap, cold": "this package, memory map, cold",
    "ram, 0 workers": "this package, frames in memory",
}  # fmt: skip


def loader_table() -> str:
    """Training windows per second of CPU time and core."""
    tasks = {"two_room": "TwoRoom", "push_t": "PushT"}
    found = [json.loads((MEASURED / f"loader-{task}.json").read_text(encoding="utf-8")) for task in tasks]
    lines = [f"| windows/s of one core, 224 px | {' | '.join(tasks.values())} |", "|---|---|---|"]
    for key, label in LOADERS.items():
        rates = [f"{one['windows_per_second'][key]:,.0f}" for one in found]
        lines.append(f"| {label} | {' | '.join(rates)} |")
    return "\n".join(lines)


def training_table() -> str:
    """Windows per second of a training step, the small recipes' and the released size's."""
    found = [json.loads((MEASURED / f"training-{name}.json").read_text(encoding="utf-8")) for name in ("mini", "full")]
    machine = f"{found[0]['machine']['device_name']}, {found[0]['threads']} threads"
    lines = [f"| {machine} | parameters | precision | batch | windows/s | reference's step |"]
    lines.append("|---" * 6 + "|")
    for row in (row for one in found for row in one["rows"]):
        precision = {"bf16_encoder": "bf16 in the encoder"}.get(row["variant"], row["variant"])
        ratio = f"**{row['ratio']:.2f}x** as fast" if row["ratio"] else "-"
        lines.append(
            f"| {RECIPES_TIMED[row['size']]} | {row['parameters'] / 1e6:.1f} M | {precision} | {row['batch_size']} "
            f"| {row['windows_per_second']:,.0f} | {ratio} |"
        )
    return "\n".join(lines)


# The sizes of training/bench_training.py.
RECIPES_TIMED = {
    "mini": "`tworoom-mini`", "pusht-mini": "`pusht-mini`", "cube-mini": "`cube-mini`", "full": "released size, 224 px"
}  # fmt: skip


def decisions_table() -> str:
    """Milliseconds of one core from a picture to the actions of the next block, a column per checkpoint."""
    found = json.loads((MEASURED / "decisions.json").read_text(encoding="utf-8"))
    times = {(row["checkpoint"], row["planner"]): row["ms_per_decision"] for row in found["rows"]}
    names = [name for name in SHIPPED if any(checkpoint == name for checkpoint, _ in times)]
    machine = f"{found['processor'].partition(' (family')[0]}, {found['threads']} thread"
    lines = [f"| {machine}, ms | {' | '.join(map(link, names))} |", "|---" * (len(names) + 1) + "|"]
    for planner in dict.fromkeys(planner for _, planner in times):
        cells = [f"{times[name, planner]:,.0f}" if (name, planner) in times else "-" for name in names]
        lines.append(f"| {COLUMNS.get(planner, planner)} | {' | '.join(cells)} |")
    return "\n".join(lines)


GOALS = {"25": "25 steps away", "50": "50", "100": "100", "other": "of another episode"}  # of eval/compare_systems.py


def compared(task: str) -> list[dict]:
    found = json.loads((MEASURED / "comparison.json").read_text(encoding="utf-8"))
    return [row for row in found if row["task"] == task]


def systems_table() -> str:
    """Success of every compared system on both tasks, on goals that the behavior of the data pursued and on others."""
    tasks, goals = {"two_room": "TwoRoom", "push_t": "PushT"}, ("25", "other")
    found = {task: {row["row"]: row for row in compared(task)} for task in tasks}
    heads = [f"{name}, goals {GOALS[goal]}" for name in tasks.values() for goal in goals]
    lines = [f"| system | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in dict.fromkeys(name for rows in found.values() for name in rows):
        rates = [found[task].get(name, {"success": {}})["success"].get(goal) for task in tasks for goal in goals]
        lines.append(f"| {name} | {' | '.join(map(rate_cell, rates))} |")
    return "\n".join(lines)


def comparison_table(task: str) -> str:
    """All that one comparison measured of a task."""
    rows = compared(task)
    goals = [goal for goal in GOALS if any(goal in row["success"] for row in rows)]
    heads = [*(f"goals {GOALS[goal]}" for goal in goals), "s/plan", "probe R2", "teleport AUC", "parameters",
             "training, minutes"]  # fmt: skip
    lines = [f"| system | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        cells = [rate_cell(row["success"].get(goal), seeds=True) for goal in goals]
        if row["seconds_per_plan"]:
            cells.append(f"{row['seconds_per_plan']:.3f}")
            cells += ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("probe_r2", "teleport_auc")]
            cells += [f"{row['parameters']:,}", f"{row['training_seconds'] / 60:.1f}"]
        else:  # nobody plans
            cells += ["-"] * (len(heads) - len(goals))
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def world_models_table() -> str:
    """One plan of LeWM and of DINO-WM at their published sizes, and how many times as long the latter takes."""
    found = json.loads((MEASURED / "world_models.json").read_text(encoding="utf-8"))
    machine = f"{found['hardware']['device_name']}, {found['hardware']['torch_threads']} threads"
    ways = list(dict.fromkeys(row["way"] for row in found["rows"]))
    lines = [f"| {machine}, s/plan | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    seconds = {(row["model"], row["way"]): row["seconds_per_plan"] for row in found["rows"]}
    for model in ("LeWM", "DINO-WM"):
        lines.append(f"| {model} | {' | '.join(f'{seconds[model, way]:,.1f}' for way in ways)} |")
    ratios = (seconds["DINO-WM", way] / seconds["LeWM", way] for way in ways)
    lines.append(f"| ratio | {' | '.join(f'**{ratio:.0f}x**' for ratio in ratios)} |")
    return "\n".join(lines)


def no_deadline_table() -> str:
    """Success where nobody says when the goal is due, on pairs that nothing was trained on, a row for each distance,
    and one for goals that the environment draws."""
    found = {}
    for path in sorted((MEASURED / "no_deadline").glob("*.json")):
        result = read_result(path)
        task, planner = result["env"]["id"].partition("/")[2].partition("-v")[0], result["planner"]["name"]
        drawn, offset = result["dataset"]["fingerprint"] == RESETS, result["protocol"]["goal_offset"]
        found[task, drawn, offset, planner] = result["success"]
    planners = [name for name in COLUMNS if any(planner == name for *_, planner in found)]
    lines = [
        f"| goals | n | {' | '.join(COLUMNS[name] for name in planners)} |", "|---" * (len(planners) + 2) + "|",
    ]  # fmt: skip
    for key in sorted({key[:-1] for key in found}, key=lambda key: (TASK_ORDER.index(key[0]), *key[1:])):
        cells = [found.get((*key, planner)) for planner in planners]
        best = max(one["rate"] for one in cells if one)
        number = max(one["n"] for one in cells if one)
        shown = [cell(one, one is not None and one["rate"] == best, number) for one in cells]
        task, drawn, offset = key
        goals = f"{task}, anywhere" if drawn else f"{task}, {offset} steps away"
        lines.append(f"| {goals} | {number} | {' | '.join(shown)} |")
    return "\n".join(lines)


def pldm_table() -> str:
    """What PLDM's coefficients decide, on pairs that nothing was trained on."""
    rows = json.loads((MEASURED / "pldm.json").read_text(encoding="utf-8"))["rows"]
    lines = ["| std | cov | temporal similarity | validation pairs reached |", "|---|---|---|---|"]
    for row in rows:
        weights = (f"{row[name]:g}" for name in ("std_weight", "cov_weight", "similarity_weight"))
        success = row["success"]
        lines.append(f"| {' | '.join(weights)} | {cell(success)}: {success['successes']} of {success['n']} |")
    return "\n".join(lines)


def optimizers_table() -> str:
    """The paper's Table 10 on the checkpoint that ships: how a plan is optimized."""
    found = json.loads((MEASURED / "table10.json").read_text(encoding="utf-8"))
    paper = {"CEM": "96.0 ± 2.8", "SGD": "26 ± 4.3", "RMSProp": "67.3 ± 2.5", "Adam": "84 ± 7.1"}
    lines = ["| optimizer | success | over three seeds | the paper's, its own model |", "|---|---|---|---|"]
    for name, (found_of,) in found.items():
        reached = f"{cell(found_of)}: {found_of['successes']} of {found_of['n']}"
        lines.append(f"| {name} | {reached} | {found_of['mean']:.1f} ± {found_of['std']:.1f} | {paper[name]} |")
    return "\n".join(lines)


def seeds_table() -> str:
    """What the same recipe reaches with other training seeds, on the pairs of the checkpoint that ships."""
    recipes = json.loads((MEASURED / "training_seeds.json").read_text(encoding="utf-8"))["recipes"]
    lines = ["| recipe | who acts | the checkpoint that ships | other training seeds |", "|---|---|---|---|"]
    for recipe in recipes:
        name, first = f"lewm-{recipe['recipe']}", recipe["rows"][0]
        trained = json.loads((CARDS / name / "training.json").read_text(encoding="utf-8"))
        (ships,) = (
            row["success"]
            for row in shipped_results(CARDS / name)
            if row.acts == first["planner"]
            and [manifest["hash"] for manifest in row["manifests"]] == first["manifests"]
        )
        others = ", ".join(cell(row["success"]) for row in recipe["rows"])
        share = recipe["train_windows"] / trained["train_windows"]
        fewer = "" if share == 1 else f"; trained on {100 * share:.0f} % of the episodes"
        acts = COLUMNS[first["planner"].rpartition("-v")[0] or first["planner"]]
        lines.append(f"| {recipe['recipe']} | {acts} | {cell(ships)} | {others}{fewer} |")
    return "\n".join(lines)


TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    README: {
        "planning time": planning_table,
        "decisions": decisions_table,
        "loading": loader_table,
        "training steps": training_table,
        "what the demo found": demo_table,
        "success of the checkpoints": success_table,
        "training seeds": seeds_table,
        "farther goals": distance_table,
        "systems": systems_table,
    },
    ROOT / "docs" / "comparison.md": {
        "TwoRoom": partial(comparison_table, "two_room"),
        "PLDM": pldm_table,
        "PushT": partial(comparison_table, "push_t"),
        "planning time": world_models_table,
    },
    ROOT / "docs" / "planning.md": {
        "no deadline": no_deadline_table,
        "optimizers": optimizers_table,
        "problems at once": problems_table,
    },  # fmt: skip
}


def with_tables(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The text with every table made anew.

    Raises:
        ValueError: where a table has no place in the text.
    """
    for name, table in tables.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the text has no place for {name!r}: put {begin} and {end} where it belongs")
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for page, tables in TABLES.items():
        text = page.read_text(encoding="utf-8")
        made = with_tables(text, tables)
        if made != text:
            stale.append(page)
        if not check:
            page.write_text(made, encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
