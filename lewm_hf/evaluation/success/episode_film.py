"""Animated GIFs of single episodes, with nothing but Pillow."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..common.films import gif

PANEL = 192
HEADER, FOOTER, GAP = 22, 22, 6
INK, PALE, PAPER = (38, 42, 51), (122, 128, 140), (255, 255, 255)
GREEN, RED = (26, 138, 84), (200, 57, 47)
FRAME_MS, LAST_FRAME_MS = 80, 1200


def draw_episode(
    agent: np.ndarray,
    imagined: np.ndarray,
    goal: np.ndarray,
    *,
    success: bool,
    title: str,
    plan_steps: Sequence[int] = (),
    imagined_label: str = "imagined",
) -> bytes:
    """An animated GIF.

    Args:
        agent, imagined: `(steps + 1, H, W, 3)` uint8, before the first and after every step. Sizes may differ.
        goal: `(H, W, 3)` uint8.
        success: whether the last frame reached the goal.
        title: names the episode, in the footer.
        plan_steps: steps before which plans were made; marked in the footer.
        imagined_label: stands above the middle picture.
    """
    steps = len(agent) - 1
    font = ImageFont.load_default(13)
    target = _enlarge(goal)
    width, height = 3 * target.width + 4 * GAP, target.height + HEADER + FOOTER
    frames = []
    for step in range(steps + 1):
        canvas = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(canvas)
        for column, (label, picture) in enumerate(
            (("agent", _enlarge(agent[step])), (imagined_label, _enlarge(imagined[step])), ("goal", target))
        ):
            left = GAP + column * (target.width + GAP)
            canvas.paste(picture.resize(target.size, Image.Resampling.NEAREST), (left, HEADER))
            draw.text((left + target.width / 2, HEADER / 2), label, INK, font, anchor="mm")
        verdict, color = f"step {step}", PALE
        if step == steps:
            verdict, color = (f"reached after {steps} steps", GREEN) if success else (f"missed in {steps} steps", RED)
            left, top = GAP - 2, HEADER - 2
            draw.rectangle((left, top, left + target.width + 3, top + target.height + 3), outline=color, width=2)
        elif step in plan_steps:
            verdict += ": plans"
        baseline = height - FOOTER / 2
        draw.text((GAP, baseline), title, PALE, font, anchor="lm")
        draw.text((width - GAP, baseline), verdict, color, font, anchor="rm")
        frames.append(canvas)
    return gif(frames, [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS])


def _enlarge(picture: np.ndarray) -> Image.Image:
    """At least `PANEL` pixels wide, by a whole factor and without smoothing: pixels stay pixels."""
    factor = max(1, round(PANEL / picture.shape[1]))
    image = Image.fromarray(picture)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
