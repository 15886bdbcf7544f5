"""The README's film: agents of several tasks side by side, each as `lewm eval --video` filmed it.

    python eval/readme_film.py docs/agents.gif runs/tworoom/videos/0.gif runs/pusht/videos/1.gif ...

Two films in a row; one that ends earlier holds its last picture until all have ended.
"""

import argparse
import math
from pathlib import Path

from PIL import Image, ImageSequence

GAP = 6
FRAME_MS, LAST_FRAME_MS = 80, 1500


def read(path: Path, width: int) -> list[Image.Image]:
    """All pictures of one film, `width` pixels wide."""
    with Image.open(path) as film:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
    height = round(frames[0].height * width / frames[0].width)
    return [frame.resize((width, height), Image.Resampling.LANCZOS) for frame in frames]


def tile(films: list[list[Image.Image]], columns: int) -> list[Image.Image]:
    """One picture per moment, all films in it."""
    width, height = films[0][0].width, max(film[0].height for film in films)
    rows = math.ceil(len(films) / columns)
    size = (columns * width + (columns - 1) * GAP, rows * height + (rows - 1) * GAP)
    moments = []
    for moment in range(max(map(len, films))):
        canvas = Image.new("RGB", size, "white")
        for number, film in enumerate(films):
            row, column = divmod(number, columns)
            canvas.paste(film[min(moment, len(film) - 1)], (column * (width + GAP), row * (height + GAP)))
        moments.append(canvas)
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--columns", type=int, default=2)
    parser.add_argument("--width", type=int, default=360, help="pixels of each film")
    args = parser.parse_args()
    moments = tile([read(path, args.width) for path in args.films], args.columns)
    sample = Image.new("RGB", (moments[0].width, 2 * moments[0].height))
    sample.paste(moments[0], (0, 0))
    sample.paste(moments[-1], (0, moments[0].height))
    palette = sample.quantize(96)
    indexed = [moment.quantize(palette=palette, dither=Image.Dither.NONE) for moment in moments]
    durations = [FRAME_MS] * (len(indexed) - 1) + [LAST_FRAME_MS]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    indexed[0].save(args.out, save_all=True, append_images=indexed[1:], duration=durations, loop=0)
    print(f"wrote {args.out}: {len(indexed)} pictures, {args.out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
