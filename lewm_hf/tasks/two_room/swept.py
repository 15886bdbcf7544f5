"""TwoRoom's motion with the whole disk tested against the walls all along its way (`physics="swept"`).

The disk stops where it first touches a wall, keeps the part of its motion that is parallel to the surface, and never
overlaps a wall or jumps through one: a door must be wider than the disk to let it pass.
"""

import numpy as np

from .world import BORDER, CANVAS, WALL_CENTER, Layout

MAX_CONTACTS = 3
FAR = 10.0 * CANVAS
TOUCHING = 1e-9

Rectangle = tuple[np.ndarray, np.ndarray]


def sweep_all(positions: np.ndarray, actions: np.ndarray, layout: Layout) -> np.ndarray:
    """One step of many disks: `(n, 2)`, `(n, 2)` -> `(n, 2)` float64. Those that start in a wall are moved out."""
    low, high = BORDER + layout.radius, CANVAS - BORDER - layout.radius
    walls = wall_rectangles(layout)
    start = _push_out(np.clip(positions, low, high), walls, layout)
    # The free canvas is convex, so clipping the end keeps the whole way inside the border.
    rest = np.clip(start + layout.speed * np.clip(actions, -1.0, 1.0), low, high) - start
    for _ in range(MAX_CONTACTS):
        share, normal = _first_contact(start, rest, walls, layout.radius)
        start = np.clip(start + rest * share[:, None], low, high)
        rest = rest * (1 - share)[:, None]
        into = np.minimum((rest * normal).sum(1), 0.0)
        rest = rest - into[:, None] * normal
        rest = np.clip(start + rest, low, high) - start
    return start


def wall_rectangles(layout: Layout) -> list[Rectangle]:
    """The solid pieces of the wall between its doors, as (lowest corner, highest corner)."""
    edges = [-FAR]
    for lower, upper in sorted((center - extent, center + extent) for center, extent in layout.doors):
        if lower > edges[-1] or len(edges) == 1:
            edges += [lower, upper]
        else:
            edges[-1] = max(edges[-1], upper)
    edges.append(FAR)
    faces = (WALL_CENTER - layout.half_thickness, WALL_CENTER + layout.half_thickness)
    return [
        (layout.point(faces[0], lower), layout.point(faces[1], upper))
        for lower, upper in zip(edges[::2], edges[1::2], strict=True)
    ]


def _push_out(positions: np.ndarray, walls: list[Rectangle], layout: Layout) -> np.ndarray:
    """Moves disks that overlap a wall to the nearest free place, or out of the wall's stripe where that is not free."""
    positions = positions.copy()
    across = positions[:, layout.across]
    side = np.where(across < WALL_CENTER, -1.0, 1.0)
    outside = WALL_CENTER + side * (layout.half_thickness + layout.radius)
    for lowest, highest in walls:
        offset = positions - np.clip(positions, lowest, highest)
        distance = np.sqrt(np.square(offset).sum(1))
        inside = distance == 0
        across[inside] = outside[inside]
        overlaps = ~inside & (distance < layout.radius)
        positions[overlaps] += offset[overlaps] * (layout.radius / distance[overlaps] - 1)[:, None]
    positions = np.clip(positions, BORDER + layout.radius, CANVAS - BORDER - layout.radius)
    stuck = np.zeros(len(positions), dtype=bool)
    for lowest, highest in walls:
        offset = positions - np.clip(positions, lowest, highest)
        stuck |= np.square(offset).sum(1) < (layout.radius - TOUCHING) ** 2
    positions[stuck, layout.across] = outside[stuck]
    return positions


def _first_contact(
    start: np.ndarray, motion: np.ndarray, walls: list[Rectangle], radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Share of `motion` until a disk touches a wall (1 where it does not), and the wall's normal there.

    A disk touches a rectangle when its center enters the rectangle grown by `radius`: two boxes, grown along one
    coordinate each, and a circle around every corner.
    """
    share, normal = np.ones(len(start)), np.zeros_like(start)
    for lowest, highest in walls:
        for coordinate in (0, 1):
            grow = np.zeros(2)
            grow[coordinate] = radius
            _meet_box(start, motion, lowest - grow, highest + grow, share, normal)
        for corner in (lowest, highest, np.array([lowest[0], highest[1]]), np.array([highest[0], lowest[1]])):
            _meet_circle(start, motion, corner, radius, share, normal)
    return share, normal


def _meet_box(
    start: np.ndarray,
    motion: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
    share: np.ndarray,
    normal: np.ndarray,
) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        entries = (np.where(motion > 0, lowest, highest) - start) / motion
        exits = (np.where(motion > 0, highest, lowest) - start) / motion
    still = motion == 0
    between = (start > lowest) & (start < highest)
    entries[still] = np.where(between, -np.inf, np.inf)[still]
    exits[still] = np.where(between, np.inf, -np.inf)[still]
    axis = entries.argmax(1)
    rows = np.arange(len(start))
    enter = entries[rows, axis]
    # A disk that touches already has its entry at 0, up to rounding in its place.
    slack = TOUCHING / np.maximum(np.abs(motion[rows, axis]), TOUCHING)
    hit = (enter < exits.min(1)) & (enter >= -slack) & (enter < share)
    share[hit] = np.maximum(enter[hit], 0.0)
    normal[hit] = 0.0
    normal[rows[hit], axis[hit]] = -np.sign(motion[rows, axis][hit])


def _meet_circle(
    start: np.ndarray, motion: np.ndarray, center: np.ndarray, radius: float, share: np.ndarray, normal: np.ndarray
) -> None:
    offset = start - center
    length = np.square(motion).sum(1)
    approach = (offset * motion).sum(1)
    gap = np.square(offset).sum(1) - radius**2
    root = approach**2 - length * gap
    # A disk that grazes the corner, as after sliding along it, does not meet it.
    nearing = (approach < -TOUCHING * radius * np.sqrt(length)) & (root > 0)
    enter = np.full(len(start), np.inf)
    enter[nearing] = (-approach[nearing] - np.sqrt(root[nearing])) / length[nearing]
    slack = TOUCHING / np.maximum(np.sqrt(length), TOUCHING)
    hit = (enter >= -slack) & (enter < share)
    share[hit] = np.maximum(enter[hit], 0.0)
    touch = offset[hit] + motion[hit] * share[hit, None]
    normal[hit] = touch / np.sqrt(np.square(touch).sum(1, keepdims=True))
