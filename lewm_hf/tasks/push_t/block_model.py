"""A fast model of PushT's contacts, for planning: many pushes of one block at once, in plain NumPy.

Nothing in PushT has momentum and contacts have no friction, so a push is geometry: wherever the pusher's disk would
enter the block, the block gives way along the contact's normal, by a translation and a rotation in the ratio that mass
and inertia dictate. Walls are left out. Points of the plane are complex numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .shapes import CIRCLE, SHAPES, extent

# Two passes settle the case of two contacts at once, the T's inner corners.
PASSES = 2


@dataclass(frozen=True)
class Pose:
    """Where blocks are: center of gravity (complex) and angle, arrays of one common shape."""

    center: np.ndarray
    angle: np.ndarray

    @property
    def turn(self) -> np.ndarray:
        return np.exp(1j * self.angle)

    def __getitem__(self, index: Any) -> "Pose":
        return Pose(self.center[index], self.angle[index])

    def repeat(self, count: int) -> "Pose":
        """Every pose `count` times, one after the other."""
        return Pose(np.repeat(self.center, count), np.repeat(self.angle, count))


class BlockModel:
    """The block and the pusher of one scene.

    Args:
        variation: the environment's factors of variation.

    Raises:
        ValueError: for a pusher that is not round.
    """

    def __init__(self, variation: dict):
        if variation["agent.shape"] != CIRCLE:
            raise ValueError(
                f"agent.shape={variation['agent.shape']!r}: the expert knows a round pusher only, use {CIRCLE!r}"
            )
        shape, scale = SHAPES[variation["block.shape"]], variation["block.scale"]
        boxes = np.array(shape.boxes, dtype=np.float64) * scale
        self.low, self.high = boxes[:, :2], boxes[:, 2:]
        self.cog = complex(*shape.center_of_gravity(scale))
        self.inertia = shape.inertia(scale)
        self.symmetry = shape.symmetry
        self.radius = extent(CIRCLE, variation["agent.scale"])
        corners = shape.corners(scale)
        self.corners = (corners[..., 0] + 1j * corners[..., 1]).ravel()

    def pose(self, state: np.ndarray) -> Pose:
        """The block's pose in a state or in states, `(..., 7)`."""
        angle = state[..., 4]
        return Pose(state[..., 2] + 1j * state[..., 3] + self.cog * np.exp(1j * angle), angle)

    def origin(self, pose: Pose) -> np.ndarray:
        """What the environment calls the block's position."""
        return pose.center - self.cog * pose.turn

    def to_body(self, points: np.ndarray | complex, pose: Pose) -> np.ndarray:
        return (points - pose.center) * np.conj(pose.turn) + self.cog

    def to_world(self, points: np.ndarray | complex, pose: Pose) -> np.ndarray:
        return pose.center + (points - self.cog) * pose.turn

    def turn_error(self, pose: Pose, goal: Pose) -> np.ndarray:
        """Signed angle to the goal's orientation, modulo the shape's symmetry."""
        half = self.symmetry / 2
        return (goal.angle - pose.angle + half) % self.symmetry - half

    def distance(self, pose: Pose, goal: Pose) -> np.ndarray:
        """Pixels from pose to pose: centers' distance, and the angle weighted as the inertia weighs it."""
        return np.sqrt(np.abs(goal.center - pose.center) ** 2 + self.inertia * self.turn_error(pose, goal) ** 2)

    def gap(self, points: np.ndarray) -> np.ndarray:
        """Distance of points in body coordinates to the block, 0 inside."""
        gaps = [np.abs(points - self._nearest(points, box)) for box in range(len(self.low))]
        return np.min(gaps, axis=0)

    def outline(self, spacing: float, offset: float, room: float) -> tuple[np.ndarray, np.ndarray]:
        """Points of the outline, about `spacing` px apart, and outward normals, both `(p,)` in body coordinates.

        Left out are points in the block's corners: where a pusher `offset` px in front would be closer than `room` px.
        """
        places, outwards = [], []
        for (x0, y0), (x1, y1) in zip(self.low, self.high, strict=True):
            corners = np.array([x0 + 1j * y0, x1 + 1j * y0, x1 + 1j * y1, x0 + 1j * y1])
            for start, end in zip(corners, np.roll(corners, -1), strict=True):
                count = max(1, round(abs(end - start) / spacing))
                places.append(start + (end - start) * (np.arange(count) + 0.5) / count)
                outwards.append(np.full(count, (end - start) / abs(end - start) / 1j))
        points, normals = np.concatenate(places), np.concatenate(outwards)
        free = self.gap(points + normals * (self.radius + offset)) >= self.radius + room - 1e-6
        return points[free], normals[free]

    def leave(self, point: complex, gap: float) -> complex:
        """The point moved outwards until it is `gap` away from the block; body coordinates."""
        for _ in range(8):
            moved = False
            for box in range(len(self.low)):
                offset = point - complex(self._nearest(np.array(point), box))
                distance = abs(offset)
                if distance < gap:
                    outwards = offset / distance if distance > 1e-6 else self._way_out(point, box)
                    point += outwards * (gap - distance)
                    moved = True
            if not moved:
                break
        return point

    def push(self, start: Pose, pusher: np.ndarray, direction: np.ndarray, steps: int, length: float) -> Pose:
        """Block poses while pushers move straight ahead, in steps of `length` px.

        Args:
            start: `(n,)` poses.
            pusher, direction: `(n,)` complex, centers and unit vectors in the world.

        Returns:
            Poses `(steps + 1, n)`; the first is the start.
        """
        center, angle, pusher = start.center.copy(), start.angle.copy(), pusher.copy()
        turn, advance = np.exp(1j * angle), direction * length
        centers, angles = np.empty((steps + 1, len(center)), complex), np.empty((steps + 1, len(center)))
        centers[0], angles[0] = center, angle
        for step in range(1, steps + 1):
            pusher += advance
            local = (pusher - center) * turn.conj() + self.cog
            for _ in range(PASSES):
                settled = True
                for box in range(len(self.low)):
                    contact = self._nearest(local, box)
                    away = contact - local
                    distance = np.abs(away)
                    if not (distance < self.radius).any():
                        continue
                    settled = False
                    normal = away / np.maximum(distance, 1e-6)
                    lever = contact - self.cog
                    torque = lever.real * normal.imag - lever.imag * normal.real
                    impulse = np.maximum(self.radius - distance, 0.0) / (1.0 + torque**2 / self.inertia)
                    center = center + impulse * normal * turn
                    angle = angle + impulse * torque / self.inertia
                    turn = np.exp(1j * angle)
                    local = (pusher - center) * turn.conj() + self.cog
                if settled:
                    break
            centers[step], angles[step] = center, angle
        return Pose(centers, angles)

    def _nearest(self, points: np.ndarray, box: int) -> np.ndarray:
        (x0, y0), (x1, y1) = self.low[box], self.high[box]
        x, y = np.minimum(np.maximum(points.real, x0), x1), np.minimum(np.maximum(points.imag, y0), y1)
        return x + 1j * y

    def _way_out(self, point: complex, box: int) -> complex:
        (x0, y0), (x1, y1) = self.low[box], self.high[box]
        ways = {point.real - x0: -1, x1 - point.real: 1, point.imag - y0: -1j, y1 - point.imag: 1j}
        return ways[min(ways)]
