"""Decoded rollouts as strips of pictures, as a plot of pixel errors, and in words."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...files import write_atomic
from ..common.films import gif
from ..common.plots import COLORS, figure, picture_grid
from .result import DecodeResult

MOST_COLUMNS = 10
PANEL, GAP, TOP = 192, 4, 20
BLOCK_MS, LAST_BLOCK_MS = 400, 1200
INK, PALE = (38, 42, 51), (122, 128, 140)
WAY_NAMES = {
    "decoded": "decoded", "imagined": "imagined", "copy": "last known frame", "background": "background",
}  # fmt: skip
WAY_COLORS = {"decoded": COLORS[2], "imagined": COLORS[0], "copy": COLORS[3], "background": COLORS[5]}


def draw_strip(path: str | Path, strips: Any, number: int, title: str) -> Path:
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


def draw_film(path: str | Path, strips: Any, number: int, title: str) -> Path:
    """One GIF, a frame per action block: real, decoded and imagined side by side.

    Args:
        strips, number, title: as for `draw_strip`.
    """
    columns = {"real": strips.real, "decoded": strips.decoded, "imagined": strips.imagined}
    frames, font = [], ImageFont.load_default(12)
    for moment, step in enumerate(strips.steps):
        parts = [_enlarged(pictures[number, moment]) for pictures in columns.values()]
        side = parts[0].width
        canvas = Image.new("RGB", (len(parts) * (side + GAP) + GAP, side + 2 * TOP), "white")
        draw = ImageDraw.Draw(canvas)
        for place, (name, picture) in enumerate(zip(columns, parts, strict=True)):
            left = GAP + place * (side + GAP)
            canvas.paste(picture, (left, TOP))
            draw.text((left + side / 2, TOP / 2), name, INK, font, anchor="mm")
        draw.text((GAP, side + 1.5 * TOP), f"{title}, T = {step}", PALE, font, anchor="lm")
        frames.append(canvas)
    return write_atomic(path, gif(frames, [BLOCK_MS] * (len(frames) - 1) + [LAST_BLOCK_MS]))


def _enlarged(picture: np.ndarray) -> Image.Image:
    """About `PANEL` pixels wide, by a whole factor and without smoothing: pixels stay pixels."""
    factor = max(1, round(PANEL / picture.shape[1]))
    return Image.fromarray(picture.repeat(factor, 0).repeat(factor, 1))


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
        f"{result.model.source} on {result.dataset.env or result.dataset.source or 'recordings'}",
        f"{settings.stretches} stretches, {settings.context} known frames, then open loop under recorded actions",
        "",
        f"{'PSNR in dB (MSE)':<22}" + "".join(f"{f'T = {steps[index]}':>20}" for index in picked),
    ]
    for way, errors in result.errors.items():
        cells = [f"{errors.psnr[index]:.1f} ({errors.mse[index]:.5f})" for index in picked]
        lines.append(f"{WAY_NAMES[way]:<22}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)
