"""`evaluate`: planning success of a checkpoint under a protocol, beside what blind policies reach on the same pairs."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ...files import only_one
from ...planning.planners import Planner, load_planner
from ...progress import progress_bar
from ...tasks.registry import find_task, make_env, task_names
from ...tasks.vector import GoalVectorEnv
from ..common.agent import Agent, check_agent, load_agent
from ..common.inputs import check_trained_on, open_decoder
from ..common.outputs import check_out, clear
from ..common.provenance import hardware, library_versions
from ..common.ranks import ALONE, Ranks
from ..common.results import EpisodeRow, rows_hash, score, write_result, write_rows
from .acting import check_policy, default_planner, describe_bounds, describe_policy, make_policy, seen_frames
from .filming import film
from .floors import RandomPolicy, ZeroPolicy
from .judging import JudgedVectorEnv, Judging, judging
from .manifest import Manifest, load_manifest, protocol_env_kwargs, sample_manifest
from .protocol import Protocol, load_protocol, split_overrides
from .result import EnvFacts, EvaluationResult, ManifestFacts, PairsOrigin, PlanningFacts
from .rollouts import Outcome, Rollouts, StoredFrames, run_policy
from .shipped import shipped_manifests
from .unfinished import WRITTEN, SeedResult, Unfinished, model_content, shown_pictures

MAX_ENVS = 50
LOCK = ".lewm-eval.lock"

Manifests = Manifest | str | Path | Sequence[Manifest | str | Path]


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
    task: "Prepared",
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
        files = (
            [] if kept is None else _write(task, kept, out, rows, result, measured, decoder, videos, video_successes)
        )
    return Evaluation(result, rows, files)


def _write(
    task: "Prepared",
    kept: Unfinished,
    out: Path,
    rows: list[EpisodeRow],
    result: EvaluationResult,
    measured: list[SeedResult],
    decoder: Any,
    videos: int,
    video_successes: int,
) -> list[Path]:
    """All files of a complete evaluation; returns the films."""
    clear(out, WRITTEN)
    outcomes = [outcome for seed in measured for outcome in seed.outcomes]
    files = film(
        out / "videos", task.agent, task.env_id, task.env_kwargs, task.manifests, outcomes,
        task.protocol.first_frame, seen_frames(task.policy, task.planner, task.agent), task.episodes, videos,
        video_successes, decoder,
    )  # fmt: skip
    for one in task.manifests:
        one.save(out / "manifests" / f"seed-{one.seed}.json")
    write_rows(out / "episodes.jsonl", rows)
    # Last: where it exists the folder is complete.
    write_result(out / "results.json", result)
    kept.remove()
    return files


def _measure_all(
    task: "Prepared",
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
                found = _measure(task, vector_env, one, floors, progress and ranks.main, ranks)
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


def reserve(
    task: "Prepared", out: str | Path, *, num_envs: int = MAX_ENVS, floors: bool = True, overwrite: bool = False
) -> Unfinished:
    """Looks whether an evaluation may be written to a folder; touches nothing.

    Args:
        task, out, num_envs, floors, overwrite: as `run` gets them.

    Returns:
        What was measured of the same evaluation before it was interrupted.

    Raises:
        ValueError: where `out` cannot be a folder, or holds another evaluation and `overwrite` is not given.
    """
    check_out(out)
    shared = {
        "model": task.agent.facts().fingerprint,
        "model configuration": model_content(task.agent.model, task.agent.processor),
        # How many pairs and seeds is a choice of the run.
        "protocol": task.protocol.to_dict() | {"pairs": None, "seeds": None},
        "planner": describe_policy(task.policy, task.planner),
        "environment": [task.env_id, task.env_kwargs, task.judging.rule],
        "number of environments": min(num_envs, max(map(len, task.manifests))),
        "choice of floors": floors,
        "set of versions": library_versions(),
        "machine": hardware(next(task.agent.model.parameters()).device),
    }
    contents = {
        one.seed: {
            "seed": one.seed,
            "set of pairs": one.hash,
            "set of pictures": shown_pictures(task.episodes, one, task.protocol),
            **shared,
        }
        for one in task.manifests
    }
    kept = Unfinished(out, contents)
    kept.check(overwrite)
    return kept


def _check_counts(least: int = 1, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def _check_run(num_envs: int, out, videos: int, video_successes: int) -> None:
    check_out(out)
    _check_counts(num_envs=num_envs)
    _check_counts(0, videos=videos, video_successes=video_successes)
    if out is None and (videos or video_successes):
        raise ValueError("videos were asked for, but there is no folder for them: give out=DIR")


@dataclass(frozen=True)
class Prepared:
    """Everything that an evaluation needs, checked to fit together.

    Args:
        policy: who acts, one of `acting.POLICIES`; `planner`, how, where it is the planner.
        pairs: where they come from: `"drawn"` from the episodes, `"given"` or `"shipped"` manifests.
        judging: who says whether a goal is reached.
        action_bounds: what actions are kept within, see `acting.describe_bounds`.
    """

    agent: Agent
    protocol: Protocol
    planner: Planner
    policy: str
    manifests: list[Manifest]
    pairs: str
    judging: Judging
    env_id: str
    env_kwargs: dict[str, Any]
    action_bounds: dict[str, Any] | None
    episodes: Any

    def environments(self, num_envs: int) -> GoalVectorEnv:
        """So many environments side by side, which know how to get to the pairs' starts and tell success."""
        if self.judging.threshold is None:
            made = GoalVectorEnv(self.env_id, num_envs, **self.env_kwargs)
        else:
            made = JudgedVectorEnv(self.agent, self.judging.threshold, self.env_id, num_envs, **self.env_kwargs)
        for member in made.envs:
            member.remember(self.episodes)
        return made


