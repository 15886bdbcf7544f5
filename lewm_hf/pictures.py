"""A picture, however it comes -> its pixels: upright, RGB, 8 bits per channel.

The one place where pictures are decoded: for collection and import, training, evaluation and planning. The pixels are
those of `datasets.Image(mode="RGB")`, which the Hub's viewer shows too; what that would clip or paint over is refused.
"""

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Pillow knows more, among them formats that start other programs (EPS) or open other files.
FORMATS = frozenset({"PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "TGA"})
# What Pillow's readers raise on damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error, zlib.error)
# How a camera was held -> what turns its picture upright (EXIF 2.32, tag 0x0112).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FITS = ("crop", "pad", "stretch")
DOWNLOAD_SECONDS = 30


def decode(data: bytes | memoryview) -> np.ndarray:
    """An image file -> `(H, W, 3)` uint8. Of several pictures in one file, the first.

    Raises:
        ValueError: one line where it is damaged, no image, larger than `PIL.Image.MAX_IMAGE_PIXELS`, or has what RGB
            with 8 bits cannot show, see `rgb`.
    """
    try:
        if bytes(data[:8]) == PNG_SIGNATURE:
            for _ in png_chunks(data):  # Pillow does not look at the checksums of pixels
                pass
        Image.init()
        image = Image.open(io.BytesIO(data), formats=sorted(FORMATS & Image.OPEN.keys()))
        check_pixels(image.width, image.height)
        image.load()
    except UnidentifiedImageError as error:
        raise ValueError(
            f"a picture of {len(data)} bytes cannot be decoded: it is damaged, or none of {', '.join(sorted(FORMATS))}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"a picture is too large ({_line(error)}): make it smaller") from error
    except TooLarge:
        raise
    except DAMAGED as error:
        raise ValueError(
            f"a picture of {len(data)} bytes cannot be decoded ({_line(error)}): the file is damaged"
        ) from error
    return rgb(image)


def rgb(image: Image.Image) -> np.ndarray:
    """A PIL picture -> `(H, W, 3)` uint8, turned upright as its EXIF data says.

    Raises:
        ValueError: one line for more than 8 bits per channel (RGB would clip it), transparency (the color below is
            arbitrary), or a file that turns out damaged.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        raise ValueError(
            f"a picture has mode {image.mode}, more than 8 bits per pixel, which RGB would clip: scale it to 0..255 "
            "and save it as 8-bit first"
        )
    image = _upright(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise ValueError("a picture has transparent pixels, whose color is arbitrary: put it on a background first")
    return np.asarray(image.convert("RGB"))


def size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of a PIL picture once it is upright."""
    turned = _orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def read(source: str | Path) -> np.ndarray:
    """A picture's path, URL (`http`, `https`, `data`) or base64 text -> `(H, W, 3)` uint8.

    Raises:
        OSError: one line where a URL cannot be fetched.
        ValueError: one line where there is no such file, and see `decode`.
    """
    text = str(source)
    if text.startswith(("http://", "https://")):
        try:
            with urlopen(Request(text, headers={"User-Agent": "lewm-hf"}), timeout=DOWNLOAD_SECONDS) as response:
                return decode(response.read())
        except OSError as error:
            raise OSError(f"the picture {text} cannot be fetched ({_line(error)}): check the address") from error
    if _is_file(text):
        return decode(Path(text).read_bytes())
    try:
        data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:  # no base64, or not even ASCII
        shown = text if len(text) <= 200 else f"{text[:200]}..."
        raise ValueError(f"there is no picture {shown}: give a path, a URL, or a base64 text") from error
    return decode(data)


def square(frames: Tensor, fit: str) -> Tensor:
    """Frames `(..., H, W, 3)` -> `(..., S, S, 3)`: the middle cut out (`"crop"`), or black borders added (`"pad"`).

    Frames that a resize will `"stretch"` come back as they are.
    """
    height, width = frames.shape[-3:-1]
    if fit == "stretch" or height == width:
        return frames
    side = min(height, width) if fit == "crop" else max(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if fit == "crop":
        return frames[..., top : top + side, left : left + side, :]
    padded = frames.new_zeros((*frames.shape[:-3], side, side, frames.shape[-1]))
    padded[..., -top : height - top, -left : width - left, :] = frames
    return padded


def side_by_side(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """One picture out of those of several cameras `(H, W, 3)` each, from left to right.

    Raises:
        ValueError: one line where they are not of one size.
    """
    sizes = {name: picture.shape[:2] for name, picture in pictures.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items())
        raise ValueError(f"the cameras make pictures of different sizes ({listed}): resize them to one size first")
    return np.concatenate(list(pictures.values()), axis=1)


class TooLarge(ValueError):
    """A picture has more pixels than `PIL.Image.MAX_IMAGE_PIXELS` allows."""


def check_pixels(width: int, height: int) -> None:
    """Refuses pictures that are a danger to memory, whichever library would decode them.

    Raises:
        TooLarge: one line.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise TooLarge(
            f"a picture has {width}x{height} pixels, more than the {limit:,} of PIL.Image.MAX_IMAGE_PIXELS: make it "
            "smaller, or raise that limit"
        )


def png_chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kinds and contents of a PNG file's chunks, up to its end.

    Raises:
        ValueError: one line where a chunk that pixels need is cut off, or its checksum wrong.
    """
    view, at, kind = memoryview(data), len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        if len(view) < at + 12:
            raise ValueError("PNG is truncated")
        length, kind = int.from_bytes(view[at : at + 4]), bytes(view[at + 4 : at + 8])
        end = at + 8 + length
        if len(view) < end + 4:
            raise ValueError("PNG is truncated")
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise ValueError(f"wrong checksum of PNG chunk {kind.decode('latin-1')!r}")
        yield kind, view[at + 8 : end]
        at = end + 4


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False


def _orientation(image: Image.Image) -> int | None:
    try:
        image.load()  # some formats turn their pictures while loading
        return image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED as error:
        raise ValueError(f"a picture cannot be decoded ({_line(error)}): the file is damaged") from error


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    turn = None if orientation is None else UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
