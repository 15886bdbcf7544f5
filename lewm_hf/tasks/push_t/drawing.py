"""PushT's picture, drawn with OpenCV on a canvas of 512 pixels and resized.

The reference draws with pygame; its primitives are rebuilt from filled polygons with the same integer vertices. On
recorded frames the mean absolute difference is 0.1 gray levels of 255, all of it at edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .shapes import CIRCLE, extent, world_corners

WORLD_SIZE = 512
WALL_LOW, WALL_HIGH, WALL_RADIUS = 5, 506, 2
WALLS = (
    ((WALL_LOW, WALL_HIGH), (WALL_LOW, WALL_LOW)),
    ((WALL_LOW, WALL_LOW), (WALL_HIGH, WALL_LOW)),
    ((WALL_HIGH, WALL_LOW), (WALL_HIGH, WALL_HIGH)),
    ((WALL_LOW, WALL_HIGH), (WALL_HIGH, WALL_HIGH)),
)
WALL_COLOR = (211, 211, 211)
OUTLINE_RADIUS = 2
CIRCLE_RIM = 4

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Figure:
    """One body to draw: its shape, scale, `pose` (x, y, angle) and color."""

    shape: str
    scale: float
    pose: np.ndarray
    color: Color


def as_color(values: np.ndarray) -> Color:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def lighten(color: Color) -> Color:
    """The fill color of a body: its own, 1.2 times as bright."""
    red, green, blue = (min(round(1.2 * value), 255) for value in color)
    return red, green, blue


def draw_scene(background: Color, goal: Figure | None, block: Figure, agent: Figure, image_size: int) -> np.ndarray:
    """The scene as `(image_size, image_size, 3)` uint8.

    The canvas has 512 pixels, twice or three times as many where that is needed to reach `image_size`; it is resized
    bilinearly without antialiasing, as the reference does.
    """
    zoom = max(1, -(-image_size // WORLD_SIZE))
    side = WORLD_SIZE * zoom
    canvas = np.empty((side, side, 3), np.uint8)
    # Assigning a color with NumPy takes longer than all the rest of the picture.
    cv2.rectangle(canvas, (0, 0), (side - 1, side - 1), background, cv2.FILLED)
    if goal is not None:
        _draw_goal(canvas, goal, zoom)
    # The order of the physics engine, whose debug drawing the reference uses.
    for figure in (block, agent):
        _draw_body(canvas, figure, zoom)
    for start, end in WALLS:
        _draw_bar(canvas, _scaled(start, zoom), _scaled(end, zoom), WALL_RADIUS * zoom, WALL_COLOR)
    if canvas.shape[0] == image_size:
        return canvas
    return cv2.resize(canvas, (image_size, image_size), interpolation=cv2.INTER_LINEAR)


def _draw_goal(canvas: np.ndarray, goal: Figure, zoom: int) -> None:
    for polygon in _pixels(goal, zoom):
        cv2.fillConvexPoly(canvas, polygon, goal.color)


def _draw_body(canvas: np.ndarray, figure: Figure, zoom: int) -> None:
    if figure.shape == CIRCLE:
        center = _scaled(figure.pose[:2], zoom)
        radius = round(extent(CIRCLE, figure.scale) * zoom)
        cv2.circle(canvas, center, radius, figure.color, cv2.FILLED)
        cv2.circle(canvas, center, max(0, radius - CIRCLE_RIM * zoom), lighten(figure.color), cv2.FILLED)
        return
    for polygon in _pixels(figure, zoom):
        cv2.fillConvexPoly(canvas, polygon, lighten(figure.color))
        vertices = polygon.tolist()
        for start, end in zip(vertices, vertices[1:] + vertices[:1], strict=True):
            _draw_bar(canvas, start, end, OUTLINE_RADIUS * zoom, figure.color)


def _draw_bar(canvas: np.ndarray, start: Sequence[int], end: Sequence[int], radius: int, color: Color) -> None:
    """A line `2 * radius` wide with round ends: a quadrilateral, a thick line and two disks, as in the reference."""
    (x0, y0), (x1, y1) = start, end
    width, height = abs(x1 - x0), abs(y1 - y0)
    length = (width**2 + height**2) ** 0.5
    if length == 0:
        return
    # Unsigned, as in the reference: on two of the four diagonals the quadrilateral leans the wrong way.
    dx, dy = round(height * radius / length), round(width * radius / length)
    _fill(canvas, ((x0 - dx, y0 - dy), (x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy)), color)
    # An even number of pixels has no middle: the line reaches one pixel farther down and right.
    before, after = radius - 1, radius
    if width >= height:
        _fill(canvas, ((x0, y0 - before), (x0, y0 + after), (x1, y1 + after), (x1, y1 - before)), color)
    else:
        _fill(canvas, ((x0 - before, y0), (x0 + after, y0), (x1 + after, y1), (x1 - before, y1)), color)
    cv2.circle(canvas, (x0, y0), radius, color, cv2.FILLED)
    cv2.circle(canvas, (x1, y1), radius, color, cv2.FILLED)


def _fill(canvas: np.ndarray, polygon: tuple, color: Color) -> None:
    cv2.fillConvexPoly(canvas, np.array(polygon, dtype=np.int32), color)


def _pixels(figure: Figure, zoom: int) -> np.ndarray:
    return np.rint(world_corners(figure.shape, figure.scale, figure.pose) * zoom).astype(np.int32)


def _scaled(point: Sequence[float] | np.ndarray, zoom: int) -> tuple[int, int]:
    return round(float(point[0]) * zoom), round(float(point[1]) * zoom)