def prepare(
    model: Any,
    *,
    env: str | None = None,
    episodes: Any = None,
    episodes_revision: str | None = None,
    manifest: Manifests | None = None,
    protocol: str | Path | Protocol = "clean",
    planner: str | Path | Planner | None = None,
    policy: str = "planner",
    overrides: Mapping[str, Any] | None = None,
    n: int | None = None,
    seeds: Sequence[int] | None = None,
    processor: Any = None,
    revision: str | None = None,
    device: torch.device | str | None = None,
) -> Prepared:
    """The first half of `evaluate`: opens everything, draws the pairs and checks that it all belongs together.

    Arguments and errors as there. Nothing is written and no episode is started.
    """
    of_protocol, of_planner = split_overrides(overrides or {})
    protocol = load_protocol(protocol, of_protocol)
    planner = load_planner(planner or default_planner(policy, protocol), of_planner)
    _check_counts(n=n)
    if env is not None:
        find_task(env)
    if manifest is not None and seeds is not None:
        raise ValueError(f"seeds={list(seeds)} contradict the manifests, which bring their own: omit seeds")
    if isinstance(episodes, str | Path):
        from ...data.cache import read_kept_frames
        from ...data.episodes import load_episodes

        episodes = load_episodes(episodes, protocol.split, episodes_revision)
        read_kept_frames(episodes)
    # Through the protocol, which knows what seeds look like; how many there are is no change of it.
    chosen = protocol.seeds if seeds is None else protocol.override({"seeds": list(seeds)}).seeds
    agent = model if isinstance(model, Agent) else load_agent(model, processor, revision=revision, device=device)
    check_policy(policy, planner, agent)
    if manifest is not None:
        pairs, manifests = "given", _given_manifests(manifest, protocol, episodes, n)
    elif episodes is not None:
        pairs, count = "drawn", protocol.pairs if n is None else n
        manifests = [sample_manifest(episodes, protocol, count, seed) for seed in chosen]
    else:
        name = env or agent.trained_on
        if name is None:
            raise ValueError(
                f"{agent.source} does not say what it was trained on: give env, one of {', '.join(task_names())}, or "
                "episodes"
            )
        pairs, manifests = "shipped", shipped_manifests(name, protocol, chosen, n)
    env_id = manifests[0].env_id
    if env is not None and find_task(env).env_id != env_id:
        raise ValueError(f"env={env} was asked for, but the pairs are of {env_id}: give other episodes")
    check_trained_on(agent, env_id)
    if episodes is None:
        # Nothing ties the environment to a data set: pictures are to look as in training.
        size = {"image_size": agent.model.config.image_size}
        env_kwargs = {**agent.env_kwargs, **manifests[0].env_kwargs, **size}
    else:
        env_kwargs = episodes.env_kwargs
    env_kwargs = protocol_env_kwargs(env_id, env_kwargs, protocol)
    with closing(make_env(env_id, **env_kwargs)) as example:
        for one in manifests:
            one.check_env(example, env_id)
        check_agent(agent, example, env_id)
        example.reset(seed=0, options={"goal_image": False})
        example.remember(episodes)
        example.check_pictures(env_id)
        if protocol.rest_start:
            example.at_rest(manifests[0].start_states)
        judged = judging(example, env_id, agent, episodes, manifests, protocol)
        bounds = describe_bounds(policy, planner, agent, example.action_space)
    return Prepared(agent, protocol, planner, policy, manifests, pairs, judged, env_id, env_kwargs, bounds, episodes)


