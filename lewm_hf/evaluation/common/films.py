"""Animated GIFs, of one palette: colors do not flicker, and only changed pixels are stored."""

import io
from collections.abc import Sequence

from PIL import Image


def gif(frames: Sequence[Image.Image], durations: Sequence[int], colors: int = 128) -> bytes:
    """An animated GIF that starts over at its end.

    Args:
        frames: RGB pictures of one size.
        durations: of each, in ms.
        colors: of the palette, which is fitted to the first, the middle and the last picture.
    """
    first, height = frames[0], frames[0].height
    sample = Image.new("RGB", (first.width, 3 * height))
    for row, frame in enumerate((first, frames[len(frames) // 2], frames[-1])):
        sample.paste(frame, (0, row * height))
    palette = sample.quantize(colors, method=Image.Quantize.MEDIANCUT)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    indexed[0].save(
        file, "GIF", save_all=True, append_images=indexed[1:], duration=list(durations), loop=0, optimize=False
    )
    return file.getvalue()
