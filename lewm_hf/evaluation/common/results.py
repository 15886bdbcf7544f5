"""A result that can be defended: rates with intervals, floors on the same pairs, and everything it depended on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...measures.intervals import mcnemar, wilson_interval
from ..success.protocol import content_hash
from .older_results import upgraded
from .outputs import read_object, write_atomic

FORMAT = 3
REQUIRED = (
    "protocol", "planner", "policy", "env", "model", "dataset", "pairs", "manifests", "success", "distinct", "floors",
    "planning", "films", "rows_hash",
)  # fmt: skip


@dataclass(frozen=True)
class EpisodeRow:
    """One line of `episodes.jsonl`.

    Args:
        seed, pair: which manifest, and the place in it.
        episode, start, goal_step: episode id of the data set; frames of start and goal.
        success, first_success_step: within the budget, and when (counted from 1).
        solved_at_start: the start already satisfies the success rule.
        steps: environment steps run.
        final_distance: of the last state from the goal, in the result's `distance_unit`; `None` where it is unknown.
        replans: plans made.
        random_success, zero_action_success: what the floors did on the same pair; `None` where they were not run.
        wall_time: this episode's share of its batch's seconds.
    """

    seed: int
    pair: int
    episode: int
    start: int
    goal_step: int
    success: bool
    first_success_step: int | None
    solved_at_start: bool
    steps: int
    final_distance: float | None
    replans: int
    random_success: bool | None
    zero_action_success: bool | None
    wall_time: float


def rate(outcomes: Sequence[bool]) -> dict[str, Any]:
    """Number, successes, rate and its 95 % Wilson interval, rates in [0, 1]."""
    successes, n = sum(map(bool, outcomes)), len(outcomes)
    return {"n": n, "successes": successes, "rate": successes / n, "interval": list(wilson_interval(successes, n))}


def score(rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    """Everything that follows from the rows alone.

    Returns:
        `success`; `distinct`, numbers of different pairs and episodes (seeds may draw the same ones); `floors` by name,
        `excess` over each of them and `mcnemar` against the random policy, where they
        were run; `solved_at_start`; `per_seed`.
    """
    outcomes = [row.success for row in rows]
    result: dict[str, Any] = {"success": rate(outcomes), "floors": {}, "excess": {}}
    for name in ("random", "zero_action"):
        floor = [getattr(row, f"{name}_success") for row in rows]
        if None in floor:
            continue
        result["floors"][name] = rate(floor)
        result["excess"][name] = result["success"]["rate"] - result["floors"][name]["rate"]
        if name == "random":
            result["mcnemar_against_random"] = vars(mcnemar(outcomes, floor))
    problems = {(row.episode, row.start) for row in rows}
    result["distinct"] = {"pairs": len(problems), "episodes": len({episode for episode, _ in problems})}
    solved = sum(row.solved_at_start for row in rows)
    result["solved_at_start"] = {"n": solved, "share": solved / len(rows)}
    steps = [row.first_success_step for row in rows if row.success]
    result["mean_steps_to_success"] = sum(steps) / len(steps) if steps else None
    result["per_seed"] = []
    for seed in dict.fromkeys(row.seed for row in rows):
        of_seed = [row for row in rows if row.seed == seed]
        entry = {"seed": seed, **rate([row.success for row in of_seed])}
        if "random" in result["floors"]:
            entry["random_rate"] = sum(row.random_success for row in of_seed) / len(of_seed)
        result["per_seed"].append(entry)
    return result


def rows_hash(rows: Sequence[EpisodeRow]) -> str:
    """SHA-256 of all rows without their wall times: equal for two runs that did the same."""
    return content_hash([{k: v for k, v in vars(row).items() if k != "wall_time"} for row in rows])


def write_rows(path: str | Path, rows: Sequence[EpisodeRow]) -> Path:
    """Writes one JSON object a line."""
    return write_atomic(path, "".join(json.dumps(vars(row)) + "\n" for row in rows))


def read_rows(path: str | Path) -> list[EpisodeRow]:
    """Reads `episodes.jsonl`, given the file or its folder.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: for a damaged line.
    """
    path = Path(path)
    path = path.parent / "episodes.jsonl" if path.suffix in (".json", ".jsonl") else path / "episodes.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: run `lewm eval ... --out {path.parent}` first")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(EpisodeRow(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{path}, line {number}, is no episode ({error}): run the evaluation again") from None
    return rows


def write_result(path: str | Path, result: dict[str, Any]) -> Path:
    """Writes `results.json`."""
    return write_atomic(path, json.dumps(result, indent=1, allow_nan=False) + "\n")


def read_result(path: str | Path) -> dict[str, Any]:
    """Reads `results.json`, given the file or its folder; those of format 2 come back in the form of today.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: for a damaged file or another format.
    """
    path = Path(path)
    path = path if path.suffix == ".json" else path / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: run `lewm eval ... --out {path.parent}` first")
    result = read_object(path, "run the evaluation again")
    if result.get("format") not in (2, FORMAT):
        raise ValueError(f"{path} has format {result.get('format')!r}, expected {FORMAT}: run the evaluation again")
    older = result["format"] == 2
    required = [name for name in REQUIRED if not older or name not in ("planner", "policy")]
    missing = [name for name in required if name not in result]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: run the evaluation again")
    if not older:
        return result
    try:
        return upgraded(result)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no protocol of format 2 ({error}): run the evaluation again") from error
