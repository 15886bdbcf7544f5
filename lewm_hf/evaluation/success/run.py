"""`evaluate`: planning success of a checkpoint under a protocol, beside what blind policies reach on the same pairs."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ...files import only_one
from ...planning.planners import Planner
from ...proprioception_lewm import check_pictures_alone
from ..common.inputs import open_decoder
from ..common.outputs import check_out
from ..common.provenance import hardware, library_versions
from ..common.ranks import ALONE, Ranks
from ..common.results import EpisodeRow, rows_hash, score
from .acting import describe_policy, seen_frames
from .folder import reserve, write_files
from .measure import measure
from .prepare import Manifests, Prepared, check_counts, prepare
from .protocol import Protocol
from .result import EnvFacts, EvaluationResult, ManifestFacts, PairsOrigin, PlanningFacts
from .unfinished import SeedResult, Unfinished

MAX_ENVS = 50
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


def evaluate(
    model: Any,
    *,
    env: str | None = None,
    episodes: Any = None,
    decoder: Any = None,
    decoder_revision: str | None = None,
    episodes_revision: str | None = None,
    manifest: Manifests | None = None,
    protocol: str | Path | Protocol = "clean",
    planner: str | Path | Planner | None = None,
    policy: str = "planner",
    overrides: Mapping[str, Any] | None = None,
    n: int | None = None,
    seeds: Sequence[int] | None = None,
    num_envs: int = MAX_ENVS,
    out: str | Path | None = None,
    overwrite: bool = False,
    videos: int = 0,
    video_successes: int = 0,
    floors: bool = True,
    processor: Any = None,
    revision: str | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Evaluation:
    """Measures how often planning reaches the goal.

    Every seed draws its own start-goal pairs and planner noise. On a CPU outcomes depend neither on `num_envs` nor on
    the order of the pairs; on accelerators they may, where a plan hangs on the last bits of a matrix product.
    The random policy and zero actions run on the same pairs.

    Args:
        model: folder, Hub id, or a world model in eval mode (then `processor` is needed).
        env: short name or id. Default: that of the episodes or the manifest, else what the checkpoint was trained on; a
            contradiction is refused.
        episodes: an `EpisodeData`, or a data set's folder or Hub id, of which the protocol's split is loaded.
        episodes_revision: branch, tag or commit of a Hub data set.
        manifest: fixed pairs, one manifest per seed; they work without episodes, starts and goals are then rendered.
            Without episodes and manifest: the manifests that ship with the package for the environment and protocol.
        protocol: name, `.yaml` file or `Protocol`: which problems there are.
        planner: name, `.yaml` file or `Planner`: how they are solved. Default: the protocol's `default_planner`; of the
            actor alone, whose deadlines a planner decides too, `actor-guided`.
        policy: who acts: the `"planner"`, the checkpoint's `"actor"`, or a floor, `"random"` or `"zero"`.
        overrides: single values of protocol and planner to change; recorded.
        n: pairs per seed. Default: the protocol's, or all of the manifest.
        seeds: default: the protocol's; given manifests bring their own.
        num_envs: pairs that run side by side.
        out: folder for `results.json`, `episodes.jsonl`, `manifests/` and `videos/`. Default: nothing is written. What
            was measured is kept there seed by seed, so that an interrupted evaluation continues with the same call.
        overwrite: replace an evaluation that `out` holds, once the new one is complete.
        videos: failed episodes to film, filled up with solved ones; `video_successes` adds solved ones.
        decoder: folder or Hub id of a `LeWMDecoder`, or one in memory: draws what the model imagined in the films.
            Without one they show the most similar known pictures.
        floors: run the random policy and zero actions too.
        revision, decoder_revision: of a Hub checkpoint and decoder.
        device: default: the accelerator, else the CPU.
        progress: show a bar.

    Raises:
        ValueError, FileNotFoundError: one line, before the first episode and before anything is written, where model,
            environment, episodes, manifest and protocol do not fit each other, or `out` holds another evaluation.
    """
    _check_run(num_envs, out, videos, video_successes)
    task = prepare(
        model, env=env, episodes=episodes, episodes_revision=episodes_revision, manifest=manifest, protocol=protocol,
        planner=planner, policy=policy, overrides=overrides, n=n, seeds=seeds, processor=processor,
        revision=revision, device=device,
    )  # fmt: skip
    return run(
        task, decoder=decoder, decoder_revision=decoder_revision, num_envs=num_envs, out=out, overwrite=overwrite,
        videos=videos, video_successes=video_successes, floors=floors, progress=progress,
    )  # fmt: skip


def run(
    task: Prepared,
    *,
    decoder: Any = None,
    decoder_revision: str | None = None,
    num_envs: int = MAX_ENVS,
    out: str | Path | None = None,
    overwrite: bool = False,
    videos: int = 0,
    video_successes: int = 0,
    floors: bool = True,
    progress: bool = False,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """The second half of `evaluate`: does what `prepare` has checked. Arguments as there.

    Args:
        ranks: processes that divide the pairs, each of which calls this with the same task; all return the whole
            result, whose rows and hashes are those of one process, and the main one writes it. `num_envs` is of each.
    """
    _check_run(num_envs, out, videos, video_successes)
    if videos or video_successes:
        check_pictures_alone(task.agent.model, "a film")
    decoder = None if decoder is None else open_decoder(decoder, task.agent, decoder_revision)
    num_envs = min(num_envs, max(map(len, task.manifests)))
    if out is None:
        rows, result, _ = _measure_all(task, None, num_envs, floors, decoder, progress, ranks)
        return Evaluation(result, rows, [])
    out = Path(out)

    def reserved() -> Unfinished:
        return reserve(task, out, num_envs=num_envs, floors=floors, overwrite=overwrite)

    ranks.on_main(reserved)
    with only_one(out / LOCK) if ranks.main else nullcontext():
        # Another command may have finished while this one waited.
        kept = ranks.on_main(reserved)
        if kept is not None:
            kept.discard_others()
        rows, result, measured = _measure_all(task, kept, num_envs, floors, decoder, progress, ranks)
        files = []
        if kept is not None:
            files = write_files(task, kept, out, rows, result, measured, decoder, videos, video_successes)
    return Evaluation(result, rows, files)


def _check_run(num_envs: int, out, videos: int, video_successes: int) -> None:
    check_out(out)
    check_counts(num_envs=num_envs)
    check_counts(0, videos=videos, video_successes=video_successes)
    if out is None and (videos or video_successes):
        raise ValueError("videos were asked for, but there is no folder for them: give out=DIR")


def _measure_all(
    task: Prepared,
    kept: Unfinished | None,
    num_envs: int,
    floors: bool,
    decoder: Any,
    progress: bool,
    ranks: Ranks,
) -> tuple[list[EpisodeRow], EvaluationResult, list[SeedResult]]:
    """Every seed, those that were kept from before aside."""
    clock, before = time.perf_counter(), 0.0
    measured: list[SeedResult] = []
    largest = max(len(one.pairs[ranks.share]) for one in task.manifests)
    with closing(task.environments(max(1, min(num_envs, largest)))) as vector_env:
        for one in task.manifests:
            found = ranks.told(None if kept is None else kept.load(one.seed))
            if found is None:
                found = measure(task, vector_env, one, floors, progress and ranks.main, ranks)
                if kept is not None:
                    kept.save(one.seed, found)
            else:
                before += found.seconds
            measured.append(found)
    rows = [row for seed in measured for row in seed.rows]
    result = _result(
        task, rows, measured, num_envs, films="nearest frames" if decoder is None else "decoded",
        wall_time=round(before + time.perf_counter() - clock, 3),
    )  # fmt: skip
    return rows, result, measured


def _result(
    task: Prepared,
    rows: list[EpisodeRow],
    measured: list[SeedResult],
    num_envs: int,
    *,
    films: str,
    wall_time: float,
) -> EvaluationResult:
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
            num_envs=num_envs,
            context_frames=seen_frames(task.policy, task.planner, task.agent),
            action_bounds=task.action_bounds,
        ),
        rows_hash=rows_hash(rows),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        hardware=hardware(next(task.agent.model.parameters()).device),
        films=films,
        wall_time=wall_time,
    )
