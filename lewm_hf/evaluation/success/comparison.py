"""Two evaluations on the same start-goal pairs: which one solves more, and could that be chance?"""

from pathlib import Path
from typing import Any

from ...measures.intervals import mcnemar, paired_difference_interval
from ..common.outputs import check_out
from ..common.results import rate, read_result, read_rows, rows_hash, write_result
from .protocol import content_hash
from .summary import format_rate, planner_values, protocol_values


def compare(first: str | Path, second: str | Path, out: str | Path | None = None) -> dict[str, Any]:
    """Compares two folders that `evaluate(out=...)` wrote, pair by pair, with McNemar's exact test.

    Args:
        first, second: folders; models or planner settings may differ, the pairs may not.
        out: folder for `compare.json`. Default: nothing is written.

    Returns:
        The content of `compare.json`: both rates with their Wilson intervals, their difference with Newcombe's
        interval, the test, all of it per seed too, and what else differed between the two.

    Raises:
        FileNotFoundError: where a folder holds no evaluation.
        ValueError: where the two ran different pairs, or rows do not belong to their result.
    """
    check_out(out)
    results = [read_result(folder) for folder in (first, second)]
    rows = [_rows_of(folder, result) for folder, result in zip((first, second), results, strict=True)]
    _check_pairs(first, second, results)
    # By problem: the runs may have taken their seeds in different orders.
    rows = [sorted(part, key=lambda row: (row.seed, row.episode, row.start)) for part in rows]
    outcomes = [[row.success for row in part] for part in rows]
    result: dict[str, Any] = {
        "format": 1,
        "kind": "compare",
        "env": results[0]["env"],
        "runs": [
            {
                "folder": Path(folder).name,
                "model": one["model"]["source"],
                "fingerprint": one["model"]["fingerprint"],
                "protocol": one["protocol"]["label"],
                "protocol_hash": one["protocol"]["hash"],
                "planner": one["planner"]["label"],
                "planner_hash": one["planner"]["hash"],
                "rows_hash": one["rows_hash"],
            }
            for folder, one in zip((first, second), results, strict=True)
        ],
        "differences": _differences(results),
        **_test(*outcomes),
        "per_seed": [],
    }
    for seed in dict.fromkeys(row.seed for row in rows[0]):
        chosen = [[row.success for row in part if row.seed == seed] for part in rows]
        result["per_seed"].append({"seed": seed, **_test(*chosen)})
    result["hash"] = content_hash({name: result[name] for name in ("first", "second", "mcnemar", "per_seed")})
    if out is not None:
        write_result(Path(out) / "compare.json", result)
    return result


def _rows_of(folder: str | Path, result: dict[str, Any]):
    rows = read_rows(folder)
    if rows_hash(rows) != result["rows_hash"]:
        raise ValueError(f"{folder}: episodes.jsonl does not belong to results.json: run the evaluation again")
    return rows


def _check_pairs(first, second, results) -> None:
    drawn = [{one["seed"]: one["hash"] for one in result["manifests"]} for result in results]
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


def _differences(results) -> dict[str, list[Any]]:
    """Values of the protocol, the planner, the environment and the versions that are not the same."""
    values = [
        {name: value for name, (value, _) in protocol_values(result).items()}
        | {"planner": result["planner"]["label"]}
        | {f"planner {name}": value for name, (value, _) in planner_values(result).items()}
        | {f"env {name}": value for name, value in result["env"]["kwargs"].items()}
        | result["versions"]
        | {"device": result["hardware"]["device_name"]}
        for result in results
    ]
    names = list(dict.fromkeys([*values[0], *values[1]]))
    return {name: [one.get(name) for one in values] for name in names if values[0].get(name) != values[1].get(name)}


def _test(first: list[bool], second: list[bool]) -> dict[str, Any]:
    return {
        "first": rate(first),
        "second": rate(second),
        "difference_interval": list(paired_difference_interval(first, second)),
        "mcnemar": vars(mcnemar(first, second)),
    }


def format_comparison(result: dict[str, Any]) -> str:
    """A comparison as text for a terminal."""
    names = [run["model"] for run in result["runs"]]
    if names[0] == names[1]:
        planners = [run["planner"] for run in result["runs"]]
        told = planners if planners[0] != planners[1] else [run["folder"] for run in result["runs"]]
        names = [f"{name} ({one})" for name, one in zip(names, told, strict=True)]
    width, test = max(map(len, names)), result["mcnemar"]
    low, high = (100 * end for end in result["difference_interval"])
    lines = [
        f"{result['env']['id']}, {result['first']['n']} pairs",
        *(
            f"  {name:<{width}}  {format_rate(result[which])}"
            for name, which in zip(names, ("first", "second"), strict=True)
        ),
        "",
        f"  difference {100 * test['difference']:+.1f} points   95 % interval {low:+.1f} to {high:+.1f}   "
        f"McNemar p = {test['p_value']:.2g}",
        f"  both {test['both']}, only the first {test['only_first']}, only the second {test['only_second']}, "
        f"neither {test['neither']}",
    ]
    if len(result["per_seed"]) > 1:
        lines.append(
            "  by seed "
            + "   ".join(f"{one['seed']}: {100 * one['mcnemar']['difference']:+.1f}" for one in result["per_seed"])
        )
    for name, (one, other) in result["differences"].items():
        lines.append(f"  besides the model: {name} {one} and {other}")
    return "\n".join(lines)
