"""A model's health in words, and as four plots in one picture."""

from pathlib import Path
from typing import Any

import numpy as np

from ...extras import requires_extra
from ..common.plots import COLORS, figure
from .result import Distances, HealthResult, Normality, Precision, Spectrum

with requires_extra("eval"):
    from matplotlib.ticker import LogLocator, NullFormatter

# Of the spread of embeddings: from here on the report says what to do.
MOVED_TOO_FAR = 0.1
WAY_NAMES = {"true": "true actions", "swapped": "swapped actions", "none": "no actions", "copy": "no motion"}


def format_health(result: HealthResult) -> str:
    """A result as text for a terminal."""
    settings, spectrum, distances = result.settings, result.spectrum, result.distances
    straight, test = result.straightness, result.dynamics.paired_test
    lines = [
        f"{result.model.source} on {result.env or result.dataset.env or 'recordings'}",
        f"{settings.frames} frames and {settings.stretches} stretches of {result.dataset.episodes} "
        f"{result.dataset.split} episodes",
        "",
        _line("straightness", f"{straight.mean:.3f}, {settings.frameskip} steps apart; pictures "
              f"{straight.pixels:.3f}"),
        _line("effective rank", f"{spectrum.effective_rank:.1f} of {spectrum.dimensions}"),
        _line("standard deviations", f"{spectrum.std_min:.2f} to {spectrum.std_max:.2f}, mean "
              f"{spectrum.std_mean:.2f}"),
    ]  # fmt: skip
    for name, found in (("raw", result.normality.raw), ("standardized", result.normality.standardized)):
        lines.append(
            _line(
                f"normality, {name}",
                f"Epps-Pulley {found.mean:.2f} on average, {found.usual:.2f} or less in "
                f"{100 * found.share_usual:.0f} % of the dimensions (95 % for a Gaussian)",
            )
        )
    if distances:
        for name, measured in distances.by_pairs().items():
            low, high = measured.interval
            lines.append(_line(f"distance {name}", f"Spearman {measured.spearman:.3f} ({low:.3f} to {high:.3f})"))
        near, random = result.retrieval.nearest, result.retrieval.random
        lines.append(_line("nearest neighbour", f"{near:.3g} away, a random frame {random:.3g} ({distances.unit})"))
    else:
        lines.append(_line("distance to the goal", "unknown: the environment has no `distance` (StateEnv.distance)"))
    last = {way: curve.mean[-1] for way, curve in result.dynamics.errors.items()}
    lines += [
        _line(
            f"error after {settings.horizon} blocks",
            ", ".join(f"{WAY_NAMES[way]} {error:.3g}" for way, error in last.items()),
        ),
        _line("", f"swapped against true: t = {test.t:.1f}, p = {test.p_value:.2g}"),
        *_precision_lines(result.precision),
    ]
    return "\n".join(lines)


def _precision_lines(precision: Precision | None) -> list[str]:
    """Nothing where it was not measured, and what to do where bfloat16 takes too much."""
    if precision is None or precision.ratio is None:
        return []
    lines = [_line("in bfloat16", f"embeddings move by {precision.ratio:.2g} of their spread")]
    if precision.ratio > MOVED_TOO_FAR:
        lines += [
            _line("", "what tells frames apart is rounded away: load this model in float32, the default"),
            _line("", "(BatchNorm's statistics, measured anew in bfloat16, may bring a part of it back)"),
        ]
    return lines


def _line(name: str, value: str) -> str:
    return f"{name:<26}{value}"


def plot_health(path: str | Path, result: HealthResult) -> None:
    """Spectrum, normality, action-swap errors, and latent against true distance."""
    with figure(path, 8.4, 5.8, nrows=2, ncols=2) as axes:
        _spectrum(axes[0, 0], result.spectrum)
        _normality(axes[0, 1], result.normality)
        _dynamics(axes[1, 0], result)
        _distances(axes[1, 1], result.distances)


def _spectrum(axis: Any, spectrum: Spectrum) -> None:
    axis.plot(np.arange(1, len(spectrum.singular_values) + 1), spectrum.singular_values, color=COLORS[0])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("direction")
    axis.set_ylabel("singular value, of the largest")
    axis.set_title(f"effective rank {spectrum.effective_rank:.1f} of {spectrum.dimensions}")


def _normality(axis: Any, normality: Normality) -> None:
    both = np.concatenate([normality.raw.per_dimension, normality.standardized.per_dimension])
    bins = np.geomspace(max(both.min(), 1e-2), max(both.max() * 1.01, 2.0), 30)
    for name, found, color in (
        ("raw", normality.raw, COLORS[0]), ("standardized", normality.standardized, COLORS[3]),
    ):  # fmt: skip
        axis.hist(found.per_dimension, bins=bins, color=color, alpha=0.6, label=name)
        axis.axvline(found.usual, color=color, linestyle="--", label=f"95 % of Gaussians, {name}")
    axis.set_xscale("log")
    # Default labels of a short logarithmic axis overlap.
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("Epps-Pulley statistic")
    axis.set_ylabel("dimensions")
    axis.set_title("normality per dimension")
    axis.legend()


def _dynamics(axis: Any, result: HealthResult) -> None:
    steps = result.settings.frameskip * np.arange(1, result.settings.horizon + 1)
    for number, (way, curve) in enumerate(result.dynamics.errors.items()):
        axis.plot(steps, curve.mean, color=COLORS[number], marker=".", label=WAY_NAMES[way])
        axis.fill_between(steps, curve.low, curve.high, color=COLORS[number], alpha=0.15, linewidth=0)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("environment steps imagined")
    axis.set_ylabel("MSE of embeddings")
    axis.set_title("open-loop error")
    axis.legend()


def _distances(axis: Any, distances: Distances | None) -> None:
    if distances is None:
        axis.text(0.5, 0.5, "no true distances for these episodes", ha="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    for (name, found), color in zip(reversed(distances.by_pairs().items()), (COLORS[5], COLORS[0]), strict=True):
        label = f"{name}: Spearman {found.spearman:.2f}"
        axis.scatter(found.true, found.latent, s=5, color=color, alpha=0.5, linewidths=0, label=label)
    axis.set_xlabel(f"true distance ({distances.unit.split(',')[0].split(':')[0]})")
    axis.set_ylabel("latent distance")
    axis.set_title("what latent distance means")
    axis.legend()
