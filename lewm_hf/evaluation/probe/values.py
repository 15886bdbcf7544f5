"""What probes are to read out: the environment's targets, and their values in the sampled frames."""

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from ...data.schema import STATE
from ...tasks.measurable import Target
from ...tasks.registry import knows_goals, task_names
from ..common.embeddings import FrameSample
from ..common.inputs import Inputs


def observes_alone(inputs: Inputs) -> bool:
    """Whether an environment knows nothing of probes, and its observations were recorded."""
    return inputs.env is not None and not knows_goals(inputs.env) and STATE in inputs.episodes.column_names


def choose_targets(inputs: Inputs, names: Sequence[str] | None) -> tuple[Target, ...]:
    """The targets with these names; all that the environment has for `None`.

    Raises:
        ValueError: one line for an unknown environment or name, or where there are none.
    """
    if inputs.env is None:
        raise ValueError(
            f"the episodes are of environment {inputs.episodes.env_id!r}, which is not a task: name columns of "
            f"numbers to probe (--columns observation.state), use episodes of "
            f"{', '.join(task_names())}, or register_task it"
        )
    with closing(inputs.make_env()) as env:
        known = {target.name: target for target in env.probe_targets}
        kind = type(env).__name__
    if not known:
        raise ValueError(f"{kind} has no probe targets: set its `probe_targets` and implement `probe_values`")
    if names is None:
        return tuple(known.values())
    for name in names:
        if name not in known:
            raise ValueError(f"unknown probe target {name!r}: use any of {', '.join(known)}")
    if not names:
        raise ValueError(f"the list of probe targets is empty: use any of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def target_values(inputs: Inputs, chosen: Sequence[Target], sample: FrameSample) -> dict[str, np.ndarray]:
    """Raw values `(n, k)` of every target, without columns that never change."""
    states = inputs.episodes.states
    with closing(inputs.make_env()) as env:
        env.reset(seed=0, options={"goal_image": False})
        here, before = states[sample.rows], states[sample.rows - 1]
        # Between rows that are several steps apart a velocity is the mean one.
        measured = env.probe_values(here, here - (here - before) / inputs.episodes.every)
    return {target.name: varying(target.name, measured[target.name]) for target in chosen}


def varying(name: str, raw: np.ndarray) -> np.ndarray:
    """Those dimensions of raw values `(n, k)` that change at all.

    Raises:
        ValueError: one line where there are no values, or none changes.
    """
    if not len(raw):
        raise ValueError(f"{name} has no numbers in these frames: leave it out")
    values = raw[:, raw.std(0) > 1e-9 * (1 + np.abs(raw).max(0))]
    if not values.shape[1]:
        raise ValueError(f"{name} never changes in these {len(raw)} frames: leave it out of targets")
    return values
