"""The plots of a report, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from textwrap import shorten

import matplotlib

matplotlib.use("Agg", force=False)
from matplotlib.figure import Figure  # noqa: E402

from ..success.result import EvaluationResult  # noqa: E402
from .curves import Record, training_curves  # noqa: E402
from .style import BLUE, GREY, INK, STYLE  # noqa: E402


def success_figure(results: Mapping[str, EvaluationResult]) -> str:
    """Success beside its floors, one group of bars per result and its title, with 95 % Wilson intervals."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 0.8 + 1.05 * len(results)), layout="constrained")
        axes = figure.subplots()
        position, ticks = 0.0, []
        for group, result in reversed(list(results.items())):
            bars = [("model", result.success, BLUE)]
            bars += [(name, floor, GREY) for name, floor in result.floors.items()]
            for name, value, color in reversed(bars):
                rate, (low, high) = 100 * value.rate, (100 * end for end in value.interval)
                axes.barh(position, rate, 0.72, color=color)
                axes.errorbar(rate, position, xerr=[[rate - low], [high - rate]], color=INK, capsize=3, lw=1.1)
                axes.text(high + 1.5, position, f"{rate:.0f} %", va="center", color=INK)
                label = {"model": "world model", "random": "random", "zero_action": "zero actions"}[name]
                ticks.append((position, f"{shorten(group, 60)}: {label}" if name == "model" else label))
                position += 1
            position += 0.6
        axes.set_yticks(*zip(*ticks, strict=True))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 116)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("goals reached, % (95 % Wilson interval)")
        return _svg(figure)


def training_figures(
    records: Sequence[Record], sigreg_bounds: tuple[float, float] | None = None, embed_dim: int | None = None
) -> dict[str, str]:
    """Curves of a run by title, one SVG each; a curve whose values are missing is left out.

    Args:
        records: lines of metrics.jsonl, training steps and evaluations mixed.
        sigreg_bounds: SIGReg on Gaussian and on collapsed embeddings.
        embed_dim: the most that the effective rank can be.
    """
    figures = {}
    for curve in training_curves(records, sigreg_bounds, embed_dim):
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.6, 2.9), layout="constrained")
            curve.draw(figure.subplots())
            figures[curve.title] = _svg(figure)
    return figures


def training_picture(
    records: Sequence[Record], sigreg_bounds: tuple[float, float] | None = None, embed_dim: int | None = None
) -> bytes | None:
    """The curves of `training_figures` side by side, three in a row, as one PNG; `None` where there is none."""
    curves = training_curves(records, sigreg_bounds, embed_dim)
    if not curves:
        return None
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(curves))
        rows = -(-len(curves) // columns)
        figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).flatten()
        for curve, axes in zip(curves, places[: len(curves)], strict=True):
            curve.draw(axes)
        for axes in places[len(curves) :]:
            axes.set_axis_off()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # Without a date the same numbers give the same file.
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
