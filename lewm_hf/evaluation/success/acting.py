"""Who acts in an evaluation: a planner, the checkpoint's actor, or a blind policy; and what a result says about it."""

from typing import Any

import numpy as np

from ...data.schema import STATE
from ...planning.actor import ActorPolicy
from ...planning.mpc import MPCPolicy
from ...planning.planners import Planner
from ...planning.world_model import check_actor, check_imagines
from ...proprioception_lewm import columns_of, size_of
from ...tasks.state_env import StateEnv
from ...tasks.vector import GoalVectorEnv
from ..common.agent import Agent
from .described import ACTORS_PLANNER, describe_policy
from .floors import RandomPolicy, ZeroPolicy
from .protocol import Protocol
from .rollouts import Policy

__all__ = [
    "POLICIES",
    "check_policy",
    "check_proprioception",
    "default_planner",
    "describe_bounds",
    "describe_policy",
    "make_policy",
    "random_policy",
    "seen_frames",
]

POLICIES = ("planner", "actor", "random", "zero")


def default_planner(policy: str, protocol: Protocol) -> str:
    """The planner where nobody asks for one: the protocol's; for the actor alone, the one that it proposes to."""
    return ACTORS_PLANNER if policy == "actor" else protocol.default_planner


def check_policy(policy: str, planner: Planner, agent: Agent) -> None:
    """Refuses a policy that this checkpoint cannot follow.

    Raises:
        ValueError: one line: an unknown policy, an actor that does not exist, more context than the model takes.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy={policy!r} is unknown: use one of {', '.join(POLICIES)}")
    if policy == "actor":
        check_actor(agent.model, "policy=actor")
    if policy == "planner":
        check_imagines(agent.model, f"planner {planner.label}")
        planner.frames(agent.model.config)
        if planner.proposal is not None:
            check_actor(agent.model, f"planner {planner.label}")


def check_proprioception(config: Any, env: StateEnv, env_id: str) -> None:
    """Refuses a model that wants proprioception which an evaluation in this environment cannot give.

    Raises:
        ValueError: one line.
    """
    if not size_of(config):
        return
    if list(config.proprioception_key or ()) != [STATE]:
        raise ValueError(
            f"this model was trained with {columns_of(config)}, but an environment gives {STATE} alone: evaluate it "
            f"with `lewm health` and `lewm probe`, or train with proprioception_key={STATE}"
        )
    seen = env.recorded(env.observe())
    if (
        env.own_goals
        or env.judge == "model"
        or not env.restorable
        or seen is None
        or np.shape(seen) != (size_of(config),)
    ):
        raise ValueError(
            f"this model was trained with {columns_of(config)}, which {env_id} does not give of a state and of a goal: "
            "add get_state, set_state and is_success to the environment, or train on pictures alone"
        )


def seen_frames(policy: str, planner: Planner, agent: Agent) -> int:
    """Frames that a decision looks at."""
    return planner.frames(agent.model.config) if policy == "planner" else 1


def describe_bounds(policy: str, planner: Planner, agent: Agent, action_space: Any) -> dict[str, Any] | None:
    """Bounds that actions are kept within and where they come from; `None` where nothing is clipped."""
    clipped = planner.clip_actions != "none" if policy == "planner" else policy == "actor"
    config = agent.model.config
    if not clipped or getattr(config, "action_choices", None):
        return None
    if getattr(config, "action_low", None) is not None:
        return {"low": list(config.action_low), "high": list(config.action_high), "source": "config"}
    if not action_space.is_bounded():
        return None
    return {"low": action_space.low.tolist(), "high": action_space.high.tolist(), "source": "environment"}


def random_policy(agent: Agent, vector_env: GoalVectorEnv, seed: int) -> RandomPolicy:
    """Random actions for these environments, beside this agent."""
    config = agent.model.config
    recorded = config.action_mean, config.action_std
    return RandomPolicy(vector_env.single_action_space, vector_env.num_envs, seed, recorded)


def make_policy(policy: str, planner: Planner, agent: Agent, vector_env: GoalVectorEnv, seed: int) -> Policy:
    """The policy for one seed of an evaluation.

    Args:
        policy, planner: as `check_policy` has passed them.
        seed: of the planner's noise, or the random policy's actions.
    """
    space = vector_env.single_action_space
    if policy == "random":
        return random_policy(agent, vector_env, seed)
    if policy == "zero":
        return ZeroPolicy(space, vector_env.num_envs)
    bounds = (space.low.tolist(), space.high.tolist()) if space.is_bounded() else None
    shared: dict[str, Any] = {"num_envs": vector_env.num_envs, "action_bounds": bounds}
    if policy == "actor":
        return ActorPolicy(agent.model, agent.processor, retry=planner.retry, **shared)
    return MPCPolicy(agent.model, agent.processor, planner, seed=seed, **shared)
