"""Frames of a source -> stored frames: square, of one size, otherwise unchanged."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ...pictures import square


@dataclass(frozen=True)
class Conversion:
    """How frames become stored ones: `(side, side, 3)`, unchanged unless `fit` says otherwise.

    The image processor of a model that is trained on them does the same to pictures that it plans from.
    """

    side: int
    fit: str | None

    @classmethod
    def for_frame(cls, frame: np.ndarray, image_size: int | None, fit: str | None) -> "Conversion":
        """To `image_size`, or to the size that a frame has once it is square."""
        height, width = frame.shape[:2]
        own = height if fit is None else max(height, width) if fit == "pad" else min(height, width)
        return cls(image_size or own, fit)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Raises `ValueError` for a frame of another size where it must stay unchanged."""
        if self.fit is None:
            if frame.shape != (self.side, self.side, 3):
                height, width = frame.shape[:2]
                raise ValueError(
                    f"is {width}x{height} pixels, expected {self.side}x{self.side}: correct or omit the image "
                    "size, or convert the frames with `fit: crop`, `fit: pad` or `fit: stretch` in the mapping"
                )
            return frame
        squared = square(torch.from_numpy(np.array(frame)), self.fit).contiguous().numpy()
        if squared.shape[:2] == (self.side, self.side):
            return squared
        return np.asarray(Image.fromarray(squared).resize((self.side, self.side), Image.Resampling.BILINEAR))
