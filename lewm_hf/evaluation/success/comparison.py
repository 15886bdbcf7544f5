"""Two evaluations on the same start-goal pairs: which one solves more, and could that be chance?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...measures.intervals import McNemar, mcnemar, paired_difference_interval
from ...records import Record, Result, absent
from ..common.analysis import Analysis
from ..common.results import EpisodeRow, outcomes_hash, rate, read_result, read_rows, rows_hash
from .protocol import content_hash
from .result import EnvFacts, EvaluationResult, Rate
from .summary import format_rate, planner_values, protocol_values


@dataclass(frozen=True)
class ComparedRun(Record):
    """One of the two evaluations: its folder's name, and what decides its outcomes."""

    folder: str
    model: str
    fingerprint: str
    protocol: str
    protocol_hash: str
    planner: str
    planner_hash: str
    rows_hash: str
    outcomes_hash: str | None = absent()


@dataclass(frozen=True)
class PairedRates(Record):
    """Two rates on the same pairs, the interval of their difference (Newcombe's, 95 %) and McNemar's exact test."""

    first: Rate
    second: Rate
    difference_interval: tuple[float, float]
    mcnemar: McNemar


@dataclass(frozen=True, kw_only=True)
class SeedPairedRates(PairedRates):
    """The same for the pairs of one seed."""

    seed: int


@dataclass(frozen=True, kw_only=True)
class ComparisonResult(Result):
    """The content of `compare.json`.

    Attributes:
        env: of both.
        runs: the first and the second.
        differences: what else was not the same, by name: values of the protocol, the planner, the environment, the
            versions, the device.
        first, second, difference_interval, mcnemar, per_seed: see `PairedRates`.
        hash: of these.
    """

    kind = "compare"

    env: EnvFacts
    runs: list[ComparedRun]
    differences: dict[str, list[Any]]
    first: Rate
    second: Rate
    difference_interval: tuple[float, float]
    mcnemar: McNemar
    per_seed: list[SeedPairedRates]
    hash: str


def compare(
    first: str | Path, second: str | Path, out: str | Path | None = None, *, overwrite: bool = False
) -> ComparisonResult:
    """Compares two folders that `evaluate(out=...)` wrote, pair by pair, with McNemar's exact test.

    Args:
        first, second: folders; models or planner settings may differ, the pairs may not.
        out: folder for `compare.json`. Default: nothing is written.
        overwrite: replace the comparison of other evaluations that `out` holds.

    Returns:
        Both rates with their Wilson intervals, their difference with Newcombe's interval, the test, all of it per seed
        too, and what else differed between the two.

    Raises:
        FileNotFoundError: where a folder holds no evaluation.
        ValueError: where the two ran different pairs, rows do not belong to their result, or `out` holds another
            comparison.
    """
    return Comparison.carry_out(first, second, out=out, overwrite=overwrite).found


class Comparison(Analysis):
    """Arguments as those of `compare`."""

    kind, title, result_type = "compare", "Two agents on the same pairs", ComparisonResult
    found: ComparisonResult

    def __init__(self, first: str | Path, second: str | Path):
        folders = (first, second)
        self.results = [read_result(folder) for folder in folders]
        rows = [_rows_of(folder, result) for folder, result in zip(folders, self.results, strict=True)]
        _check_pairs(first, second, self.results)
        # By problem: the runs may have taken their seeds in different orders.
        self.rows = [sorted(part, key=lambda row: (row.seed, row.episode, row.start)) for part in rows]
        self.runs = [
            ComparedRun(
                folder=Path(folder).name,
                model=one.model.source,
                fingerprint=one.model.fingerprint,
                protocol=one.protocol["label"],
                protocol_hash=one.protocol["hash"],
                planner=one.planner["label"],
                planner_hash=one.planner["hash"],
                rows_hash=one.rows_hash,
                outcomes_hash=outcomes_hash(part),
            )
            for folder, one, part in zip(folders, self.results, rows, strict=True)
        ]

    def question(self) -> dict[str, Any]:
        return {f"runs.{number}.rows_hash": run.rows_hash for number, run in enumerate(self.runs)}

    def run(self) -> ComparisonResult:
        seeds = dict.fromkeys(row.seed for row in self.rows[0])
        of_seed = {seed: [[row.success for row in part if row.seed == seed] for part in self.rows] for seed in seeds}
        whole = _test(*([row.success for row in part] for part in self.rows))
        per_seed = [SeedPairedRates(seed=seed, **vars(_test(*chosen))) for seed, chosen in of_seed.items()]
        hashed = {"first": whole.first, "second": whole.second, "mcnemar": whole.mcnemar, "per_seed": per_seed}
        return ComparisonResult(
            env=self.results[0].env, runs=self.runs, differences=_differences(self.results), **vars(whole),
            per_seed=per_seed, hash=content_hash(hashed),
        )  # fmt: skip

    @classmethod
    def text(cls, result: ComparisonResult) -> str:
        return format_comparison(result)


