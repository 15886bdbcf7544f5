"""TwoRoom's geometry, factors of variation and motion, without pictures. Lengths in pixels of a 224 x 224 canvas.

Coordinates are (x right, y down), pixel centers at integers. A wall through the center separates two rooms; doors
lead through it; the agent is a disk that moves by `speed * action`, without inertia. Constants are those of the
environment that the released weights were trained on (stable-worldmodel).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..variation import Integers, Uniform, VariationSpace

CANVAS = 224
BORDER = 14
WALL_CENTER = 112
MAX_DOORS = 3
SUCCESS_DISTANCE = 16.0
DOOR_MARGIN = 1.75
DOOR_FIT = 1.1
PUSH_BACK = 0.5


@dataclass(frozen=True)
class Layout:
    """What decides about motion.

    Attributes:
        across: index of the coordinate that the wall blocks: 0 (x) for a vertical wall, 1 (y) for a horizontal one.
        half_thickness: of the wall.
        doors: (center, half extent) of each, along the wall.
        radius, speed: of the agent; speed in pixels per step at action 1.
    """

    across: int = 0
    half_thickness: int = 5
    doors: tuple[tuple[float, float], ...] = ((49.0, 14.0),)
    radius: float = 7.0
    speed: float = 5.0

    @classmethod
    def of(cls, variation: Mapping[str, Any]) -> "Layout":
        """The layout that complete values of the factors describe."""
        number = variation["door.number"]
        return cls(
            across=1 - variation["wall.axis"],
            half_thickness=variation["wall.thickness"] // 2,
            doors=tuple(
                (float(center), float(extent))
                for center, extent in zip(
                    variation["door.position"][:number], variation["door.size"][:number], strict=True
                )
            ),
            radius=variation["agent.radius"],
            speed=variation["agent.speed"],
        )

    def fitting_doors(self) -> tuple[tuple[float, float], ...]:
        """Doors wide enough for the agent: half extent at least 1.1 radii."""
        return tuple(door for door in self.doors if door[1] >= DOOR_FIT * self.radius)

    def point(self, across: float, along: float) -> np.ndarray:
        """(x, y) of a point given across and along the wall."""
        return np.array([across, along] if self.across == 0 else [along, across], dtype=np.float64)

    def in_wall_band(self, position: np.ndarray) -> bool:
        """Whether the disk at `position` reaches into the wall's stripe, door or not."""
        return bool(abs(position[self.across] - WALL_CENTER) <= self.half_thickness + self.radius)

    def path_length(self, start: np.ndarray, end: np.ndarray) -> float:
        """Length of the shortest way from one room to the other through the center of a fitting door, else infinity."""
        lengths = (
            math.dist(start, door) + math.dist(door, end)
            for door in (self.point(WALL_CENTER, center) for center, _ in self.fitting_doors())
        )
        return min(lengths, default=math.inf)


def move(x: float, y: float, action_x: float, action_y: float, layout: Layout) -> tuple[float, float]:
    """One step of the reference's motion: the action is clamped, then only the end point is tested.

    The disk may clip door jambs, because the door test looks at its center, and stepping out of the door's span inside
    the passage snaps it back to the side where it was. Released data contains such transitions.
    """
    low, high = BORDER + layout.radius, CANVAS - BORDER - layout.radius
    new = [
        min(max(x + layout.speed * min(max(action_x, -1.0), 1.0), low), high),
        min(max(y + layout.speed * min(max(action_y, -1.0), 1.0), low), high),
    ]
    reach = layout.half_thickness + layout.radius
    across, along = new[layout.across], new[1 - layout.across]
    if (y if layout.across else x) < WALL_CENTER:
        if across > WALL_CENTER - reach and not _in_door(along, layout):
            new[layout.across] = WALL_CENTER - reach - PUSH_BACK
    elif across < WALL_CENTER + reach and not _in_door(along, layout):
        new[layout.across] = WALL_CENTER + reach + PUSH_BACK
    return new[0], new[1]


def _in_door(along: float, layout: Layout) -> bool:
    return any(
        center - extent - DOOR_MARGIN <= along <= center + extent + DOOR_MARGIN for center, extent in layout.doors
    )


