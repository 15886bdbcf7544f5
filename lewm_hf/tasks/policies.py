"""The policies that collect episodes, by environment and name. Only the one in use is imported."""

from importlib import import_module
from typing import Any, Protocol

import numpy as np

RANDOM = "lewm_hf.tasks.random_policy:RandomPolicy"
# The first of each environment is its default.
EXPERTS = {
    "two_room": {"expert": "lewm_hf.tasks.two_room.expert:TwoRoomExpert"},
    "push_t": {
        "expert": "lewm_hf.tasks.push_t.expert:PushTExpert",
        "weak": "lewm_hf.tasks.push_t.expert:PushTWeakPolicy",
    },
    "reacher": {"random": RANDOM, "sac": "lewm_hf.tasks.reacher.expert:SACExpert"},
    "cube": {"expert": "lewm_hf.tasks.cube.expert:CubeExpert"},
}
COMMON = {"random": RANDOM}


class Expert(Protocol):
    """A policy whose actions are a pure function of the environment's state and the generator given at `reset`."""

    def reset(self, env, rng: np.random.Generator) -> None:
        """Starts an episode in `env`, right after its reset; every later draw comes from `rng`."""

    def act(self, env) -> np.ndarray:
        """The next action, float32, in environment units."""


def expert_names(env: str) -> tuple[str, ...]:
    """Names of the policies for the environment's short name, default first."""
    if env not in EXPERTS:
        raise ValueError(f"unknown environment {env!r}: use one of {', '.join(EXPERTS)}")
    return tuple(EXPERTS[env] | COMMON)


def make_expert(env: str, name: str | None = None, **kwargs: Any) -> Expert:
    """The policy `name` (default: the environment's first) for the environment's short name.

    Raises:
        ValueError: for unknown names, listing the known ones.
    """
    names = expert_names(env)
    name = names[0] if name is None else name
    if name not in names:
        raise ValueError(f"unknown expert {name!r} for {env}: use one of {', '.join(names)}")
    module, _, attribute = (EXPERTS[env] | COMMON)[name].partition(":")
    return getattr(import_module(module), attribute)(**kwargs)
