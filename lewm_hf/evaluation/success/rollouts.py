"""Runs a policy on the pairs of a manifest, many at a time; on a CPU no pair's outcome depends on its neighbours."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...tasks.vector import GoalVectorEnv
from .manifest import Manifest, Pair


class Policy(Protocol):
    """What acts: `MPCPolicy`, or a floor.

    Args:
        plans: how many plans it has made so far.
    """

    plans: int

    def reset(self, env_ids: Sequence[int], problems: Sequence[int], goals: Any, *more: Any, **told: Any) -> None:
        """Starts problems in these environments; `goals` `(n, H, W, 3)` uint8.

        Where a deadline is told: `steps_left`, environment steps until the goal is due; where `wants_proprioception`
        is true, `goal_proprioception` `(n, observation)`.
        """

    def release(self, env_ids: Sequence[int]) -> None:
        """Ends the problems of these environments: they want no frames and get no actions until the next reset."""

    def wants_frame(self) -> np.ndarray:
        """`(num_envs,)` bool: which environments need a picture before they can act."""

    def act(self, frames: Any, proprioception: Any = None) -> np.ndarray:
        """Pictures `(n, H, W, 3)` of the environments that want one -> `(num_envs, action)` in environment units.

        Where `wants_proprioception` is true, what their `observation.state` is comes beside them."""


class StoredFrames:
    """The data set's own pictures of starts and goals.

    Args:
        episodes: an `EpisodeData` that holds the manifest's episodes.
    """

    def __init__(self, episodes: Any) -> None:
        self.episodes = episodes
        self._offset = {int(e): int(o) for e, o in zip(episodes.episode_ids, episodes.offsets, strict=True)}

    def starts(self, pairs: list[Pair]) -> np.ndarray:
        """`(n, H, W, 3)` uint8."""
        return self.episodes.frames(np.array([self._offset[pair.episode] + pair.start_frame for pair in pairs]))

    def goals(self, pairs: list[Pair]) -> np.ndarray:
        """`(n, H, W, 3)` uint8."""
        return self.episodes.frames(np.array([self._offset[pair.episode] + pair.goal_frame for pair in pairs]))


@dataclass(frozen=True)
class Outcome:
    """What happened on one pair.

    Args:
        success: the goal was reached after some step within the budget.
        first_success_step: that step, counted from 1.
        solved_at_start: the goal was reached before the first step.
        final_distance: of the last state from the goal, see `StateEnv.distance`; `None` where it is unknown.
        plan_steps: steps before which a plan was made, counted from 0.
        states: `(steps + 1, state)`, the whole way.
        actions: `(steps, action)` in environment units.
        seconds: this pair's share of the time that its batch took.
    """

    success: bool
    first_success_step: int | None
    solved_at_start: bool
    final_distance: float | None
    plan_steps: tuple[int, ...]
    states: np.ndarray
    actions: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Rollouts:
    """Outcomes in the order of the manifest, and what planning cost: plans made and seconds spent making them."""

    outcomes: tuple[Outcome, ...]
    plans: int
    planning_seconds: float


def run_policy(
    vector_env: GoalVectorEnv,
    policy: Policy,
    manifest: Manifest,
    budget: int,
    *,
    starts: Callable[[list[Pair]], np.ndarray] | None = None,
    goals: Callable[[list[Pair]], np.ndarray] | None = None,
    see_goals: bool = True,
    steps_left: int | None = None,
    rest_start: bool = False,
    on_progress: Callable[[int, int], Any] | None = None,
) -> Rollouts:
    """Runs every pair of the manifest once, `vector_env.num_envs` at a time.

    An environment is stepped until its goal is reached, its episode is over or the budget is spent, and rendered only
    when the policy wants a picture.

    Args:
        vector_env, policy: of equal size.
        budget: environment steps per pair.
        starts, goals: where the first picture and the goal's picture come from; default: rendered.
        see_goals: whether the policy looks at goals at all.
        steps_left: environment steps until the goal is due, if the policy is told.
        rest_start: start with all velocities zero.
        on_progress: called with pairs finished and pairs solved whenever they change.
    """
    if not len(manifest):
        return Rollouts((), 0, 0.0)
    outcomes: list[Outcome] = []
    made_before, planning_seconds = policy.plans, 0.0
    starting_states, goal_states = manifest.start_states, manifest.goal_states
    if rest_start:
        starting_states = vector_env.envs[0].at_rest(starting_states)
    for first in range(0, len(manifest), vector_env.num_envs):
        pairs = list(manifest.pairs[first : first + vector_env.num_envs])
        members = list(range(len(pairs)))
        rows = slice(first, first + len(pairs))
        clock = time.perf_counter()
        vector_env.reset_to(members, starting_states[rows], goal_states[rows])
        images = None
        if see_goals:
            images = vector_env.goal_images(members) if goals is None else goals(pairs)
        told: dict[str, Any] = {} if steps_left is None else {"steps_left": steps_left}
        wants_proprioception = getattr(policy, "wants_proprioception", False)
        if wants_proprioception:
            told["goal_proprioception"] = vector_env.recorded_goals(members)
        policy.reset(members, [pair.problem for pair in pairs], images, **told)

        solved_at_start = vector_env.successes(members)
        active = np.zeros(vector_env.num_envs, dtype=bool)
        active[members] = True
        first_success: list[int | None] = [None] * len(pairs)
        seconds = np.zeros(len(pairs))
        states = [[state] for state in vector_env.states(members)]
        actions: list[list[np.ndarray]] = [[] for _ in pairs]
        plan_steps: list[list[int]] = [[] for _ in pairs]
        for step in range(budget):
            wanted = np.flatnonzero(policy.wants_frame()).tolist()
            frames: Any = ()
            if wanted:
                frames = starts(pairs)[wanted] if step == 0 and starts is not None else vector_env.render(wanted)
            plans, before = policy.plans, time.perf_counter()
            beside = (vector_env.recorded(wanted),) if wants_proprioception and wanted else ()
            chosen = policy.act(frames, *beside)
            planned = policy.plans > plans
            if planned:
                planning_seconds += time.perf_counter() - before
            success = vector_env.step(chosen, active)
            running = np.flatnonzero(active).tolist()
            for env_id, state in zip(running, vector_env.states(running), strict=True):
                states[env_id].append(state)
                actions[env_id].append(chosen[env_id])
                if planned:  # all pairs of a batch started together, so they plan together
                    plan_steps[env_id].append(step)
                if success[env_id]:
                    first_success[env_id] = step + 1
            now = time.perf_counter()
            seconds[running] += (now - clock) / len(running)
            clock = now
            ended = active & (success | vector_env.over())
            active &= ~ended
            policy.release(np.flatnonzero(ended).tolist())
            if on_progress is not None and (ended.any() or step + 1 == budget):
                reached = sum(found is not None for found in first_success)
                finished = len(pairs) if step + 1 == budget else len(pairs) - int(active.sum())
                on_progress(first + finished, sum(o.success for o in outcomes) + reached)
            if not active.any():
                break
        policy.release(members)
        last_states = np.stack([way[-1] for way in states])
        distances = vector_env.distances(members, last_states, goal_states[rows])
        for index in range(len(pairs)):
            outcomes.append(
                Outcome(
                    success=first_success[index] is not None,
                    first_success_step=first_success[index],
                    solved_at_start=bool(solved_at_start[index]),
                    final_distance=None if distances is None else float(distances[index]),
                    plan_steps=tuple(plan_steps[index]),
                    states=np.stack(states[index]),
                    actions=np.stack(actions[index]),
                    seconds=float(seconds[index]),
                )
            )
    return Rollouts(tuple(outcomes), policy.plans - made_before, planning_seconds)
