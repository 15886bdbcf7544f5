"""What a model card says about evaluations: the table, how each was measured, and the metadata for the Hub."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult

from ...data.storage.local_paths import relative
from ...evaluation.success.described import ACTORS_PLANNER
from ...evaluation.success.protocol import load_protocol, protocol_names
from ...evaluation.success.result import EvaluationResult, Rate
from ...planning.planners import load_planner, planner_names
from .checks import LIBRARY
from .facts import CardFacts

# The Hub's closest task; its list does not know world models.
PIPELINE_TAG = "robotics"


def result_rows(results: Sequence[EvaluationResult]) -> list[list[str]]:
    """The cells of the table of results, a row per evaluation."""
    rows = []
    for result in results:
        floors = result.floors
        rows.append(
            [
                f"`{result.protocol['label']}`, goals {result.protocol['goal_offset']} steps ahead, {_pairs(result)}",
                f"`{result.planner['label']}`",
                f"**{percent(result.success.rate)}** {_spread(result.success)}",
                _rate(floors["random"]),
                _rate(floors["zero_action"]) if "zero_action" in floors else "not measured",
                f"{100 * result.excess['random']:+.1f} points",
                percent(result.solved_at_start.share),
            ]
        )
    return rows


def measured_text(facts: CardFacts) -> str:
    """For each evaluation what it was and the command that repeats it."""
    return "\n\n".join(
        f"{_how_measured(result, facts)}\n\n```bash\n{_command(result, facts, number)}\n```{_needed(result)}"
        for number, result in enumerate(facts.results)
    )


def dataset_of(result: EvaluationResult, facts: CardFacts) -> tuple[str | None, str | None]:
    """Hub id and revision of the episodes that an evaluation opened, `None` twice where it opened none of the Hub."""
    opened = result.dataset
    if opened.source is None or facts.local:
        return None, None
    # Only a data set of the Hub has a revision.
    return (opened.source, opened.revision) if opened.revision else (
        facts.dataset_id, facts.dataset_revision,
    )  # fmt: skip


def model_index(facts: CardFacts) -> list[EvalResult]:
    """The results for the card's metadata.

    `huggingface_hub` takes results for one and the same where task, data set, its config, split and revision agree:
    the config tells protocols, goal offsets and changed settings apart.
    """
    return [entry for result in facts.results for entry in _entries(result, facts)]


def _entries(result: EvaluationResult, facts: CardFacts) -> list[EvalResult]:
    protocol, env = result.protocol, result.env.id
    dataset_id, revision = dataset_of(result, facts)
    names = {"drawn": f"{env} episodes", "given": f"{env}, given pairs", "shipped": f"{env}, pairs of {LIBRARY}"}
    shared = {
        "task_type": PIPELINE_TAG,
        "task_name": f"goal-conditioned planning, protocol {protocol['label']}, goals {protocol['goal_offset']} steps "
        f"ahead, planner {result.planner['label']}",
        "dataset_type": dataset_id or f"{LIBRARY}-{result.pairs}-pairs",
        "dataset_name": names[result.pairs],
        "dataset_config": f"{protocol['name']}-{protocol['goal_offset']}-{protocol['hash'][:8]}-"
        f"{result.planner['hash'][:8]}",
        "dataset_split": protocol["split"],
        "dataset_revision": revision,
        "dataset_args": {"protocol": protocol["label"], "protocol_hash": protocol["hash"], "pairs": result.pairs}
        | {"planner": result.planner["label"], "planner_hash": result.planner["hash"]},
    }
    metrics = (
        ("success_rate", "success rate", result.success),
        ("random_success_rate", "success rate of random actions", result.floors["random"]),
    )
    return [
        EvalResult(
            **shared,
            metric_type=kind,
            metric_name=name,
            metric_value=round(rate.rate, 4),
            metric_args={
                "n": rate.n,
                "successes": rate.successes,
                "wilson_95": [round(end, 4) for end in rate.interval],
                "seeds": [entry.seed for entry in result.per_seed],
            },
        )
        for kind, name, rate in metrics
    ]


def best_planner(results: Sequence[EvaluationResult]) -> str | None:
    """The planner of this package that solved most under a protocol as it ships, `None` where none was measured so.

    Of several that solved as much the first one; an actor alone is no planner.
    """
    measured = [
        result
        for result in results
        if result.policy == "planner"
        and not (result.protocol["overrides"] or result.planner["overrides"])
        and _ships(result.protocol)
        and _planner_ships(result.planner)
    ]
    if not measured:
        return None
    return str(max(measured, key=lambda result: result.success.rate).planner["name"])


def _pairs(result: EvaluationResult) -> str:
    return {
        "drawn": f"{result.protocol['split']} episodes",
        "given": "given pairs",
        "shipped": f"pairs that ship with {LIBRARY}",
    }[result.pairs]


def _how_measured(result: EvaluationResult, facts: CardFacts) -> str:
    protocol, planning = result.protocol, result.planning
    changes = ", ".join(f"{name}={value}" for name, value in protocol.get("overrides", {}).items())
    seeds = ", ".join(f"{entry.seed}: {percent(entry.rate)}" for entry in result.per_seed)
    origin = {
        "drawn": f"Pairs drawn from the {protocol['split']} episodes of `{{}}`",
        "given": "Pairs of manifests that were given",
        "shipped": f"Pairs that ship with {LIBRARY}; no data set was opened",
    }[result.pairs].format(_episodes(result, facts))
    pairs = (
        f"goals {protocol['goal_offset']} steps after the start, pairs solved at the start "
        f"{'removed' if protocol['drop_solved'] else 'kept'}, a budget of {protocol['budget']} steps"
    )
    return (
        f"**`{protocol['label']}`**, hash `{protocol['hash'][:12]}`{f' (differs in {changes})' if changes else ''}: "
        f"{pairs}. {origin}. {_planner(result)} n = {result.success.n}{_distinct(result)}; per seed {seeds}. "
        f"{planning.seconds_per_plan:.3g} s per plan, {planning.num_envs} problems at a time, on "
        f"{result.hardware['device_name']}. Finished {result.finished[:10]}, outcomes "
        f"{_hashes(result)}."
    )


def _hashes(result: EvaluationResult) -> str:
    if result.outcomes_hash is None:
        return f"`{result.rows_hash[:12]}`"
    return f"`{result.outcomes_hash[:12]}`, with final distances `{result.rows_hash[:12]}`"


def _distinct(result: EvaluationResult) -> str:
    """Seeds may draw the same pair, which counts once for each."""
    return f" ({result.distinct.pairs} distinct pairs)" if result.distinct.pairs < result.success.n else ""


def _command(result: EvaluationResult, facts: CardFacts, number: int) -> str:
    """What measures a result again."""
    from ...tasks.registry import lasting_name  # those who only write other cards need no environment

    protocol, seeds = result.protocol, [str(entry.seed) for entry in result.per_seed]
    words = ["lewm", "eval", facts.repo_id, "--env", lasting_name(result.env.id)]
    if episodes := _episodes(result, facts):
        words += ["--episodes", episodes]
    if result.pairs == "given":
        file = facts.result_files[number] if number < len(facts.result_files) else None
        folder = PurePath(file).parent / "manifests" if file else PurePath("manifests")
        if file and facts.local:
            folder = PurePath(facts.repo_id) / folder
        for seed in seeds:
            words += ["--manifest", (folder / f"seed-{seed}.json").as_posix()]
    words += ["--protocol", protocol["name"] if _ships(protocol) else f"{protocol['name']}.yaml"]
    planner = result.planner
    if result.policy == "planner":
        words += ["--planner", planner["name"] if _planner_ships(planner) else f"{planner['name']}.yaml"]
    else:
        words += ["--policy", result.policy]
    for name, value in (protocol["overrides"] | planner["overrides"] | _of_actor(result)).items():
        words += ["--set", f"{name}={value}"]
    if result.pairs != "given":  # manifests bring their number and seeds
        words += ["-n", str(result.per_seed[0].n), "--seeds", *seeds]
    return shlex.join(words)


def _of_actor(result: EvaluationResult) -> dict[str, Any]:
    """What an actor that acted alone was given, where the command gives it something else by itself."""
    if result.policy != "actor":
        return {}
    retry = result.planner.get("retry")
    usual = load_planner(ACTORS_PLANNER).retry
    return {} if retry == usual else {"retry": "null" if retry is None else retry}


def _ships(protocol: Mapping[str, Any]) -> bool:
    """Whether the package has this protocol, with the same content."""
    name = protocol["name"]
    return name in protocol_names() and load_protocol(name, protocol["overrides"]).hash == protocol["hash"]


def _planner_ships(planner: Mapping[str, Any]) -> bool:
    """Whether the package has this planner, with the same content."""
    name = planner["name"]
    return name in planner_names() and load_planner(name, planner["overrides"]).hash == planner["hash"]


def _planner(result: EvaluationResult) -> str:
    """Who acted, in a sentence."""
    planner, block = result.planner, result.model.frameskip
    if result.policy != "planner":
        return f"No search: the policy `{result.policy}` acts."
    changes = ", ".join(f"{name}={value}" for name, value in planner["overrides"].items())
    numbers = [(planner[name], name) for name in ("samples", "iterations", "elites") if name in planner]
    search = ", ".join(f"{number} {name.removesuffix('s') if number == 1 else name}" for number, name in numbers)
    by = f"{planner['solver'].upper()} with {search}" if search else f"the solver `{planner['solver']}`"
    deadline = ", no further than the goal's deadline" if planner["horizon_rule"] == "goal-time" else ""
    plans, guided = planner.get("proposals", 1), ""
    if planner["proposal"] == "actor":
        guided = f", started {'by' if plans == 1 else f'from the best of {plans} plans of'} the checkpoint's actor"
    return (
        f"Planner `{planner['label']}`, hash `{planner['hash'][:12]}`{f' (differs in {changes})' if changes else ''}: "
        f"{by}{guided}, over at most {planner['horizon']} blocks of {block} actions{deadline}, replanned after "
        f"{planner['receding_horizon']}."
    )


def _needed(result: EvaluationResult) -> str:
    name, planner, needed = result.protocol["name"], result.planner, []
    if not _ships(result.protocol):
        needed.append(
            f"the file `{name}.yaml`, a protocol that does not ship with this version of {LIBRARY}; all its values "
            "stand under `protocol` in `results.json`"
        )
    if result.policy == "planner" and not _planner_ships(planner):
        needed.append(
            f"the file `{planner['name']}.yaml`, a planner that does not ship with this version of {LIBRARY}; all its "
            "values stand under `planner` in `results.json`"
        )
    if result.pairs == "given":
        needed.append("the manifests, which `lewm eval` wrote beside `results.json`")
    return f"\n\nThis needs {' and '.join(needed)}." if needed else ""


def _episodes(result: EvaluationResult, facts: CardFacts) -> str | None:
    """How the command line calls the episodes of an evaluation, `None` where it opened none."""
    source = result.dataset.source
    return source and (dataset_of(result, facts)[0] or relative(source))


def percent(value: float) -> str:
    """`0.87` -> `"87.0 %"`."""
    return f"{100 * value:.1f} %"


def _rate(rate: Rate) -> str:
    return f"{percent(rate.rate)} {_spread(rate)}"


def _spread(rate: Rate) -> str:
    low, high = (100 * end for end in rate.interval)
    return f"({low:.1f}-{high:.1f}; {rate.successes} of {rate.n})"
