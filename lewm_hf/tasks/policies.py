"""The policies that collect episodes, by task and name. Only the one in use is imported."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .outside_policies import is_outside, outside_policy
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
        name: one of `expert_names(env)`, or one from outside, see `expert_source`.
        **kwargs: of the policy's constructor.

    Raises:
        ValueError: for unknown names, listing the known ones.
    """
    return expert_source(env, name)(**kwargs)


def expert_source(env: str, name: str | None = None) -> Callable[..., Any]:
    """What makes the policy `name` (default: the task's first), with its arguments as keywords.

    Args:
        env: of the task.
        name: one of `expert_names(env)`; `"module:Class"`, an `Expert` or anything with `predict(observation)`; or the
            file of a Stable-Baselines3 checkpoint, `"agent.zip"`.

    Raises:
        ValueError, ImportError, FileNotFoundError: one line for what does not exist or is not a policy.
    """
    task = find_task(env)
    policies = {**task.policies, **COMMON}
    name = next(iter(policies)) if name is None else name
    if name not in policies and is_outside(name):
        return outside_policy(name)
    if name not in policies:
        raise ValueError(
            f"unknown expert {name!r} for {task.name}: use one of {', '.join(policies)}, module:Class, or a checkpoint "
            "of Stable-Baselines3 (*.zip)"
        )
    source = policies[name]
    if isinstance(source, str):
        module, _, attribute = source.partition(":")
        try:
            source = getattr(import_module(module), attribute)
        except (ModuleNotFoundError, AttributeError, SyntaxError, NameError) as error:
            reason = " ".join(str(error).split())
            raise ImportError(
                f"policy {name!r} of {task.name}, {policies[name]}, cannot be imported ({reason}): mend it, or its "
                "name in the task's policies"
            ) from error
    return source