def _rows_of(folder: str | Path, result: EvaluationResult) -> list[EpisodeRow]:
    rows = read_rows(folder)
    if rows_hash(rows) != result.rows_hash:
        raise ValueError(f"{folder}: episodes.jsonl does not belong to results.json: run the evaluation again")
    return rows


def _check_pairs(first: str | Path, second: str | Path, results: Sequence[EvaluationResult]) -> None:
    drawn = [{one.seed: one.hash for one in result.manifests} for result in results]
    if drawn[0] == drawn[1]:
        return
    if set(drawn[0]) != set(drawn[1]):
        seeds = [", ".join(map(str, sorted(one))) for one in drawn]
        raise ValueError(
            f"{first} has seeds {seeds[0]} and {second} has seeds {seeds[1]}: evaluate both with the same --seeds"
        )
    seed = next(seed for seed, value in drawn[0].items() if drawn[1][seed] != value)
    raise ValueError(
        f"{first} and {second} ran different pairs for seed {seed}: evaluate both with the same protocol, number of "
        f"pairs and --episodes or --manifest, such as those in {Path(first) / 'manifests'}"
    )


def _differences(results: Sequence[EvaluationResult]) -> dict[str, list[Any]]:
    """Values of the protocol, the planner, the environment and the versions that are not the same."""
    alike = len({result.policy for result in results}) == 1  # an actor alone has hardly a setting of a search
    values = [
        {name: value for name, (value, _) in protocol_values(result).items()}
        | {"planner": result.planner["label"]}
        | {f"planner {name}": value for name, (value, _) in planner_values(result).items() if alike}
        | {f"env {name}": value for name, value in result.env.kwargs.items()}
        | result.versions
        | {"device": result.hardware["device_name"]}
        for result in results
    ]
    names = list(dict.fromkeys([*values[0], *values[1]]))
    return {name: [one.get(name) for one in values] for name in names if values[0].get(name) != values[1].get(name)}


def _test(first: list[bool], second: list[bool]) -> PairedRates:
    return PairedRates(
        first=rate(first),
        second=rate(second),
        difference_interval=paired_difference_interval(first, second),
        mcnemar=mcnemar(first, second),
    )


def format_comparison(result: ComparisonResult) -> str:
    """A comparison as text for a terminal."""
    names = [run.model for run in result.runs]
    if names[0] == names[1]:
        planners = [run.planner for run in result.runs]
        told = planners if planners[0] != planners[1] else [run.folder for run in result.runs]
        names = [f"{name} ({one})" for name, one in zip(names, told, strict=True)]
    width, test = max(map(len, names)), result.mcnemar
    low, high = (100 * end for end in result.difference_interval)
    lines = [
        f"{result.env.id}, {result.first.n} pairs",
        *(
            f"  {name:<{width}}  {format_rate(one)}"
            for name, one in zip(names, (result.first, result.second), strict=True)
        ),
        "",
        f"  difference {100 * test.difference:+.1f} points   95 % interval {low:+.1f} to {high:+.1f}   "
        f"McNemar p = {test.p_value:.2g}",
        f"  both {test.both}, only the first {test.only_first}, only the second {test.only_second}, "
        f"neither {test.neither}",
    ]
    hashes = {run.outcomes_hash for run in result.runs}
    if len(hashes) == 1 and None not in hashes:
        lines.append("  on every pair the same success, after as many steps")
    if len(result.per_seed) > 1:
        lines.append(
            "  by seed " + "   ".join(f"{one.seed}: {100 * one.mcnemar.difference:+.1f}" for one in result.per_seed)
        )
    for name, (one, other) in result.differences.items():
        lines.append(f"  besides the model: {name} {one} and {other}")
    return "\n".join(lines)
