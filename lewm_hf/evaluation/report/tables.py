"""The numbers of a page: results beside their floors, settings side by side, and what else decided them."""

from collections.abc import Callable, Sequence
from typing import Any

from ..success.result import EvaluationResult, Rate
from .evaluations import Shown


def beside_the_tables(one: Shown) -> dict[str, Any]:
    """What the page says about one evaluation outside the tables."""
    result = one.result
    split = {"test": "held-out episodes", "train": "training episodes"}[result.dataset.split]
    return {
        "title": one.title,
        "label": result.protocol["label"],
        "hash": result.protocol["hash"][:12],
        "pairs_from": "pairs that ship with the package" if result.pairs == "shipped" else split,
        "success": result.success,
        "random": result.floors.get("random"),
        "excess": result.excess.get("random"),
        "solved_at_start": result.solved_at_start.share,
    }


def results_table(shown: Sequence[Shown]) -> dict[str, list]:
    """Head and rows: success beside its floors, a row for each evaluation."""

    def interval(value: Rate) -> str:
        return f"{100 * value.rate:.1f} ({100 * value.interval[0]:.1f}–{100 * value.interval[1]:.1f})"

    rows = []
    for one in shown:
        result = one.result
        floors, test = result.floors, result.mcnemar_against_random
        rows.append(
            [
                one.title + (" (modified)" if result.protocol["overrides"] else ""),
                result.planner["label"],
                _pairs(result),
                interval(result.success),
                *(interval(floors[name]) if name in floors else "–" for name in ("random", "zero_action")),
                f"{100 * result.excess['random']:+.1f}" if "random" in floors else "–",
                f"{test.p_value:.1g}" if test else "–",
                f"{100 * result.solved_at_start.share:.1f}",
                f"{result.planning.seconds_per_plan:.3f}",
            ]
        )
    head = [
        "protocol",
        "planner",
        "pairs",
        "success, %",
        "random, %",
        "zero actions, %",
        "excess",
        "McNemar p",
        "solved at start, %",
        "s/plan",
    ]
    return {"head": head, "rows": rows}


def _pairs(result: EvaluationResult) -> str:
    n, distinct = result.success.n, result.distinct.pairs
    return str(n) if distinct == n else f"{n} ({distinct} distinct)"


def settings_table(
    shown: Sequence[Shown], kind: str, values_of: Callable[[EvaluationResult], dict[str, tuple[Any, bool]]]
) -> dict[str, Any]:
    """For each value of the protocols or planners its text in every result, and whether it differs from their file."""
    columns = [values_of(one.result) for one in shown]
    described = [one.result[kind] for one in shown]

    def text(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    def cell(column: dict[str, tuple[Any, bool]], name: str) -> tuple[str, bool]:
        value, changed = column.get(name, ("–", False))
        return text(value), changed

    names = dict.fromkeys(name for column in columns for name in column)
    return {
        "kind": kind,
        "heads": [f"{one.title} ({part['label']})" for one, part in zip(shown, described, strict=True)],
        "hashes": [part["hash"][:12] for part in described],
        "rows": [(name, [cell(column, name) for column in columns]) for name in names],
    }


def folded_tables(shown: Sequence[Shown], recipe: dict[str, Any]) -> list[tuple[str, list[str], list]]:
    """Tables that are folded at first: headline, head, rows."""
    details = []
    if shown:
        result = shown[0].result
        facts = {
            "model": result.model.source,
            "model fingerprint": result.model.fingerprint[:16],
            "data set fingerprint": result.dataset.fingerprint[:16],
            **{f"manifest hash, {one.title}": one.result.manifests[0].hash[:16] for one in shown},
            **{name.replace("_", " "): value for name, value in result.hardware.items()},
        }
        details.append(("Fingerprints and hardware", ["", ""], list(facts.items())))
        details.append(("Versions", ["library", "version"], list(result.versions.items())))
    if recipe:
        details.append(("Recipe and model", ["field", "value"], list(recipe.items())))
    return details
