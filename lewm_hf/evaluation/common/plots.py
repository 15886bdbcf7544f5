"""Pictures of results, drawn without a display."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...extras import requires_extra
from ...files import write_atomic

with requires_extra("eval"):
    from matplotlib.figure import Figure

COLORS = ("#2b6cb0", "#c8392f", "#1a8a54", "#b7791f", "#6b46c1", "#4a5568")
INK, PALE = "#262a33", "#9aa0ac"
STYLE = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "axes.edgecolor": PALE, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e7e9ee",
    "axes.axisbelow": True, "xtick.color": INK, "ytick.color": INK, "text.color": INK, "legend.frameon": False,
    "legend.fontsize": 8,
}  # fmt: skip


@contextmanager
def figure(path: str | Path, width: float, height: float, **subplots: Any) -> Iterator[Any]:
    """Yields the axes of a new figure of `width` x `height` inches; it is written as PNG when the block ends well."""
    import matplotlib

    # A figure of its own, without pyplot: no window, no back end, nothing left behind in the process.
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing.subplots(**subplots)
        buffer = io.BytesIO()
        # Without the version in the metadata the file depends on the numbers alone.
        drawing.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def picture_grid(
    path: str | Path,
    rows: Sequence[Sequence[np.ndarray]],
    *,
    side: float = 0.9,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    title: str = "",
) -> Path:
    """Pictures `(H, W, 3)` uint8 in rows and columns, as PNG.

    Args:
        side: of a picture, in inches.
        row_labels, column_labels: left of the rows and above the columns.
        captions: a few words under each picture.
        title: under all of them.
    """
    lines, columns = len(rows), len(rows[0])
    across, down = 1.04, 1.22 if captions else 1.04
    left, above, below = 0.75 if row_labels else 0.02, 0.22 if column_labels else 0.02, 0.22 if title else 0.02
    width, height = columns * across, lines * down
    with figure(path, side * (width + left), side * (height + above + below)) as axes:
        axes.set_axis_off()
        words: dict[str, Any] = {"fontsize": 7, "va": "center"}
        for line, pictures in enumerate(rows):
            for column, picture in enumerate(pictures):
                x, y = column * across, line * down
                axes.imshow(picture, extent=(x, x + 1, y + 1, y))
                if captions:
                    axes.text(x + 0.5, y + 1.1, captions[line][column], ha="center", **words)
            if row_labels:
                axes.text(-0.06, line * down + 0.5, row_labels[line], ha="right", **words)
        for column, label in enumerate(column_labels):
            axes.text(column * across + 0.5, -above / 2, label, ha="center", **words)
        axes.text(0, height + below / 2, title, color=PALE, ha="left", **words)
        axes.set(xlim=(-left, width), ylim=(height + below, -above), aspect="equal")
    return Path(path)
