"""The first half of an evaluation: everything opened, pairs drawn, and checked to fit together; nothing is written."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...planning.planners import Planner, load_planner
from ...proprioception_lewm import check_pictures_alone
from ...tasks.registry import find_task, make_env, task_names
from ...tasks.vector import GoalVectorEnv
from ..common.agent import Agent, check_agent, load_agent
from ..common.inputs import check_trained_on, open_decoder
from .acting import check_policy, check_proprioception, default_planner, describe_bounds
from .arguments import EvaluateArguments
from .judging import JudgedVectorEnv, Judging, judging
from .manifest import Manifest, load_manifest, protocol_env_kwargs, sample_manifest
from .protocol import Protocol, load_protocol, split_overrides
from .shipped import shipped_manifests


@dataclass(frozen=True)
class Prepared:
    """Everything that an evaluation needs, checked to fit together.

    Args:
        given: what was asked for; the others are what became of it.
        planner: how the planner acts, where the policy is it.
        pairs: where they come from: `"drawn"` from the episodes, `"given"` or `"shipped"` manifests.
        judging: who says whether a goal is reached.
        action_bounds: what actions are kept within, see `acting.describe_bounds`.
    """

    given: EvaluateArguments
    agent: Agent
    decoder: Any
    protocol: Protocol
    planner: Planner
    manifests: list[Manifest]
    pairs: str
    judging: Judging
    env_id: str
    env_kwargs: dict[str, Any]
    action_bounds: dict[str, Any] | None
    episodes: Any

    @property
    def policy(self) -> str:
        """Who acts, one of `acting.POLICIES`."""
        return self.given.policy

    @property
    def num_envs(self) -> int:
        """Environments side by side, as many as there are pairs at most."""
        return min(self.given.num_envs, max(map(len, self.manifests)))

    def environments(self, num_envs: int) -> GoalVectorEnv:
        """So many environments side by side, which know how to get to the pairs' starts and tell success."""
        if self.judging.threshold is None:
            made = GoalVectorEnv(self.env_id, num_envs, **self.env_kwargs)
        else:
            made = JudgedVectorEnv(self.agent, self.judging.threshold, self.env_id, num_envs, **self.env_kwargs)
        for member in made.envs:
            member.remember(self.episodes)
        return made


def prepare(given: EvaluateArguments) -> Prepared:
    """The first half of `evaluate`: opens everything, draws the pairs and checks that it all belongs together.

    Nothing is written and no episode is started. Errors as of `evaluate`.
    """
    of_protocol, of_planner = split_overrides(given.overrides or {})
    protocol = load_protocol(given.protocol, of_protocol)
    planner = load_planner(given.planner or default_planner(given.policy, protocol), of_planner)
    env, episodes, policy, n = given.env, given.episodes, given.policy, given.n
    if env is not None:
        find_task(env)
    if isinstance(episodes, str | Path):
        from ...data.cache import read_kept_frames
        from ...data.episodes import load_episodes

        episodes = load_episodes(episodes, protocol.split, given.episodes_revision)
        read_kept_frames(episodes)
    # Through the protocol, which knows what seeds look like; how many there are is no change of it.
    chosen = protocol.seeds if given.seeds is None else protocol.override({"seeds": list(given.seeds)}).seeds
    agent = given.model
    if not isinstance(agent, Agent):
        agent = load_agent(given.model, given.processor, revision=given.revision, device=given.device)
    check_policy(policy, planner, agent)
    if given.videos or given.video_successes:
        check_pictures_alone(agent.model, "a film")
    decoder = None if given.decoder is None else open_decoder(given.decoder, agent, given.decoder_revision)
    if given.manifest is not None:
        pairs, manifests = "given", _given_manifests(given.manifest, protocol, episodes, n)
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
        if policy in ("planner", "actor"):
            check_proprioception(agent.model.config, example, env_id)
        if protocol.rest_start:
            example.at_rest(manifests[0].start_states)
        judged = judging(example, env_id, agent, episodes, manifests, protocol)
        bounds = describe_bounds(policy, planner, agent, example.action_space)
    return Prepared(
        given, agent, decoder, protocol, planner, manifests, pairs, judged, env_id, env_kwargs, bounds, episodes
    )


def _given_manifests(given: Any, protocol: Protocol, episodes: Any, n: int | None) -> list[Manifest]:
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
