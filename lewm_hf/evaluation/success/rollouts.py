"""Runs a policy on the pairs of a manifest, many at a time; on a CPU no pair's outcome depends on its neighbours."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
        _tell(policy, vector_env, pairs, images, steps_left)
        solved_at_start = vector_env.successes(members)
        batch = _Batch(vector_env.states(members), solved_at_start)
        active = np.zeros(vector_env.num_envs, dtype=bool)
        active[members] = True
        for step in range(budget):
            see = partial(starts, pairs) if step == 0 and starts is not None else None
            chosen, spent = _decide(policy, vector_env, see)
            planning_seconds += spent or 0.0
            success = vector_env.step(chosen, active)
            running = np.flatnonzero(active).tolist()
            batch.add(step, running, vector_env.states(running), chosen, success, planned=spent is not None)
            now = time.perf_counter()
            batch.seconds[running] += (now - clock) / len(running)
            clock = now
            ended = active & (success | vector_env.over())
            active &= ~ended
            policy.release(np.flatnonzero(ended).tolist())
            if on_progress is not None and (ended.any() or step + 1 == budget):
                finished = len(pairs) if step + 1 == budget else len(pairs) - int(active.sum())
                on_progress(first + finished, sum(one.success for one in outcomes) + batch.solved)
            if not active.any():
                break
        policy.release(members)
        outcomes += batch.outcomes(vector_env.distances(members, batch.last_states, goal_states[rows]))
    return Rollouts(tuple(outcomes), policy.plans - made_before, planning_seconds)


def _tell(
    policy: Policy, vector_env: GoalVectorEnv, pairs: Sequence[Pair], images: np.ndarray | None, steps_left: int | None
) -> None:
    """Gives the policy its problems, with what it may know of them beside the goals' pictures."""
    members = list(range(len(pairs)))
    told: dict[str, Any] = {} if steps_left is None else {"steps_left": steps_left}
    if _wants_proprioception(policy):
        told["goal_proprioception"] = vector_env.recorded_goals(members)
    policy.reset(members, [pair.problem for pair in pairs], images, **told)


def _decide(
    policy: Policy, vector_env: GoalVectorEnv, see: Callable[[], np.ndarray] | None
) -> tuple[np.ndarray, float | None]:
    """The actions `(num_envs, action)` of a step, and the seconds that planning took, `None` where nothing was planned.

    Args:
        see: pictures of all environments; default: those that the policy wants are rendered.
    """
    wanted = np.flatnonzero(policy.wants_frame()).tolist()
    frames: Any = ()
    if wanted:
        frames = vector_env.render(wanted) if see is None else see()[wanted]
    plans, before = policy.plans, time.perf_counter()
    beside = (vector_env.recorded(wanted),) if wanted and _wants_proprioception(policy) else ()
    chosen = policy.act(frames, *beside)
    return chosen, time.perf_counter() - before if policy.plans > plans else None


def _wants_proprioception(policy: Policy) -> bool:
    return getattr(policy, "wants_proprioception", False)


class _Batch:
    """What has happened so far on the pairs that run side by side, one environment each.

    Args:
        states: `(n, state)`, where they start.
        solved_at_start: `(n,)` bool.
    """

    def __init__(self, states: np.ndarray, solved_at_start: np.ndarray):
        count = len(solved_at_start)
        self.seconds = np.zeros(count)
        self._solved_at_start = solved_at_start
        self._first_success: list[int | None] = [None] * count
        self._states = [[state] for state in states]
        self._actions: list[list[np.ndarray]] = [[] for _ in range(count)]
        self._plan_steps: list[list[int]] = [[] for _ in range(count)]

    def add(
        self,
        step: int,
        running: Sequence[int],
        states: np.ndarray,
        actions: np.ndarray,
        success: np.ndarray,
        planned: bool,
    ) -> None:
        """One step of those that run; `states` are theirs alone, `actions` and `success` of all environments."""
        for env_id, state in zip(running, states, strict=True):
            self._states[env_id].append(state)
            self._actions[env_id].append(actions[env_id])
            if planned:  # all pairs of a batch started together, so they plan together
                self._plan_steps[env_id].append(step)
            if success[env_id]:
                self._first_success[env_id] = step + 1

    @property
    def solved(self) -> int:
        return sum(found is not None for found in self._first_success)

    @property
    def last_states(self) -> np.ndarray:
        return np.stack([way[-1] for way in self._states])

    def outcomes(self, distances: np.ndarray | None) -> list[Outcome]:
        """One for each pair; `distances` `(n,)` of the last states from the goals, where they are known."""
        return [
            Outcome(
                success=self._first_success[index] is not None,
                first_success_step=self._first_success[index],
                solved_at_start=bool(self._solved_at_start[index]),
                final_distance=None if distances is None else float(distances[index]),
                plan_steps=tuple(self._plan_steps[index]),
                states=np.stack(self._states[index]),
                actions=np.stack(self._actions[index]),
                seconds=float(self.seconds[index]),
            )
            for index in range(len(self._states))
        ]
