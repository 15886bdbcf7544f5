"""Decoded rollouts as strips of pictures, as a plot of pixel errors, and in words."""

from pathlib import Path

import numpy as np

from ..common.plots import COLORS, figure, picture_grid
from .result import DecodeResult

MOST_COLUMNS = 10
WAY_NAMES = {
    "decoded": "decoded", "imagined": "imagined", "copy": "last known frame", "background": "background",
}  # fmt: skip
WAY_COLORS = {"decoded": COLORS[2], "imagined": COLORS[0], "copy": COLORS[3], "background": COLORS[5]}


def draw_strip(path: str | Path, strips, number: int, title: str) -> Path:
    """One PNG: rows real, decoded and imagined; columns T environment steps after the last known frame, at most 10.

    Args:
        strips: `Strips`, of `decode`.
        number: which of them.
    """
    columns = list(range(0, len(strips.steps), -(-len(strips.steps) // MOST_COLUMNS)))
    rows = {"real": strips.real, "decoded": strips.decoded, "imagined": strips.imagined}
    return picture_grid(
        path, [[pictures[number, column] for column in columns] for pictures in rows.values()],
        row_labels=list(rows), column_labels=[f"T = {strips.steps[column]}" for column in columns], title=title,
    )  # fmt: skip


def plot_decoding(path: str | Path, result: DecodeResult) -> None:
    """Pixel error over imagined steps, with 95 % bands."""
    steps = np.array(result.settings.steps)
    with figure(path, 5.6, 3.2) as axes:
        for way, errors in result.errors.items():
            color = WAY_COLORS[way]
            axes.plot(steps, errors.mse, color=color, marker=".", label=WAY_NAMES[way])
            axes.fill_between(steps, errors.mse_low, errors.mse_high, color=color, alpha=0.15, linewidth=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("environment steps after the last known frame")
        axes.set_ylabel("MSE against the real frame")
        axes.set_title(f"open loop from {result.settings.context} frames, {result.settings.stretches} stretches")
        axes.legend()


def format_decoding(result: DecodeResult) -> str:
    """A result as text for a terminal."""
    settings = result.settings
    steps = settings.steps
    picked = sorted({0, len(steps) // 2, len(steps) - 1})
    lines = [
        f"{result.model.source} on {result.dataset.env}",
        f"{settings.stretches} stretches, {settings.context} known frames, then open loop under recorded actions",
        "",
        f"{'PSNR in dB (MSE)':<22}" + "".join(f"{f'T = {steps[index]}':>20}" for index in picked),
    ]
    for way, errors in result.errors.items():
        cells = [f"{errors.psnr[index]:.1f} ({errors.mse[index]:.5f})" for index in picked]
        lines.append(f"{WAY_NAMES[way]:<22}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)