def _given_manifests(given: Manifests, protocol: Protocol, episodes, n: int | None) -> list[Manifest]:
    given = [given] if isinstance(given, Manifest | str | Path) else list(given)
    manifests = [one if isinstance(one, Manifest) else load_manifest(one) for one in given]
    if not manifests:
        raise ValueError("the list of manifests is empty: give one per seed")
    seeds = [one.seed for one in manifests]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"the manifests' seeds {seeds} repeat: give one manifest per seed")
    for one in manifests:
        if one.env_id != manifests[0].env_id:
            raise ValueError(f"manifests of {manifests[0].env_id} and {one.env_id} do not mix: evaluate each alone")
        one.check_protocol(protocol)
        if episodes is not None:
            one.check_episodes(episodes)
    return manifests if n is None else [one.take(n) for one in manifests]


def _act(task: Prepared, vector_env: GoalVectorEnv, manifest: Manifest, progress: bool) -> Rollouts:
    protocol = task.protocol
    policy = make_policy(task.policy, task.planner, task.agent, vector_env, manifest.seed)
    stored = None if task.episodes is None else StoredFrames(task.episodes)
    described = f"{protocol.name}, seed {manifest.seed}"
    with progress_bar(total=len(manifest), desc=described, unit="pair", show=progress) as bar:

        def show(finished: int, solved: int) -> None:
            bar.set_postfix_str(f"{solved} reached", refresh=False)
            bar.update(finished - bar.n)

        return run_policy(
            vector_env,
            policy,
            manifest,
            protocol.budget,
            starts=stored.starts if stored and protocol.first_frame == "stored" else None,
            goals=stored.goals if stored and protocol.goal_frame == "stored" and not task.judging.own_goals else None,
            see_goals=task.policy in ("planner", "actor"),
            steps_left=protocol.goal_offset if protocol.deadline else None,
            rest_start=protocol.rest_start,
            on_progress=show,
        )


def _floors(vector_env: GoalVectorEnv, manifest: Manifest, protocol: Protocol) -> dict[str, tuple[Outcome, ...]]:
    space = vector_env.single_action_space
    policies = {
        "random": RandomPolicy(space, vector_env.num_envs, manifest.seed),
        "zero_action": ZeroPolicy(space, vector_env.num_envs),
    }
    return {
        name: run_policy(
            vector_env, policy, manifest, protocol.budget, see_goals=False, rest_start=protocol.rest_start
        ).outcomes
        for name, policy in policies.items()
    }


def _measure(
    task: Prepared,
    vector_env: GoalVectorEnv,
    manifest: Manifest,
    floors: bool,
    progress: bool,
    ranks: Ranks = ALONE,
) -> SeedResult:
    clock, mine = time.perf_counter(), replace(manifest, pairs=manifest.pairs[ranks.share])
    acted = _act(task, vector_env, mine, progress)
    blind = _floors(vector_env, mine, task.protocol) if floors else {}
    outcomes = tuple(ranks.together(acted.outcomes))
    blind = {name: ranks.together(of_floor) for name, of_floor in blind.items()}
    plans, planning_seconds = (sum(ranks.every(value)) for value in (acted.plans, acted.planning_seconds))
    rows = tuple(_rows(manifest, outcomes, blind))
    return SeedResult(rows, outcomes, plans, planning_seconds, max(ranks.every(time.perf_counter() - clock)))


def _rows(manifest: Manifest, outcomes: Sequence[Outcome], blind: Mapping[str, Sequence[Outcome]]) -> list[EpisodeRow]:
    rows = []
    for index, (pair, outcome) in enumerate(zip(manifest.pairs, outcomes, strict=True)):
        floor = {name: outcomes[index].success for name, outcomes in blind.items()}
        rows.append(
            EpisodeRow(
                seed=manifest.seed,
                pair=index,
                episode=pair.episode,
                start=pair.start_frame,
                goal_step=pair.goal_frame,
                success=outcome.success,
                first_success_step=outcome.first_success_step,
                solved_at_start=outcome.solved_at_start,
                steps=len(outcome.actions),
                final_distance=outcome.final_distance,
                replans=len(outcome.plan_steps),
                random_success=floor.get("random"),
                zero_action_success=floor.get("zero_action"),
                wall_time=round(outcome.seconds, 4),
            )
        )
    return rows


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
