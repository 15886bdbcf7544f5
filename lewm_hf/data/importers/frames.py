"""Frames of a source -> stored frames: square, of one size, otherwise unchanged."""

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Conversion:
    """How frames become stored ones: `(side, side, 3)`, unchanged unless `fit` says otherwise."""

    side: int
    fit: str | None

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Raises `ValueError` for a frame of another size where it must stay unchanged."""
        if self.fit is None:
            if frame.shape != (self.side, self.side, 3):
                height, width = frame.shape[:2]
                raise ValueError(
                    f"is {width}x{height} pixels, expected {self.side}x{self.side}: correct or leave away the image "
                    "size, or convert the frames with `fit: crop` or `fit: pad` in the mapping"
                )
            return frame
        squared = square(frame, self.fit)
        if len(squared) == self.side:
            return squared
        return np.asarray(Image.fromarray(squared).resize((self.side, self.side), Image.Resampling.BILINEAR))


def square(frame: np.ndarray, fit: str) -> np.ndarray:
    """Cuts the middle out of a frame, or adds black borders."""
    height, width = frame.shape[:2]
    side = min(height, width) if fit == "crop" else max(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if fit == "crop":
        return np.ascontiguousarray(frame[top : top + side, left : left + side])
    padded = np.zeros((side, side, 3), dtype=np.uint8)
    padded[-top : height - top, -left : width - left] = frame
    return padded
