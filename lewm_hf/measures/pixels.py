"""How far pictures are apart, in numbers that are comparable between sizes. Pixels in [0, 1]."""

import numpy as np


def pixel_metrics(pictures: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """Compares pictures `(..., H, W, 3)` uint8 with the real ones, each by itself.

    Returns:
        `"mse"`, `"mae"`: mean squared and absolute error; `"psnr"`: peak signal to noise ratio in dB, 100 for equal
        pictures. All of shape `(...)`, float64.

    Raises:
        ValueError: for other types or different shapes.
    """
    pictures, real = np.asarray(pictures), np.asarray(real)
    if pictures.shape != real.shape or pictures.ndim < 3 or pictures.dtype != np.uint8 or real.dtype != np.uint8:
        raise ValueError(
            f"{pictures.dtype} pictures {pictures.shape} and {real.dtype} ones {real.shape} cannot be compared: give "
            "uint8 (..., height, width, 3) twice"
        )
    difference = (pictures.astype(np.float64) - real) / 255
    axes = (-3, -2, -1)
    mse = np.square(difference).mean(axes)
    return {"mse": mse, "mae": np.abs(difference).mean(axes), "psnr": np.minimum(-10 * np.log10(mse + 1e-300), 100.0)}
