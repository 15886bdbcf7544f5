"""Pictures of results, drawn without a display."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...extras import requires_extra
from .outputs import write_atomic

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
def figure(path: str | Path, width: float, height: float, **subplots) -> Iterator[object]:
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
