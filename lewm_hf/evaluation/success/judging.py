"""Who says that a goal is reached: the environment where it can, else the model that is judged, by its own distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...tasks.state_env import StateEnv
from ...tasks.vector import GoalVectorEnv
from ..common.agent import Agent
from ..common.embeddings import encode
from .manifest import Manifest
from .protocol import Protocol
from .rollouts import StoredFrames

# Held-out pairs that the threshold of the latent distance is measured on.
THRESHOLD_PAIRS = 64
# A replayed picture that differs by more than so many levels in more than this share of its pixels is another one.
LEVELS, SHARE = 32, 1e-3


@dataclass(frozen=True)
class Judging:
    """How the success of one evaluation is told.

    Args:
        rule: in words.
        distance_unit: of final distances.
        goals: where goal pictures come from, in words.
        not_comparable: what a reader must not compare, a sentence each; nothing in environments that know their goals.
        threshold: latent distance below which the model counts a goal as reached; `None` where the environment tells.
        own_goals: the goals are shown by the environment, whatever the episodes hold.
    """

    rule: str
    distance_unit: str
    goals: str = "states of the episodes"
    not_comparable: tuple[str, ...] = ()
    threshold: float | None = None
    own_goals: bool = False

    def facts(self) -> dict[str, Any]:
        """What a result says beside rule and unit; nothing where there is nothing to say."""
        if not self.not_comparable:
            return {}
        return {
            "goals": self.goals, "not_comparable": list(self.not_comparable), "latent_threshold": self.threshold,
        }  # fmt: skip


def judging(
    env: StateEnv, env_id: str, agent: Agent, episodes: Any, manifests: Sequence[Manifest], protocol: Protocol
) -> Judging:
    """What an environment lets an evaluation know, checked on the first pair.

    Args:
        env: that has been told the episodes (`StateEnv.remember`).
        episodes: an `EpisodeData`, `None` where the pairs come from manifests alone.

    Raises:
        ValueError: one line, where starts cannot be restored, replayed episodes come out otherwise, or nothing tells
            success.
    """
    if not env.restorable:
        _check_replay(env, env_id, episodes, manifests, protocol)
    fits = env.judge == "goal" or (env.judge == "own goal" and _goals_succeed(episodes, manifests))
    if fits and env.restorable and env.knows_pairs:
        return Judging(env.success_rule, env.distance_unit)
    goals, remarks = "states of the episodes", []
    if env.own_goals:
        goals = 'the environment\'s own pictures, info["goal"] of its reset'
    elif not env.restorable:
        goals = "frames of recorded episodes, reached again by their actions from a seeded reset"
    if not env.restorable:
        remarks.append(
            f"{env_id} has no set_state: pairs need these episodes, and environments that reset and step otherwise"
        )
    if fits:
        if not env.knows_pairs:
            remarks.append("pairs that are solved at the start are counted, not left out")
        return Judging(env.success_rule, env.distance_unit, goals, tuple(remarks), own_goals=env.own_goals)
    if env.judge == "own goal":
        remarks.append(f"{env.success_rule} judges a goal that is not shown, so it is not asked")
    if episodes is None:
        raise ValueError(
            f"{env_id} does not say whether a goal is reached, and a latent distance for it is measured on episodes: "
            "give some (--episodes), or add is_success() and set_goal(state) to the environment"
        )
    remarks += [
        "success is the model's own opinion: rates of other models, and of other environments, mean something else",
        "pairs that are solved at the start are counted, not left out",
    ]
    threshold, pairs, steps = _threshold(agent, episodes)
    rule = (
        f"latent distance to the goal <= {threshold:.3g}, the median of {pairs} pairs of {episodes.split} frames, "
        f"{steps} steps apart"
    )
    return Judging(rule, "latent distance", goals, tuple(remarks), threshold, env.own_goals)


def _goals_succeed(episodes: Any, manifests: Sequence[Manifest]) -> bool:
    """Whether every goal frame was recorded as reaching the environment's own goal."""
    reached = None if episodes is None else episodes.success
    if reached is None:
        return False
    offsets = dict(zip(episodes.episode_ids.tolist(), episodes.offsets.tolist(), strict=True))
    return all(reached[offsets[pair.episode] + pair.goal_frame] for one in manifests for pair in one.pairs)


