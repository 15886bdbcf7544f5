"""PushT's factors of variation, and which starts are feasible."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..variation import Choice, Integers, Uniform, VariationSpace
from .drawing import WALL_HIGH, WALL_LOW, WALL_RADIUS
from .shapes import CIRCLE, SHAPES, overlap, world_corners

# What a reset resamples by default, and what makes a goal.
TASK_FACTORS = ("block.start_position", "block.angle", "agent.start_position")
INNER_LOW, INNER_HIGH = WALL_LOW + WALL_RADIUS, WALL_HIGH - WALL_RADIUS
INITIAL_BLOCK_POSITION = np.array([400.0, 100.0])
INITIAL_AGENT_POSITION = np.array([256.0, 400.0])


def variation_space(compat: bool) -> VariationSpace:
    """The 17 factors of the reference, in its sampling order.

    Without `compat`, starts are constrained: block inside the walls, pusher beside the block. `goal.scale` is
    accepted and changes nothing: the goal is drawn with the block's shape and scale.
    """
    color = partial(Integers, low=0, high=255)
    angle = partial(Uniform, low=-2 * np.pi, high=2 * np.pi)
    scale = partial(Uniform, low=20.0, high=60.0)
    block_angle: dict[str, Any] = {}
    block_position: dict[str, Any] = {}
    agent_position: dict[str, Any] = {}
    if not compat:
        inside = "the block must lie inside the walls"
        beside = "the pusher must not overlap the block"
        block_angle = {"constraint": _angle_fits, "rule": inside}
        block_position = {"constraint": _block_fits, "rule": f"{inside}, and {beside}"}
        agent_position = {"constraint": _agent_fits, "rule": beside}
    factors = {
        "background.color": color(initial=np.array([255, 255, 255])),
        "goal.color": color(initial=np.array([144, 238, 144])),
        "goal.scale": scale(initial=40.0),
        "goal.angle": angle(initial=np.pi / 4),
        "goal.position": Uniform(initial=np.array([256.0, 256.0]), low=50.0, high=450.0),
        "block.color": color(initial=np.array([119, 136, 153])),
        "block.scale": scale(initial=30.0),
        "block.shape": Choice(initial="T", choices=tuple(SHAPES)),
        "block.angle": angle(initial=0.0, **block_angle),
        "block.start_position": Uniform(initial=INITIAL_BLOCK_POSITION, low=100.0, high=400.0, **block_position),
        "agent.color": color(initial=np.array([65, 105, 225])),
        "agent.scale": scale(initial=40.0),
        "agent.shape": Choice(initial=CIRCLE, choices=(CIRCLE, *SHAPES)),
        "agent.angle": angle(initial=0.0),
        "agent.start_position": Uniform(initial=INITIAL_AGENT_POSITION, low=50.0, high=450.0, **agent_position),
        "agent.velocity": Uniform(initial=np.zeros(2), low=0.0, high=512.0),
        "rendering.render_goal": Integers(initial=1, low=0, high=1),
    }
    return VariationSpace(factors, default=TASK_FACTORS)


def _inside_walls(values: Mapping[str, Any], position: np.ndarray, angle: float) -> bool:
    corners = world_corners(values["block.shape"], values["block.scale"], np.array([*position, angle]))
    return bool((corners >= INNER_LOW).all() and (corners <= INNER_HIGH).all())


def _beside_block(values: Mapping[str, Any], agent: np.ndarray, block: np.ndarray) -> bool:
    agent_pose, block_pose = np.array([*agent, values["agent.angle"]]), np.array([*block, values["block.angle"]])
    return not overlap(
        values["agent.shape"],
        values["agent.scale"],
        agent_pose,
        values["block.shape"],
        values["block.scale"],
        block_pose,
    )


# Factors are drawn one after the other. One that comes first has to hold its own against a later one only where that
# is given explicitly, which shows in its differing from the initial value.


def _angle_fits(angle: float, values: Mapping[str, Any]) -> bool:
    position = values["block.start_position"]
    given = not np.array_equal(position, INITIAL_BLOCK_POSITION)
    return not given or _inside_walls(values, position, angle)


def _block_fits(position: np.ndarray, values: Mapping[str, Any]) -> bool:
    agent = values["agent.start_position"]
    given = not np.array_equal(agent, INITIAL_AGENT_POSITION)
    fits = _inside_walls(values, position, values["block.angle"])
    return fits and (not given or _beside_block(values, agent, position))


def _agent_fits(position: np.ndarray, values: Mapping[str, Any]) -> bool:
    return _beside_block(values, position, values["block.start_position"])