def move_all(positions: np.ndarray, actions: np.ndarray, layout: Layout) -> np.ndarray:
    """`move` for many agents at once, equal bit for bit: `(n, 2)`, `(n, 2)` -> `(n, 2)` float64."""
    low, high = BORDER + layout.radius, CANVAS - BORDER - layout.radius
    new = np.clip(positions + layout.speed * np.clip(actions, -1.0, 1.0), low, high)
    reach = layout.half_thickness + layout.radius
    across, along = new[:, layout.across], new[:, 1 - layout.across]
    in_door = np.zeros(len(new), dtype=bool)
    for center, extent in layout.doors:
        in_door |= (center - extent - DOOR_MARGIN <= along) & (along <= center + extent + DOOR_MARGIN)
    before = positions[:, layout.across] < WALL_CENTER
    blocked_before = before & (across > WALL_CENTER - reach) & ~in_door
    blocked_behind = ~before & (across < WALL_CENTER + reach) & ~in_door
    across[blocked_before] = WALL_CENTER - reach - PUSH_BACK
    across[blocked_behind] = WALL_CENTER + reach + PUSH_BACK
    return new


def variation_space(compat: bool = False) -> VariationSpace:
    """TwoRoom's factors of variation, in sampling order.

    The reference also lists `wall.border_color`, which it never draws: left out.

    Args:
        compat: sample the target anywhere, in the agent's room or in the wall too, as the reference does today. By
            default it lies in the other room, outside the wall's band, at least `task.min_steps` steps away.
    """
    red, green, black, white = (255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)
    low, high = BORDER, CANVAS - BORDER - 1
    factors = {
        "background.color": _color(white),
        "wall.color": _color(black),
        "wall.thickness": Integers(initial=10, low=7, high=41),
        "wall.axis": Integers(initial=1, low=0, high=1),
        "agent.color": _color(red),
        "agent.radius": Uniform(initial=7.0, low=7.0, high=14.0),
        "agent.position": Uniform(
            initial=np.array([60.0, 112.0]), low=low, high=high, constraint=_clear_of_wall, rule="not within the wall"
        ),
        "agent.speed": Uniform(initial=5.0, low=1.75, high=10.5),
        "door.color": _color(white),
        "door.number": Integers(initial=1, low=1, high=MAX_DOORS),
        "door.size": Integers(
            initial=np.full(MAX_DOORS, 14),
            low=1,
            high=21,
            constraint=_one_door_fits,
            rule="at least one door's half extent is 1.1 agent radii or more",
        ),
        "door.position": Integers(initial=np.full(MAX_DOORS, 49), low=0, high=CANVAS - 1),
        "task.min_steps": Integers(initial=25, low=15, high=114),
        "target.color": _color(green),
        "target.radius": Uniform(initial=7.0, low=7.0, high=14.0),
        "target.position": Uniform(
            initial=np.array([164.0, 112.0]),
            low=low,
            high=high,
            constraint=None if compat else _worth_a_trip,
            rule="in the other room, clear of the wall, task.min_steps steps away (options={'goal': ...} is free)",
        ),
        "rendering.render_target": Integers(initial=0, low=0, high=1),
    }
    return VariationSpace(factors, default=("agent.position", "target.position"))


def _color(initial: tuple[int, int, int]) -> Integers:
    return Integers(initial=np.array(initial), low=0, high=255)


def _clear_of_wall(position: np.ndarray, values: Mapping[str, Any]) -> bool:
    return not Layout.of(values).in_wall_band(position)


def _one_door_fits(sizes: np.ndarray, values: Mapping[str, Any]) -> bool:
    return bool(max(sizes[: values["door.number"]]) >= DOOR_FIT * values["agent.radius"])


def _worth_a_trip(target: np.ndarray, values: Mapping[str, Any]) -> bool:
    layout, agent = Layout.of(values), values["agent.position"]
    side = agent[layout.across] < WALL_CENTER
    if layout.in_wall_band(target) or (target[layout.across] < WALL_CENTER) == side:
        return False
    # A fast agent can cross the canvas in fewer steps than asked for: then a far corner of the other room will do.
    inset = 2 * BORDER + layout.radius
    far = CANVAS - inset if side else inset
    farthest = max(layout.path_length(agent, layout.point(far, along)) for along in (inset, CANVAS - inset))
    return layout.path_length(agent, target) >= min(values["task.min_steps"] * layout.speed, farthest)
