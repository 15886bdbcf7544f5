"""The plots of a report, as SVG text."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import matplotlib

matplotlib.use("Agg", force=False)
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: E402

from ..success.result import EvaluationResult  # noqa: E402

INK, MUTED, GRID = "#262a33", "#7a808c", "#e6e8ec"
BLUE, ORANGE, GREY, GREEN = "#2f6fde", "#d9822b", "#a9afba", "#1a8a54"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    # Names of runs and protocols are no formulas.
    "text.parse_math": False,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "lewm",
}

Record = dict[str, Any]


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


@dataclass(frozen=True)
class Curve:
    """One plot over the steps of a training.

    Attributes:
        title: a headline.
        plot: draws it on the axes it is given.
        log: whether its values are drawn on a logarithmic scale.
    """

    title: str
    plot: Callable[[Any], None]
    log: bool = False

    def draw(self, axes: Any) -> None:
        if self.log:
            # Matplotlib's own labels of such an axis are formulas, which STYLE leaves unparsed.
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        self.plot(axes)
        axes.set_title(self.title)
        axes.set_xlabel("step")
        axes.margins(x=0.01)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()


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
    for curve in _curves(records, sigreg_bounds, embed_dim):
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.6, 2.9), layout="constrained")
            curve.draw(figure.subplots())
            figures[curve.title] = _svg(figure)
    return figures


def training_picture(
    records: Sequence[Record], sigreg_bounds: tuple[float, float] | None = None, embed_dim: int | None = None
) -> bytes | None:
    """The curves of `training_figures` side by side, three in a row, as one PNG; `None` where there is none."""
    curves = _curves(records, sigreg_bounds, embed_dim)
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


def _curves(records: Sequence[Record], sigreg_bounds: tuple[float, float] | None, embed_dim: int | None) -> list[Curve]:
    """What a run's records allow to be drawn, in the order in which to show it."""
    steps = [record for record in records if "prediction_loss" in record]
    judged = [record for record in records if "eval/prediction_loss" in record]

    def prediction(axes: Any) -> None:
        _curve(axes, steps, "prediction_loss", BLUE, "training")
        _curve(axes, judged, "eval/prediction_loss", ORANGE, "held-out", marker="o", markersize=4)

    def sigreg(axes: Any) -> None:
        _curve(axes, steps, "sigreg_loss", BLUE)
        if sigreg_bounds:
            _reference(axes, sigreg_bounds[0], f"Gaussian: {sigreg_bounds[0]:.3g}", above=False)
            _reference(axes, sigreg_bounds[1], f"collapsed: {sigreg_bounds[1]:.3g}")
            axes.set_ylim(0.6 * sigreg_bounds[0], 2.5 * sigreg_bounds[1])

    def rank(axes: Any) -> None:
        _curve(axes, steps, "effective_rank", BLUE)
        if embed_dim:
            _reference(axes, embed_dim, f"all {embed_dim} dimensions")
        axes.set_ylim(0, 1.12 * embed_dim if embed_dim else None)

    def spread(axes: Any) -> None:
        x = [record["step"] for record in steps]
        low, high = ([record[f"embedding_std_{end}"] for record in steps] for end in ("min", "max"))
        axes.fill_between(x, low, high, color=BLUE, alpha=0.18, lw=0, label="least to largest dimension")
        _curve(axes, steps, "embedding_std_mean", BLUE, "mean")
        axes.axhline(1, color=MUTED, lw=1, ls="--")
        axes.set_ylim(bottom=0)

    def copy_last(axes: Any) -> None:
        _curve(axes, steps, "prediction_over_copy_last", BLUE, "training")
        _curve(axes, judged, "eval/prediction_over_copy_last", ORANGE, "held-out", marker="o", markersize=4)
        _reference(axes, 1, "predicting that nothing moves")

    def success(axes: Any) -> None:
        for key, color, label in (("success", GREEN, "planning"), ("random_success", GREY, "random policy")):
            points = [(record["step"], 100 * record[f"eval/{key}"]) for record in judged if f"eval/{key}" in record]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4, label=label)
        axes.set_ylim(0, 102)
        axes.set_xlim(left=0)

    offered = {
        "prediction_loss": Curve("Prediction loss", prediction, log=True),
        "sigreg_loss": Curve("SIGReg", sigreg, log=True),
        "effective_rank": Curve("Effective rank of the embeddings", rank),
        "embedding_std_mean": Curve("Standard deviation per dimension", spread),
        "prediction_over_copy_last": Curve("Prediction loss over copy-last", copy_last, log=True),
        "eval/success": Curve("Goals reached while training, %", success),
    }
    known = {key for record in steps for key in record} | {key for record in judged for key in record}
    return [curve for key, curve in offered.items() if key in known]


def _curve(axes: Any, records: Sequence[Record], key: str, color: str, label: str | None = None, **style: Any) -> None:
    points = [(record["step"], record[key]) for record in records if isinstance(record.get(key), int | float)]
    if points:
        axes.plot(*zip(*points, strict=True), color=color, label=label, **style)


def _reference(axes: Any, value: float, text: str, above: bool = True) -> None:
    axes.axhline(value, color=MUTED, lw=1, ls="--")
    across = axes.get_yaxis_transform()
    side = "bottom" if above else "top"
    axes.text(0.99, value, text, color=MUTED, ha="right", va=side, size=9, transform=across)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # Without a date the same numbers give the same file.
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
