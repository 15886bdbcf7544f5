"""What a result says about who acted; needs neither environments nor models."""

from typing import Any

from ...named_settings import content_hash, label
from ...planning.planners import Planner

# The planner whose settings an actor that acts alone takes where nobody names another: the one that it proposes to.
ACTORS_PLANNER = "actor-guided"


def describe_policy(policy: str, planner: Planner) -> dict[str, Any]:
    """Label, hash and values of who acts, as results name it under `planner`."""
    if policy == "planner":
        return planner.to_dict() | {"label": planner.label, "hash": planner.hash}
    content: dict[str, Any] = {"name": policy, "version": 1}
    if policy == "actor" and planner.retry is not None:
        content |= {"version": 2, "retry": planner.retry}
    return content | {"overrides": {}, "label": label(policy, content["version"], None), "hash": content_hash(content)}
