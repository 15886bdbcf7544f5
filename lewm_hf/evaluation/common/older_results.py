"""Results of earlier formats, read as if they were written today."""

from collections.abc import Mapping
from typing import Any

from ...planning.planners import Planner, load_planner, planner_keys, planner_names, planner_of
from ..success.described import describe_policy
from ..success.protocol import Protocol

# Format 2 wrote protocol and planner into one mapping. Whoever planned then executed plans as the paper does.
_BEFORE = "paper"


def upgraded(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result of format 2 in the form of format 3: protocol and planner apart, each with label and hash.

    The protocol's hash is that of its own values, so that it equals the hash of a run today. Nothing was told then that
    the planner used, which `deadline` cannot contradict.
    """
    old = dict(result["protocol"])
    changed = dict(old.get("overrides", {}))
    planning = {
        name: value for name, value in old.items() if name in planner_keys() and name not in ("name", "version")
    }
    of_planner = {name: value for name, value in changed.items() if name in planning}
    dropped = {*planning, "action_block", "label", "hash"}
    values = {name: value for name, value in old.items() if name not in dropped}
    values["overrides"] = {name: value for name, value in changed.items() if name not in dropped}
    protocol = Protocol(**values | {"deadline": True, "default_planner": _BEFORE})
    planner = _planner(planning, of_planner)
    frames = planning["context_frames"]
    return dict(result) | {
        "format": 3,
        "protocol": protocol.to_dict() | {"label": protocol.label, "hash": protocol.hash},
        "policy": "planner",
        "planner": describe_policy("planner", planner),
        "planning": dict(result["planning"]) | {"context_frames": frames, "action_bounds": None},
    }


def _planner(values: Mapping[str, Any], changed: Mapping[str, Any]) -> Planner:
    """The shipped planner with these values, else the paper's with what was changed."""
    for name in planner_names():
        shipped = load_planner(name)
        if shipped.horizon_rule == "fixed" and all(shipped.to_dict().get(key) == v for key, v in values.items()):
            return shipped
    base = load_planner(_BEFORE)
    if all(base.to_dict().get(key) == value for key, value in values.items() if key not in changed):
        return base.override(values)
    # A protocol file of somebody's own: its planner had no name.
    rest = {name: value for name, value in base.to_dict().items() if name not in ("overrides", *values)}
    return planner_of(rest | {"name": "unnamed"} | dict(values), "planner of an earlier result")
