"""The policies that collect episodes, by task and name. Only the one in use is imported."""

from importlib import import_module
from typing import Any

from .registry import find_task
from .rollout import Expert
from .task import Source

# What every task has, whatever else it has.
COMMON: dict[str, Source] = {"random": "lewm_hf.tasks.random_policy:RandomPolicy"}


def expert_names(env: str) -> tuple[str, ...]:
    """Names of the policies for an environment, by short name or gymnasium id; the default comes first.

    Raises:
        ValueError: for an unknown environment, listing the known ones.
    """
    return tuple({**find_task(env).policies, **COMMON})


def make_expert(env: str, name: str | None = None, **kwargs: Any) -> Expert:
    """The policy `name` (default: the task's first) for an environment, by short name or gymnasium id.

    Args:
        env: of the task.
        name: one of `expert_names(env)`.
        **kwargs: of the policy's constructor.

    Raises:
        ValueError: for unknown names, listing the known ones.
    """
    task = find_task(env)
    policies = {**task.policies, **COMMON}
    name = next(iter(policies)) if name is None else name
    if name not in policies:
        raise ValueError(f"unknown expert {name!r} for {task.name}: use one of {', '.join(policies)}")
    source = policies[name]
    if isinstance(source, str):
        module, _, attribute = source.partition(":")
        source = getattr(import_module(module), attribute)
    return source(**kwargs)
