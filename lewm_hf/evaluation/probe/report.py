"""Probe results in the paper's layout, with the paper's numbers beside them, and as a plot."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...tasks.registry import find_task
from ...tasks.task import PublishedProbe
from ..common.plots import COLORS, figure
from .result import ProbeResult, ProbeRow

PROBE_NAMES = {"linear": "linear", "mlp": "MLP"}


def format_probe(result: ProbeResult) -> str:
    """A result as a table for a terminal: per target a line per representation, then the paper's."""
    settings, model = result.settings, result.model
    printed = _published(result.env) if result.env else {}
    lines = [
        f"{model.source} on {result.env or result.dataset.source or 'recordings'}",
        f"{settings.frames} frames of {result.dataset.episodes} {result.dataset.split} episodes; "
        f"{len(settings.seeds)} random splits by episode, {round(100 * settings.train_share)} % for training",
        "",
        f"{'':<24}" + "   ".join(f"{name:^{_WIDTH}}" for name in PROBE_NAMES.values()),
        f"{'':<24}{_HEADER}   {_HEADER}",
    ]
    for target, kind in dict.fromkeys((row.target, row.input) for row in result.rows):
        rows = [row for row in result.rows if (row.target, row.input) == (target, kind)]
        unit = result.units.get(target)
        described = f"{target} ({rows[0].dimensions})" + (f", {unit}" if unit else "")
        lines += ["", described + (f", from {settings.window} frames" if kind == "window" else "")]
        for name in dict.fromkeys(row.representation for row in rows):
            found = {row.probe: row for row in rows if row.representation == name}
            cells = [_measured(found[probe]) if probe in found else " " * _WIDTH for probe in PROBE_NAMES]
            lines.append(f"  {name:<22}" + "   ".join(cells).rstrip())
        if kind == "frame":
            for published in printed.get(target, ()):
                lines.append(f"  {f'paper: {published.model}':<22}{_paper(published.linear)}   {_paper(published.mlp)}")
    lines += [
        "",
        "MSE of standardized targets ± sd over frames; r and R2 are means over dimensions, R2 ± half its 95 % interval",
        "over splits, which overlap (variance of Nadeau and Bengio).",
        "The paper states neither its split nor its probes' settings, and no R2.",
    ]
    return "\n".join(line.rstrip() for line in lines)


_WIDTH = 39
_HEADER = f"{'MSE':>7}   {'sd':>6} {'r':>6} {'R2':>7}{'':8}"


def _published(env: str) -> Mapping[str, tuple[PublishedProbe, ...]]:
    """The paper's numbers; none of a task that whoever reads the result has not imported."""
    try:
        return find_task(env).published_probes
    except ValueError:
        return {}


def _measured(row: ProbeRow) -> str:
    half = (row.r2_interval[1] - row.r2_interval[0]) / 2
    # One split has no spread.
    spread = f" ± {half:5.3f}" if len(row.per_seed["r2"]) > 1 else " " * 8
    return f"{row.mse:7.3f} ± {row.mse_sd:6.3f} {row.r:6.3f} {row.r2:7.3f}{spread}"


def _paper(values: tuple[float, float | None, float]) -> str:
    mse, sd, r = values
    spread = " " * 9 if sd is None else f" ± {sd:6.3f}"
    return f"{mse:7.3f}{spread} {r:6.3f}".ljust(_WIDTH)


def plot_probe(path: str | Path, result: ProbeResult) -> None:
    """Bars of R2 with their intervals: a panel per probe, a group per target, a color per representation."""
    rows = result.rows
    groups = list(dict.fromkeys((row.target, row.input) for row in rows))
    names = list(dict.fromkeys(row.representation for row in rows))
    probes = list(dict.fromkeys(row.probe for row in rows))
    found = {(row.target, row.input, row.representation, row.probe): row for row in rows}
    width = 0.8 / len(names)
    with figure(path, 4 + 1.1 * len(groups) * len(probes), 3.2, ncols=len(probes), sharey=True, squeeze=False) as axes:
        for axis, probe in zip(axes[0], probes, strict=True):
            for number, name in enumerate(names):
                selected = [found[(*group, name, probe)] for group in groups]
                # A probe that is worse than the mean has no floor: the plot ends at 0, the table tells.
                height = np.array([max(0.0, row.r2) for row in selected])
                ends = np.clip([row.r2_interval for row in selected], 0, None)
                errors = np.abs(ends - height[:, None]).T
                x = np.arange(len(groups)) + (number - (len(names) - 1) / 2) * width
                axis.bar(x, height, width * 0.92, yerr=errors, color=COLORS[number], ecolor="#555", label=name)
            labels = [target if kind == "frame" else f"{target}\n(window)" for target, kind in groups]
            axis.set_xticks(range(len(groups)), [label.replace(" ", "\n", 1) for label in labels])
            axis.set_title(f"{PROBE_NAMES[probe]} probe")
            axis.set_ylim(0, 1.02)
            axis.grid(axis="x", visible=False)
        axes[0, 0].set_ylabel("R² on held-out episodes")
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
