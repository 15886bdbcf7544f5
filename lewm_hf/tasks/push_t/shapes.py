"""What PushT's bodies are made of: rectangles on a grid whose unit is the body's scale.

Recorded from the reference implementation (stable-worldmodel 0.1.1), with its mass and inertia quirks: a body weighs 1
whatever its size, its center of gravity is the plain mean of its rectangles' centers, and some bodies count the
inertia of one rectangle several times.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

CIRCLE = "o"
CIRCLE_RADIUS = 0.375


@dataclass(frozen=True)
class Shape:
    """A body made of rectangles.

    Args:
        boxes: rectangles (x_min, y_min, x_max, y_max) in units of the scale.
        inertia_boxes: the rectangles whose moments about the body's origin are summed, by index. For the T it is the
            bar, twice.
        symmetry: rotation in radians that maps the shape onto itself; orientations are compared modulo this angle.
    """

    boxes: tuple[tuple[float, float, float, float], ...]
    inertia_boxes: tuple[int, ...]
    symmetry: float = 2 * np.pi

    def corners(self, scale: float) -> np.ndarray:
        """Corners of every rectangle in body coordinates, `(boxes, 4, 2)` in pixels, in the order of the engine."""
        x0, y0, x1, y1 = np.array(self.boxes, dtype=np.float64).T * float(scale)
        return np.stack([np.stack(corner, -1) for corner in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], axis=1)

    def center_of_gravity(self, scale: float) -> np.ndarray:
        """Center of gravity in body coordinates, `(2,)` in pixels."""
        return self.corners(scale).mean(axis=(0, 1))

    def inertia(self, scale: float) -> float:
        """Moment of inertia at mass 1, in square pixels."""
        x0, y0, x1, y1 = np.array(self.boxes, dtype=np.float64)[list(self.inertia_boxes)].T * float(scale)
        about_center = ((x1 - x0) ** 2 + (y1 - y0) ** 2) / 12
        return float(np.sum(about_center + ((x0 + x1) / 2) ** 2 + ((y0 + y1) / 2) ** 2))


SHAPES = {
    "L": Shape(((0, 0, 1, 2), (0, -1, 2, 0)), (0, 1)),
    "T": Shape(((-2, 0, 2, 1), (-0.5, 1, 0.5, 4)), (0, 0)),
    "Z": Shape(((-0.5, 0, 1.5, 1), (-1.5, -1, 0.5, 0)), (0, 1), np.pi),
    "square": Shape(((-1, -1, 1, 1),), (0,), np.pi / 2),
    "I": Shape(((-0.5, -2, 0.5, 2),), (0,), np.pi),
    "small_tee": Shape(((-1.5, 0, 1.5, 1), (-0.5, 1, 0.5, 2)), (0, 1)),
    "+": Shape(((-1.5, -0.5, 1.5, 0.5), (-0.5, 0.5, 0.5, 1.5), (-0.5, -1.5, 0.5, -0.5)), (0, 0, 0), np.pi / 2),
}


def rotation(angle: float) -> np.ndarray:
    """`(2, 2)`; `points @ rotation(angle).T` turns points from x towards y, clockwise on screen."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def world_corners(shape: str, scale: float, pose: np.ndarray) -> np.ndarray:
    """Corners of a body's rectangles at `pose` (x, y, angle), `(boxes, 4, 2)` in pixels."""
    return SHAPES[shape].corners(scale) @ rotation(pose[2]).T + pose[:2]


def extent(shape: str, scale: float) -> float:
    """Largest distance of a body from its origin, in pixels; the radius for a circle."""
    if shape == CIRCLE:
        return CIRCLE_RADIUS * float(scale)
    return float(np.linalg.norm(SHAPES[shape].corners(scale), axis=-1).max())


def clearance(point: np.ndarray, shape: str, scale: float, pose: np.ndarray) -> float:
    """Distance in pixels from a point to a body at `pose` (x, y, angle); 0 inside."""
    local = (np.asarray(point) - pose[:2]) @ rotation(pose[2])
    low, high = np.split(np.array(SHAPES[shape].boxes, dtype=np.float64) * float(scale), 2, axis=1)
    return float(np.linalg.norm(local - np.clip(local, low, high), axis=1).min())


def overlap(shape: str, scale: float, pose: np.ndarray, other: str, other_scale: float, other_pose: np.ndarray) -> bool:
    """Whether a body (a circle or rectangles) and another one (rectangles) overlap; poses are (x, y, angle)."""
    if shape == CIRCLE:
        return clearance(pose[:2], other, other_scale, other_pose) < extent(shape, scale)
    pairs = product(world_corners(shape, scale, pose), world_corners(other, other_scale, other_pose))
    return any(_rectangles_overlap(one, two, (pose[2], other_pose[2])) for one, two in pairs)


def _rectangles_overlap(one: np.ndarray, two: np.ndarray, angles: tuple[float, float]) -> bool:
    # Convex bodies are apart if and only if they are apart along the normal of one of their sides.
    axes = np.concatenate([rotation(angle) for angle in angles], axis=1)
    a, b = one @ axes, two @ axes
    return bool(np.all((a.min(0) < b.max(0)) & (b.min(0) < a.max(0))))
