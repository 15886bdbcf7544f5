"""The pairs of one seed, acted out: by who is evaluated, and by policies that see nothing."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...progress import progress_bar
from ...tasks.vector import GoalVectorEnv
from ..common.ranks import ALONE, Ranks
from ..common.results import EpisodeRow
from .acting import make_policy, random_policy
from .floors import ZeroPolicy
from .manifest import Manifest
from .prepare import Prepared
from .rollouts import Outcome, Policy, Rollouts, StoredFrames, run_policy
from .unfinished import SeedResult


def measure(
    task: Prepared,
    vector_env: GoalVectorEnv,
    manifest: Manifest,
    floors: bool,
    progress: bool,
    ranks: Ranks = ALONE,
) -> SeedResult:
    """Acts out all pairs of a manifest.

    Args:
        task: what was prepared.
        vector_env: of its environments, with room for any number of pairs at once.
        manifest: the pairs.
        floors: let the random policy and zero actions try the same pairs.
        progress: show a bar.
        ranks: processes that divide the pairs; all of them return the whole.
    """
    clock, mine = time.perf_counter(), replace(manifest, pairs=manifest.pairs[ranks.share])
    acted = _act(task, vector_env, mine, progress)
    blind = _floors(task, vector_env, mine) if floors else {}
    outcomes = tuple(ranks.together(acted.outcomes))
    blind = {name: tuple(ranks.together(of_floor)) for name, of_floor in blind.items()}
    plans, planning_seconds = sum(ranks.every(acted.plans)), sum(ranks.every(acted.planning_seconds))
    rows = tuple(_rows(manifest, outcomes, blind))
    return SeedResult(rows, outcomes, plans, planning_seconds, max(ranks.every(time.perf_counter() - clock)))


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


def _floors(task: Prepared, vector_env: GoalVectorEnv, manifest: Manifest) -> dict[str, tuple[Outcome, ...]]:
    protocol = task.protocol
    policies: dict[str, Policy] = {
        "random": random_policy(task.agent, vector_env, manifest.seed),
        "zero_action": ZeroPolicy(vector_env.single_action_space, vector_env.num_envs),
    }
    return {
        name: run_policy(
            vector_env, policy, manifest, protocol.budget, see_goals=False, rest_start=protocol.rest_start
        ).outcomes
        for name, policy in policies.items()
    }


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
