"""The curves of a training: which of them its records allow, and how each is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from .style import BLUE, GREEN, GREY, MUTED, ORANGE

Record = dict[str, Any]


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


@dataclass(frozen=True)
class Drawing:
    """Draws one curve a method on the axes that it is given.

    Attributes:
        steps: records of training steps.
        judged: records of evaluations.
        sigreg_bounds, embed_dim: see `training_curves`.
    """

    steps: list[Record]
    judged: list[Record]
    sigreg_bounds: tuple[float, float] | None
    embed_dim: int | None

    def prediction(self, axes: Any) -> None:
        self._training_and_held_out(axes, "prediction_loss")

    def over_copy_last(self, axes: Any) -> None:
        self._training_and_held_out(axes, "prediction_over_copy_last")
        _reference(axes, 1, "predicting that nothing moves")

    def _training_and_held_out(self, axes: Any, key: str) -> None:
        _line(axes, self.steps, key, BLUE, "training")
        _line(axes, self.judged, f"eval/{key}", ORANGE, "held-out", marker="o", markersize=4)

    def sigreg(self, axes: Any) -> None:
        _line(axes, self.steps, "sigreg_loss", BLUE)
        if self.sigreg_bounds:
            gaussian, collapsed = self.sigreg_bounds
            _reference(axes, gaussian, f"Gaussian: {gaussian:.3g}", above=False)
            _reference(axes, collapsed, f"collapsed: {collapsed:.3g}")
            axes.set_ylim(0.6 * gaussian, 2.5 * collapsed)

    def rank(self, axes: Any) -> None:
        _line(axes, self.steps, "effective_rank", BLUE)
        if self.embed_dim:
            _reference(axes, self.embed_dim, f"all {self.embed_dim} dimensions")
        axes.set_ylim(0, 1.12 * self.embed_dim if self.embed_dim else None)

    def spread(self, axes: Any) -> None:
        x = [record["step"] for record in self.steps]
        low, high = ([record[f"embedding_std_{end}"] for record in self.steps] for end in ("min", "max"))
        axes.fill_between(x, low, high, color=BLUE, alpha=0.18, lw=0, label="least to largest dimension")
        _line(axes, self.steps, "embedding_std_mean", BLUE, "mean")
        axes.axhline(1, color=MUTED, lw=1, ls="--")
        axes.set_ylim(bottom=0)

    def success(self, axes: Any) -> None:
        for key, color, label in (("success", GREEN, "planning"), ("random_success", GREY, "random policy")):
            points = [(one["step"], 100 * one[f"eval/{key}"]) for one in self.judged if f"eval/{key}" in one]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4, label=label)
        axes.set_ylim(0, 102)
        axes.set_xlim(left=0)


def training_curves(
    records: Sequence[Record], sigreg_bounds: tuple[float, float] | None = None, embed_dim: int | None = None
) -> list[Curve]:
    """What a run's records allow to be drawn, in the order in which to show it.

    Args:
        records: lines of metrics.jsonl, training steps and evaluations mixed.
        sigreg_bounds: SIGReg on Gaussian and on collapsed embeddings.
        embed_dim: the most that the effective rank can be.
    """
    steps = [record for record in records if "prediction_loss" in record]
    judged = [record for record in records if "eval/prediction_loss" in record]
    draw = Drawing(steps, judged, sigreg_bounds, embed_dim)
    offered = {
        "prediction_loss": Curve("Prediction loss", draw.prediction, log=True),
        "sigreg_loss": Curve("SIGReg", draw.sigreg, log=True),
        "effective_rank": Curve("Effective rank of the embeddings", draw.rank),
        "embedding_std_mean": Curve("Standard deviation per dimension", draw.spread),
        "prediction_over_copy_last": Curve("Prediction loss over copy-last", draw.over_copy_last, log=True),
        "eval/success": Curve("Goals reached while training, %", draw.success),
    }
    known = {key for record in (*steps, *judged) for key in record}
    return [curve for key, curve in offered.items() if key in known]


def _line(axes: Any, records: Sequence[Record], key: str, color: str, label: str | None = None, **style: Any) -> None:
    points = [(record["step"], record[key]) for record in records if isinstance(record.get(key), int | float)]
    if points:
        axes.plot(*zip(*points, strict=True), color=color, label=label, **style)


def _reference(axes: Any, value: float, text: str, above: bool = True) -> None:
    axes.axhline(value, color=MUTED, lw=1, ls="--")
    across = axes.get_yaxis_transform()
    side = "bottom" if above else "top"
    axes.text(0.99, value, text, color=MUTED, ha="right", va=side, size=9, transform=across)
