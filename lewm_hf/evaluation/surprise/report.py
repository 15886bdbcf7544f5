"""Surprise in words and as pictures: mean curves with their bands, and one episode as a film above its own curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...files import write_atomic
from ..common.films import gif
from ..common.plots import COLORS, INK, PALE, figure
from .events import VARIANTS, Take
from .result import SurpriseResult

PANEL, GAP, HEADER, GRAPH = 160, 8, 20, 110
FRAME_MS, EVENT_MS = 220, 900
VARIANT_COLORS = dict(zip(VARIANTS, (COLORS[0], COLORS[3], COLORS[1]), strict=True))


def format_surprise(result: SurpriseResult) -> str:
    """A result as text for a terminal."""
    settings = result.settings
    lines = [
        f"{result.model.source} on {result.env.name}",
        f"{settings.trajectories} episodes of {settings.steps} steps, policy {settings.policy}, event at step "
        f"{settings.event_step}, context {settings.context} frames, seed {settings.seed}",
    ]
    for variant, compared in result.events.items():
        lines += ["", f"{variant}: {settings[variant]}"]
        for where, found in compared.items():
            test = found.paired_test
            ends = found.roc_auc_interval
            interval = "" if ends is None else f" ({ends[0]:.3f}-{ends[1]:.3f})"
            lines.append(
                f"  {where.replace('_', ' '):<14}surprise {found.perturbed_mean:.4g} against "
                f"{found.unperturbed_mean:.4g}   t({test.n - 1}) = {test.t:.2f}, p = {test.p_value:.2g}, "
                f"d = {test.effect_size:.2f}   ROC-AUC {found.roc_auc:.3f}{interval}"
            )
    return "\n".join(lines)


def frame_steps(result: SurpriseResult) -> np.ndarray:
    """Environment step of every entry of a curve."""
    settings = result.settings
    length = len(result.curves["unperturbed"].mean)
    return settings.frameskip * (settings.context + np.arange(length))


def plot_surprise(path: str | Path, result: SurpriseResult) -> None:
    """Mean surprise per variant over the episode, with 95 % bands and the moment of the event."""
    steps, settings = frame_steps(result), result.settings
    with figure(path, 6.4, 3.2) as axes:
        axes.axvline(settings.event_step, color=PALE, linewidth=1, linestyle="--")
        for variant, curve in result.curves.items():
            label = variant
            if variant in result.events:
                label += f" (ROC-AUC at the event {result.events[variant]['at_event']['roc_auc']:.2f})"
            axes.plot(steps, curve.mean, color=VARIANT_COLORS[variant], label=label)
            axes.fill_between(steps, curve.low, curve.high, color=VARIANT_COLORS[variant], alpha=0.2, linewidth=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("environment step")
        axes.set_ylabel("surprise (MSE of embeddings)")
        axes.set_title(
            f"{result.env.name}: mean of {settings.trajectories} episodes, event at step {settings.event_step}"
        )
        axes.legend()


def film_surprise(path: str | Path, takes: Mapping[str, Take], rows: Sequence, result: SurpriseResult) -> None:
    """An animated GIF of one episode: its three variants side by side, their surprise below as it comes."""
    steps, event = frame_steps(result), result.settings.event_step
    frameskip, font = result.settings.frameskip, ImageFont.load_default(12)
    curves = {row.variant: np.array(row.curve) for row in rows}
    top = max(curve.max() for curve in curves.values()) or 1.0
    width = len(VARIANTS) * (PANEL + GAP) + GAP
    last = steps[-1]

    def point(step: float, value: float) -> tuple[float, float]:
        x = GAP + (width - 2 * GAP) * step / last
        return x, HEADER + PANEL + GAP + GRAPH * (1 - 0.95 * value / top)

    drawn, durations = [], []
    for frame in range(len(takes["unperturbed"].frames)):
        canvas = Image.new("RGB", (width, HEADER + PANEL + 2 * GAP + GRAPH), "white")
        draw = ImageDraw.Draw(canvas)
        now = frame * frameskip
        for column, variant in enumerate(VARIANTS):
            left = GAP + column * (PANEL + GAP)
            picture = Image.fromarray(takes[variant].frames[frame]).resize((PANEL, PANEL), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, HEADER))
            color = VARIANT_COLORS[variant]
            draw.rectangle((left - 1, HEADER - 1, left + PANEL, HEADER + PANEL), outline=color, width=2)
            draw.text((left + PANEL / 2, HEADER / 2), variant, color, font, anchor="mm")
        draw.line([point(event, 0), point(event, top)], fill=PALE)
        draw.line([point(0, 0), point(last, 0)], fill=PALE)
        for variant in VARIANTS:
            shown = [point(s, v) for s, v in zip(steps, curves[variant], strict=True) if s <= now]
            if len(shown) > 1:
                draw.line(shown, fill=VARIANT_COLORS[variant], width=2)
        draw.text((GAP, HEADER + PANEL + GAP), f"surprise, step {now}", INK, font)
        drawn.append(canvas)
        durations.append(EVENT_MS if now == event else FRAME_MS)
    write_atomic(path, gif(drawn, durations, colors=160))
