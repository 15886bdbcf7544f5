"""A result that can be defended: rates with intervals, floors on the same pairs, and everything it depended on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import write_atomic
from ...measures.intervals import mcnemar, wilson_interval
from ..success.protocol import content_hash
from ..success.result import Distinct, EvaluationResult, Rate, SeedRate, Share
from .older_results import upgraded
from .outputs import read_object


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


def rate(outcomes: Sequence[bool]) -> Rate:
    """Number, successes, rate and its 95 % Wilson interval, rates in [0, 1]."""
    successes, n = sum(map(bool, outcomes)), len(outcomes)
    return Rate(n=n, successes=successes, rate=successes / n, interval=wilson_interval(successes, n))


def score(rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    """Everything that follows from the rows alone: fields of `EvaluationResult`.

    Returns:
        `success`; `distinct`, numbers of different pairs and episodes (seeds may draw the same ones); `floors` by name,
        `excess` over each of them and `mcnemar_against_random`, where they were run; `solved_at_start`;
        `mean_steps_to_success`; `per_seed`.
    """
    outcomes = [row.success for row in rows]
    result: dict[str, Any] = {"success": rate(outcomes), "floors": {}, "excess": {}}
    for name in ("random", "zero_action"):
        floor = [getattr(row, f"{name}_success") for row in rows]
        if None in floor:
            continue
        result["floors"][name] = rate(floor)
        result["excess"][name] = result["success"].rate - result["floors"][name].rate
        if name == "random":
            result["mcnemar_against_random"] = mcnemar(outcomes, floor)
    problems = {(row.episode, row.start) for row in rows}
    result["distinct"] = Distinct(pairs=len(problems), episodes=len({episode for episode, _ in problems}))
    solved = sum(row.solved_at_start for row in rows)
    result["solved_at_start"] = Share(n=solved, share=solved / len(rows))
    steps = [row.first_success_step for row in rows if row.first_success_step is not None]
    result["mean_steps_to_success"] = sum(steps) / len(steps) if steps else None
    result["per_seed"] = []
    for seed in dict.fromkeys(row.seed for row in rows):
        of_seed = [row for row in rows if row.seed == seed]
        by_chance = None
        if "random" in result["floors"]:
            by_chance = sum(bool(row.random_success) for row in of_seed) / len(of_seed)
        found = rate([row.success for row in of_seed])
        result["per_seed"].append(SeedRate(**vars(found), seed=seed, random_rate=by_chance))
    return result


def rows_hash(rows: Sequence[EpisodeRow]) -> str:
    """SHA-256 of all rows without their wall times: equal for two runs that did the same."""
    return content_hash([{k: v for k, v in vars(row).items() if k != "wall_time"} for row in rows])


def outcomes_hash(rows: Sequence[EpisodeRow]) -> str:
    """SHA-256 of what came of each pair, in whatever order: success, when, and steps run.

    Unlike `rows_hash` it is the same where the last digits of a distance depend on the machine.
    """
    names = ("seed", "pair", "episode", "start", "goal_step", "success", "first_success_step", "steps")
    in_order = sorted(rows, key=lambda row: (row.seed, row.pair))
    return content_hash([{name: getattr(row, name) for name in names} for row in in_order])


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
            raise ValueError(f"{path}, line {number}, is not an episode ({error}): run the evaluation again") from error
    return rows


def write_result(path: str | Path, result: Mapping[str, Any]) -> Path:
    """Writes a result's JSON file."""
    return write_atomic(path, json.dumps(result, indent=1, allow_nan=False) + "\n")


def read_result(path: str | Path) -> EvaluationResult:
    """Reads `results.json`, given the file or its folder; those of format 2 come back in the form of today.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: for a damaged file or another format.
    """
    path = Path(path)
    path = path if path.suffix == ".json" else path / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: run `lewm eval ... --out {path.parent}` first")
    content, now = read_object(path, "run the evaluation again"), EvaluationResult.format
    if content.get("format") not in (2, now):
        raise ValueError(f"{path} has format {content.get('format')!r}, expected {now}: run the evaluation again")
    if content["format"] == 2:
        try:
            content = upgraded(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} has no protocol of format 2 ({error}): run the evaluation again") from error
    try:
        return EvaluationResult.from_json(content)
    except ValueError as error:
        raise ValueError(f"{path} {error}: run the evaluation again") from error
