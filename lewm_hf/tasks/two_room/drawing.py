"""TwoRoom's pictures: flat walls and a Gaussian blob for the agent, at 224 pixels bit for bit the reference's."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .world import BORDER, CANVAS, WALL_CENTER, Layout

BORDER_LINE = 4
# Where alpha is at most 2^-25, 1 - alpha rounds to 1 in float32 and a blob leaves the picture as it is. The margin
# covers the division of alpha by its maximum over the pixels, which a center between pixels keeps just below 1.
REACH_IN_RADII = math.sqrt(2 * (25 * math.log(2) + 0.05))
DRAWN = (
    "background.color",
    "wall.color",
    "wall.thickness",
    "wall.axis",
    "agent.color",
    "agent.radius",
    "door.color",
    "door.number",
    "door.size",
    "door.position",
    "target.color",
    "target.radius",
    "rendering.render_target",
)


class Scene:
    """Everything in a picture but the positions.

    Args:
        variation: complete values of the factors of variation.
        image_size: side of the pictures. Other sizes than 224 show the same scene: walls by the share of a pixel they
            cover, blobs sampled at pixel centers.
    """

    def __init__(self, variation: Mapping[str, Any], image_size: int = CANVAS):
        self.image_size = image_size
        self.key = (image_size, *(np.asarray(variation[name]).tobytes() for name in DRAWN))
        self.background = _resample(_background(variation), image_size)
        self._centers = ((np.arange(image_size) + 0.5) * (CANVAS / image_size) - 0.5).astype(np.float32)
        self._agent = (variation["agent.radius"], variation["agent.color"])
        self._target = (variation["target.radius"], variation["target.color"])
        self._shows_target = bool(variation["rendering.render_target"])

    def draw(self, positions: np.ndarray, targets: np.ndarray | None = None) -> np.ndarray:
        """Pictures `(n, image_size, image_size, 3)` uint8 of agents at `positions` (n, 2).

        `targets` (n, 2) are needed where the scene shows the target.
        """
        images = np.empty((len(positions), *self.background.shape), dtype=np.uint8)
        images[:] = self.background
        if self._shows_target:
            if targets is None:
                raise ValueError("the scene shows its targets: give their positions too")
            for image, target in zip(images, targets, strict=True):
                self._blend(image, target, *self._target)
        for image, position in zip(images, positions, strict=True):
            self._blend(image, position, *self._agent)
        return images

    def _blend(self, image: np.ndarray, center: np.ndarray, radius: float, color: np.ndarray) -> None:
        """Lays a blob over `image` in place: `image * (1 - alpha) + color * alpha` in float32, truncated to uint8."""
        columns, rows = self._window(center[0], radius), self._window(center[1], radius)
        if not -0.5 <= min(center) <= max(center) <= CANVAS - 0.5:
            columns = rows = slice(None)  # alpha is relative to its maximum over the pixels, so it may reach far
        alpha = self._alpha(center, radius, columns, rows)
        rest = np.float32(1) - alpha
        patch = image[rows, columns]
        for channel, value in enumerate(color):
            patch[..., channel] = patch[..., channel] * rest + np.float32(value) * alpha

    def _window(self, center: float, radius: float) -> slice:
        reach, pitch = REACH_IN_RADII * radius, CANVAS / self.image_size
        first = math.ceil((center - reach + 0.5) / pitch - 0.5)
        last = math.floor((center + reach + 0.5) / pitch - 0.5)
        return slice(max(first, 0), max(last + 1, 0))

    def _alpha(self, center: np.ndarray, radius: float, columns: slice, rows: slice) -> np.ndarray:
        center = np.asarray(center, dtype=np.float32)
        width = np.float32(2.0 * float(np.float32(radius)) ** 2)
        dx, dy = self._centers[columns] - center[0], self._centers[rows] - center[1]
        alpha = _exp((dx * dx + (dy * dy)[:, None]) / -width)
        if self.image_size == CANVAS:
            peak = alpha.max()
        else:
            # The maximum over the pixels of the 224 canvas, so that a coarse picture is not brighter than a fine one.
            nearest = np.clip(np.rint(center), 0, CANVAS - 1).astype(np.float32) - center
            peak = _exp(np.square(nearest).sum(keepdims=True) / -width)[0]
        return np.minimum(alpha / peak, np.float32(1)) if peak > 0 else alpha


def _exp(values: np.ndarray) -> np.ndarray:
    # The reference's exponential: NumPy's differs in the last bit, which truncation to uint8 makes visible.
    return torch.exp(torch.from_numpy(values)).numpy()


def _background(variation: Mapping[str, Any]) -> np.ndarray:
    """Canvas `(224, 224, 3)` uint8 with doors, then the wall and the border lines over them."""
    layout = Layout.of(variation)
    pixels = np.arange(CANVAS)
    stripe = np.abs(pixels - WALL_CENTER) <= layout.half_thickness
    opening = np.zeros(CANVAS, dtype=bool)
    for center, extent in layout.doors:
        opening |= np.abs(pixels - center) <= extent
    door = opening[:, None] & stripe
    wall = ~opening[:, None] & stripe
    if layout.across == 1:
        door, wall = door.T, wall.T
    lines = np.r_[BORDER - BORDER_LINE : BORDER, CANVAS - BORDER : CANVAS - BORDER + BORDER_LINE]
    wall = wall.copy()
    wall[lines] = True
    wall[:, lines] = True
    canvas = np.empty((CANVAS, CANVAS, 3), dtype=np.uint8)
    canvas[:] = variation["background.color"]
    canvas[door] = variation["door.color"]
    canvas[wall] = variation["wall.color"]
    return canvas


def _resample(canvas: np.ndarray, size: int) -> np.ndarray:
    """The canvas at `size` pixels a side, each the mean of the area it covers, so that thin lines stay visible."""
    if size == CANVAS:
        return canvas
    edges = np.arange(size + 1) * (CANVAS / size)
    pixels = np.arange(CANVAS)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None) * (size / CANVAS)
    mean = np.einsum("iy,yxc,jx->ijc", weights, canvas.astype(np.float64), weights, optimize=True)
    return np.rint(mean).astype(np.uint8)
