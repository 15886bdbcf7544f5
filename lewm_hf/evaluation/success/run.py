"""`evaluate`: planning success of a checkpoint under a protocol, beside what blind policies reach on the same pairs."""

import time
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ...arguments_of import arguments_of
from ...files import only_one
from ..common.provenance import hardware, library_versions
from ..common.ranks import ALONE, Ranks
from ..common.results import EpisodeRow, outcomes_hash, rows_hash, score
from .acting import describe_policy, seen_frames
from .arguments import EvaluateArguments
from .folder import reserve, write_files
from .measure import measure
from .prepare import Prepared, prepare
from .result import EnvFacts, EvaluationResult, ManifestFacts, PairsOrigin, PlanningFacts
from .unfinished import SeedResult, Unfinished

LOCK = ".lewm-eval.lock"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` returns.

    Args:
        result: the content of `results.json`; `summary.format_summary(result)` puts it into words.
        rows: one per episode, in the order of seeds and manifests.
        videos: files written, failures first.
    """

    result: EvaluationResult
    rows: list[EpisodeRow]
    videos: list[Path]


@arguments_of(EvaluateArguments)
def evaluate(given: EvaluateArguments) -> Evaluation:
    """Measures how often planning reaches the goal.

    Every seed draws its own start-goal pairs and planner noise. On a CPU outcomes depend neither on `num_envs` nor on
    the order of the pairs; on accelerators they may, where a plan hangs on the last bits of a matrix product.
    The random policy and zero actions run on the same pairs.

    Returns:
        The result, its rows, and the films that were written.

    Raises:
        ValueError, FileNotFoundError: one line, before the first episode and before anything is written, where model,
            environment, episodes, manifest and protocol do not fit each other, or `out` holds another evaluation.
    """
    return run(prepare(given))


def run(task: Prepared, ranks: Ranks = ALONE) -> Evaluation:
    """The second half of `evaluate`: does what `prepare` has checked.

    Args:
        ranks: processes that divide the pairs, each of which calls this with the same task; all return the whole
            result, whose rows and hashes are those of one process, and the main one writes it. `num_envs` is of each.
    """
    if task.given.out is None:
        rows, result, _ = _measure_all(task, None, ranks)
        return Evaluation(result, rows, [])

    def reserved() -> Unfinished:
        return reserve(task)

    ranks.on_main(reserved)
    with only_one(Path(task.given.out) / LOCK) if ranks.main else nullcontext():
        # Another command may have finished while this one waited.
        kept = ranks.on_main(reserved)
        if kept is not None:
            kept.discard_others()
        rows, result, measured = _measure_all(task, kept, ranks)
        files = [] if kept is None else write_files(task, kept, rows, result, measured)
    return Evaluation(result, rows, files)


def _measure_all(
    task: Prepared, kept: Unfinished | None, ranks: Ranks
) -> tuple[list[EpisodeRow], EvaluationResult, list[SeedResult]]:
    """Every seed, those that were kept from before aside."""
    clock, before = time.perf_counter(), 0.0
    measured: list[SeedResult] = []
    largest = max(len(one.pairs[ranks.share]) for one in task.manifests)
    with closing(task.environments(max(1, min(task.num_envs, largest)))) as vector_env:
        for one in task.manifests:
            found = ranks.told(None if kept is None else kept.load(one.seed))
            if found is None:
                found = measure(task, vector_env, one, task.given.floors, task.given.progress and ranks.main, ranks)
                if kept is not None:
                    kept.save(one.seed, found)
            else:
                before += found.seconds
            measured.append(found)
    rows = [row for seed in measured for row in seed.rows]
    result = _result(task, rows, measured, wall_time=round(before + time.perf_counter() - clock, 3))
    return rows, result, measured


def _result(task: Prepared, rows: list[EpisodeRow], measured: list[SeedResult], wall_time: float) -> EvaluationResult:
    protocol, manifests, stored = task.protocol, task.manifests, task.episodes is not None
    plans = sum(seed.plans for seed in measured)
    return EvaluationResult(
        protocol=protocol.to_dict() | {"label": protocol.label, "hash": protocol.hash},
        policy=task.policy,
        planner=describe_policy(task.policy, task.planner),
        env=EnvFacts(
            id=task.env_id,
            kwargs=task.env_kwargs,
            success_rule=task.judging.rule,
            distance_unit=task.judging.distance_unit,
            **task.judging.facts(),
        ),
        pairs=task.pairs,
        model=task.agent.facts(),
        dataset=PairsOrigin(
            source=str(task.episodes.name) if stored else None,
            revision=getattr(task.episodes, "revision", None),
            split=protocol.split,
            fingerprint=manifests[0].dataset,
            first_frame=protocol.first_frame if stored else "rendered",
            goal_frame=protocol.goal_frame if stored else "rendered",
        ),
        manifests=[
            ManifestFacts(seed=one.seed, n=len(one), hash=one.hash, counts=vars(one.counts)) for one in manifests
        ],
        **score(rows),
        planning=PlanningFacts(
            plans=plans,
            seconds_per_plan=sum(seed.planning_seconds for seed in measured) / max(1, plans),
            num_envs=task.num_envs,
            context_frames=seen_frames(task.policy, task.planner, task.agent),
            action_bounds=task.action_bounds,
        ),
        rows_hash=rows_hash(rows),
        outcomes_hash=outcomes_hash(rows),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        hardware=hardware(next(task.agent.model.parameters()).device),
        films="nearest frames" if task.decoder is None else "decoded",
        wall_time=wall_time,
    )