def _check_replay(env: StateEnv, env_id: str, episodes: Any, manifests: Sequence[Manifest], protocol: Protocol) -> None:
    if episodes is None:
        raise ValueError(
            f"{env_id} has no set_state, which starts of protocol {protocol.label} need: give the episodes that the "
            "pairs come from (--episodes), whose actions lead there"
        )
    pair, stored = manifests[0].pairs[0], StoredFrames(episodes)
    env.set_state(np.array(pair.start_state))
    shown = [(env.render(), stored.starts([pair])[0], pair.start_frame)]
    if not env.own_goals:
        shown.append((env.goal_image(np.array(pair.goal_state)), stored.goals([pair])[0], pair.goal_frame))
    for drawn, recorded, frame in shown:
        differs = (np.abs(drawn.astype(np.int16) - recorded) > LEVELS).any(-1).mean()
        if differs > SHARE:
            raise ValueError(
                f"{env_id} does not repeat itself: replayed from its reset seed, frame {frame} of episode "
                f"{pair.episode} differs from the recorded one in {100 * differs:.1f} % of the pixels; let reset(seed="
                "...) decide about everything random, or add get_state and set_state"
            )


def _threshold(agent: Agent, episodes: Any) -> tuple[float, int, int]:
    """Median latent distance of frames one action block apart, of how many pairs, and how many steps that is."""
    steps = agent.model.config.frameskip
    apart = episodes.rows_apart(steps)
    lengths = np.asarray(episodes.lengths)
    within = np.concatenate([offset + np.arange(max(0, length - apart)) for offset, length in
                             zip(episodes.offsets, lengths, strict=True)])  # fmt: skip
    if not len(within):
        raise ValueError(f"no episode of {episodes.name} has two frames {steps} steps apart: collect longer ones")
    rows = within[np.unique(np.linspace(0, len(within) - 1, THRESHOLD_PAIRS).astype(int))]
    frames = episodes.frames(np.concatenate([rows, rows + apart]))
    first, second = encode(agent.model, agent.processor, frames)["embeddings"].flatten(1).chunk(2)
    return float((first - second).norm(dim=1).median()), len(rows), steps


class JudgedVectorEnv(GoalVectorEnv):
    """Environments whose success is told by a model: a latent distance from the goal of at most a threshold.

    Args:
        agent: the model and its image processor.
        threshold: largest latent distance that counts.
        env, num_envs, **kwargs: of `GoalVectorEnv`.
    """

    def __init__(self, agent: Agent, threshold: float, env: str, num_envs: int, **kwargs: Any):
        super().__init__(env, num_envs, **kwargs)
        self._agent, self._threshold = agent, threshold
        self._pictures: dict[int, np.ndarray] = {}
        self._goals: list[Tensor | None] = [None] * num_envs
        self._distances = np.full(num_envs, np.nan)

    def reset_to(self, indices: Sequence[int], states: np.ndarray, goals: np.ndarray) -> None:
        super().reset_to(indices, states, goals)
        self._forget(indices)
        for index, latent in zip(indices, self._encode(self.goal_images(indices)), strict=True):
            self._goals[index] = latent
        self._measure(self._indices(indices))

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
        super().step(actions, active)
        moved = np.flatnonzero(np.ones(self.num_envs, dtype=bool) if active is None else active).tolist()
        self._forget(moved)
        self._measure(moved)
        success = np.zeros(self.num_envs, dtype=bool)
        success[moved] = self._distances[moved] <= self._threshold
        return success

    def successes(self, indices: Sequence[int] | None = None) -> np.ndarray:
        return self._distances[self._indices(indices)] <= self._threshold

    def distances(self, indices: Sequence[int], states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return self._distances[self._indices(indices)].copy()

    def render(self, indices: Sequence[int] | None = None) -> np.ndarray:
        chosen = self._indices(indices)
        if missing := [index for index in chosen if index not in self._pictures]:
            self._pictures |= dict(zip(missing, super().render(missing), strict=True))
        return np.stack([self._pictures[index] for index in chosen])

    def _measure(self, indices: Sequence[int]) -> None:
        if len(indices):
            goals = torch.stack([self._goals[index] for index in indices])
            self._distances[indices] = (self._encode(self.render(indices)) - goals).norm(dim=1).numpy()

    def _encode(self, pictures: np.ndarray) -> Tensor:
        return encode(self._agent.model, self._agent.processor, pictures)["embeddings"].flatten(1)

    def _forget(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._pictures.pop(int(index), None)
