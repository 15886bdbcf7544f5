"""What the visitor sees of a run: a film and two curves, as bytes. No user interface here."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from stage import Run

from lewm_hf.evaluation.common.plots import COLORS, PALE, figure
from lewm_hf.evaluation.success.episode_film import GREEN, INK, PAPER, RED

HEADER, FOOTER, GAP, RIM = 30, 34, 10, 3
FRAME_MS, EVENT_MS, LAST_FRAME_MS = 90, 700, 1800
EVENT_COLOR = COLORS[3]


def film(run: Run, pictures: np.ndarray, goal: np.ndarray, every: int = 1) -> bytes:
    """An animated WebP: the agent on the left, what it imagines if that is known, its goal on the right.

    Args:
        pictures: `(n, H, W, 3)` uint8, every so many states of the run.
        goal: `(H, W, 3)` uint8.
    """
    font, height, width = ImageFont.load_default(16), *goal.shape[:2]
    columns = 2 + (run.imagined is not None)
    size = (columns * width + (columns + 1) * GAP, height + HEADER + FOOTER)
    frames, durations = [], []
    for number, picture in enumerate(pictures):
        step = number * every
        last = number == len(pictures) - 1
        shows_event = run.event_step is not None and step - every < run.event_step <= step
        text, color = f"step {step}", INK
        if shows_event:
            text, color = f"step {step}: the world cheats", EVENT_COLOR
        elif last:
            verdict = "reached" if run.success else "missed"
            text, color = f"{verdict} after {run.steps} steps", GREEN if run.success else RED
        canvas = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(canvas)
        panels = [("agent", picture), ("goal", goal)]
        if run.imagined is not None:
            imagined = Image.fromarray(run.imagined[min(step, len(run.imagined) - 1)])
            panels.insert(1, ("imagined", np.asarray(imagined.resize((width, height), Image.Resampling.BICUBIC))))
        for column, (label, shown) in enumerate(panels):
            left = GAP + column * (width + GAP)
            draw.text((left + width / 2, HEADER / 2), label, INK, font, anchor="mm")
            if column == 0:
                rim = color if shows_event or last else PALE
                draw.rectangle((left - RIM, HEADER - RIM, left + width + RIM - 1, HEADER + height + RIM - 1), fill=rim)
            canvas.paste(Image.fromarray(shown), (left, HEADER))
        draw.text((GAP, HEADER + height + FOOTER / 2 + RIM), text, color, font, anchor="lm")
        frames.append(canvas)
        durations.append(LAST_FRAME_MS if last else EVENT_MS if shows_event else FRAME_MS)
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=85, method=2
    )
    return buffer.getvalue()


def curves(run: Run, history: int) -> bytes:
    """A PNG: latent distance to the goal and surprise over the steps, plans and event marked.

    Args:
        history: frames that surprise needs before it can be told.
    """
    boundaries = run.frameskip * np.arange(len(run.latent_distance))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        with figure(path, 5.6, 4.0, nrows=2, sharex=True) as (above, below):
            above.plot(boundaries, run.latent_distance, color=COLORS[0], marker="o", markersize=3)
            ground = above.get_xaxis_transform()  # x in steps, y as a share of the height
            above.plot(
                run.plan_steps, np.zeros(len(run.plan_steps)), "^", transform=ground, clip_on=False, color=COLORS[4],
                label="a new plan",
            )  # fmt: skip
            above.set_ylabel("latent distance to the goal")
            below.plot(boundaries[history:], run.surprise, color=COLORS[1], marker="o", markersize=3)
            below.set_ylabel("surprise")
            below.set_xlabel("environment step")
            if run.event_step is not None:
                for axes in (above, below):
                    axes.axvline(run.event_step, color=EVENT_COLOR, linewidth=1.2, linestyle="--")
                below.plot([], [], color=EVENT_COLOR, linewidth=1.2, linestyle="--", label="the world cheats")
                below.legend()
            if not len(run.surprise):
                message = f"too short to tell: {history} frames of context come first"
                below.text(0.5, 0.5, message, transform=below.transAxes, ha="center", color=PALE)
            above.legend()
            for axes, values in ((above, run.latent_distance), (below, run.surprise)):
                axes.set_ylim(0, 1.1 * values.max(initial=1e-6))
            below.set_xlim(0, boundaries[-1])
        return path.read_bytes()
