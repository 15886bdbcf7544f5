"""One frame <-> a few kilobytes: lossless image files, written fast.

Which format is right was decided by measuring frames of the four environments (`training/bench_data.py` repeats it):
- `"png"`: an own writer of plain PNG files, for scenes that are mostly one color. Several times faster to write than
  WebP, which spends 5 ms on a TwoRoom frame because its soft blob on walls has more than 256 colors. Always in true
  color: a palette saves at most 7 % of the bytes and takes three times as long, and lerobot takes its indices for gray.
- `"webp1"`: lossless WebP, method 1, for flat scenes of few colors (PushT): the smallest files.
- `"webp0"`: lossless WebP, method 0, for textured scenes; higher methods take five times as long for 5 % fewer bytes.
"""

import io
import struct
import zlib
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, features

from ... import pictures
from ...pictures import PNG_SIGNATURE

try:
    import cv2  # decodes up to three times as fast as Pillow; comes with the extra "pusht"
except ImportError:
    cv2 = None  # type: ignore[assignment]  # else a module

WEBP_METHODS = {"webp0": 0, "webp1": 1}
IMAGE_FORMATS = ("png", *WEBP_METHODS)
# zlib's last fast level: 10 % smaller than level 1; level 4 takes twice as long, and run lengths alone read slower.
COMPRESSION = 3
ZLIB_HEADER = b"\x78\x5e"
PASTED_ROWS = 8
FILTER_UP = 2
GRAY, RGB, PALETTE = 0, 2, 3
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# Head of a lossless WebP file without metadata (RFC 9649, 3.4): 14 bits of width - 1, 14 of height - 1, alpha, version.
WEBP_START, WEBP_BYTES, WEBP_SIDE = b"\x2f", 25, 1 << 14


class FrameEncoder:
    """Encodes frames `(H, W, 3)` uint8 losslessly; the bytes depend on the frame alone.

    Args:
        image_format: one of `IMAGE_FORMATS`; PNG where Pillow was built without WebP.

    Raises:
        ValueError: for another format.
    """

    def __init__(self, image_format: str):
        check_image_format(image_format)
        self.image_format = image_format if features.check("webp") else "png"

    def __call__(self, frame: np.ndarray) -> bytes:
        """The bytes of an image file.

        Raises:
            ValueError: for another shape or dtype.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise ValueError(f"a frame is (H, W, 3) uint8, not {frame.shape} {frame.dtype}: convert it first")
        return (
            _png(np.ascontiguousarray(frame))
            if self.image_format == "png"
            else _webp(frame, WEBP_METHODS[self.image_format])
        )


def check_image_format(image_format: str) -> None:
    """Raises `ValueError` for a format that is not one of `IMAGE_FORMATS`."""
    if image_format not in IMAGE_FORMATS:
        raise ValueError(f"image_format={image_format!r} is unknown: use one of {', '.join(IMAGE_FORMATS)}")


def decode(data: bytes | memoryview) -> np.ndarray:
    """An image file of any kind -> `(H, W, 3)` uint8: what `pictures.decode` gives, faster where OpenCV is installed.

    Raises:
        ValueError: see `pictures.decode`.
    """
    if cv2 is not None and _is_plain(data):
        image = _by_opencv(data)
        if image is not None:
            return image
    return pictures.decode(data)


def _by_opencv(data: bytes | memoryview) -> np.ndarray | None:
    """The picture in RGB, `None` where it cannot be read."""
    encoded = np.frombuffer(data, dtype=np.uint8)
    if hasattr(cv2, "IMREAD_COLOR_RGB"):
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    # Before OpenCV 4.11, which many programs bring along, there is no other order than its own.
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _is_plain(data: bytes | memoryview) -> bool:
    """Whether every library decodes these bytes to the same pixels: PNG and lossless WebP with 8 bits and nothing else
    in them. JPEG libraries differ in the last bit, and each has its own mind about metadata, depth and transparency.
    """
    if bytes(data[:8]) == PNG_SIGNATURE:
        try:
            chunks = dict(pictures.png_chunks(data))
        except ValueError:
            return False
        if not chunks.keys() <= PIXEL_CHUNKS or len(chunks.get(b"IHDR", b"")) != 13:
            return False
        width, height, depth, color = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
        plain = depth == 8 and color in (GRAY, RGB, PALETTE)
    else:
        if bytes(data[:4]) != b"RIFF" or bytes(data[8:16]) != b"WEBPVP8L" or bytes(data[20:21]) != WEBP_START:
            return False
        if len(data) < WEBP_BYTES or len(data) < 8 + int.from_bytes(data[4:8], "little"):
            return False
        bits = int.from_bytes(data[21:25], "little")
        width, height = bits % WEBP_SIDE + 1, (bits >> 14) % WEBP_SIDE + 1
        plain = not bits >> 28  # neither alpha nor another version
    if plain:
        pictures.check_pixels(width, height)
    return plain


def _png(frame: np.ndarray) -> bytes:
    height, width, _ = frame.shape
    # A row equal to the one above is a row of zeros once filtered: only the others need any work.
    lines = _widest_view(frame.reshape(height, -1))
    differs = np.ones(height, dtype=bool)
    np.any(lines[1:] != lines[:-1], axis=1, out=differs[1:])
    fresh = np.flatnonzero(differs)
    values = frame[fresh].reshape(len(fresh), -1)
    filtered = np.zeros((height, 1 + values.shape[1]), dtype=np.uint8)
    filtered[1:, 0] = FILTER_UP
    filtered[fresh[1:], 1:] = values[1:] - values[:-1]
    filtered[0, 1:] = values[0]
    header = struct.pack(">IIBBBBB", width, height, 8, RGB, 0, 0, 0)
    data = _compress(filtered, fresh)
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _webp(frame: np.ndarray, method: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "WEBP", lossless=True, quality=0, method=method, exact=True)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _compress(filtered: np.ndarray, fresh: np.ndarray) -> bytes:
    """A zlib stream of the filtered rows `(H, 1 + W)`. Rows that are not in `fresh` hold an Up filter and zeros.

    Long runs of those are pasted in ready-made, which saves a third of the time and a fifth of the bytes: after a full
    flush a deflate stream is at a byte boundary and refers to nothing before it.
    """
    height, width = filtered.shape
    deflate = zlib.compressobj(COMPRESSION, wbits=-zlib.MAX_WBITS)
    parts, start = [ZLIB_HEADER], 0
    rows = [*fresh.tolist(), height]
    for last, end in pairwise(rows):
        if end - last - 1 >= PASTED_ROWS:
            parts += [deflate.compress(filtered[start : last + 1].data), deflate.flush(zlib.Z_FULL_FLUSH)]
            parts.append(_zero_rows(end - last - 1, width))
            start = end
    parts += [deflate.compress(filtered[start:].data), deflate.flush(), struct.pack(">I", zlib.adler32(filtered.data))]
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _zero_rows(rows: int, width: int) -> bytes:
    zeros = np.zeros((rows, width), dtype=np.uint8)
    zeros[:, 0] = FILTER_UP
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflate.compress(zeros.data) + deflate.flush(zlib.Z_FULL_FLUSH)


def _widest_view(rows: np.ndarray) -> np.ndarray:
    """Contiguous bytes `(n, m)` as the widest integers that divide a row: fewer items to compare."""
    for dtype in (np.uint64, np.uint32, np.uint16):
        if rows.shape[1] % np.dtype(dtype).itemsize == 0:
            return rows.view(dtype)
    return rows
