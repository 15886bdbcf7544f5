"""Frames of a video, in order and upright."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...extras import requires_extra
from ...pictures import check_pixels

with requires_extra("video"):
    import av
    from av.sidedata.sidedata import Type as SideData

# FFmpeg's display matrix: 3 x 3 fixed-point numbers, the first four of which turn and mirror.
DISPLAY_MATRIX = np.dtype("=i4")


class VideoFacts(NamedTuple):
    """What a container says: number of frames, and frames per second; `None` where it does not."""

    frames: int | None
    fps: float | None


def video_facts(path: Path) -> VideoFacts:
    """Reads a container's header.

    Raises:
        ValueError: one line where it is damaged or has no video.
    """
    try:
        with av.open(str(path)) as container:
            stream = _stream(container, path)
            fps = stream.average_rate
            check_pixels(stream.width, stream.height)
            return VideoFacts(stream.frames or None, None if fps is None else float(fps))
    except av.FFmpegError as error:
        raise _damaged(path, error) from error


def video_frames(path: Path, count: int, fps: float | None, first: int | None = None) -> Iterator[np.ndarray]:
    """Decodes frames `(H, W, 3)` uint8 RGB, turned as the container says, like players do.

    Args:
        path: the video.
        count: how many.
        fps: frames per second, which tells frames apart; needed where `first` is given.
        first: number of the first one, for a video that holds several episodes; `None` where it has `count` frames.

    Raises:
        ValueError: one line where the video is damaged, or does not have these frames.
    """
    found = 0
    try:
        with av.open(str(path)) as container:
            for number, frame in _numbered(container, path, fps, first):
                if number == count and first is not None:
                    break
                if number != found or number == count:
                    raise ValueError(_mismatch(path, f"frame {number} after {found}", count, first))
                yield _upright(frame.to_ndarray(format="rgb24"), frame, path)
                found += 1
    except av.FFmpegError as error:
        raise _damaged(path, error) from error
    if found < count:
        raise ValueError(_mismatch(path, f"{found} frames", count, first))


def _numbered(
    container: "av.container.InputContainer", path: Path, fps: float | None, first: int | None
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Frames from `first` on with their numbers, counted from there."""
    stream = _stream(container, path)
    if first is None or fps is None:
        yield from enumerate(container.decode(stream))
        return
    # To the key frame before, by half a frame more because times are rounded.
    container.seek(max(int((first - 0.5) / fps / stream.time_base), 0), stream=stream, backward=True)
    for frame in container.decode(stream):
        number = round(float(frame.pts * stream.time_base) * fps) - first
        if number >= 0:
            yield number, frame


def _upright(pixels: np.ndarray, frame: "av.VideoFrame", path: Path) -> np.ndarray:
    """Pixels as they are to be shown: a phone films as it is held, and writes down how."""
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return pixels
    # A pixel in column x and row y is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.sign(np.frombuffer(data, DISPLAY_MATRIX)[:5]).tolist()
    if a and d and not (b or c):
        shown = pixels[::d, ::a]
    elif b and c and not (a or d):
        shown = pixels.swapaxes(0, 1)[::b, ::c]
    else:
        raise ValueError(
            f"{path} is to be shown turned by {frame.rotation} degrees, expected quarter turns: turn the video first"
        )
    return np.ascontiguousarray(shown)


def _mismatch(path: Path, found: str, count: int, first: int | None) -> str:
    wanted = f"{count} frames" if first is None else f"frames {first} to {first + count - 1}"
    return (
        f"{path} does not hold the {wanted} that its episode has rows for (found {found}): download it again, or leave "
        "the episode out with skip_episodes in the mapping"
    )


def _stream(container: "av.container.InputContainer", path: Path) -> "av.VideoStream":
    if not container.streams.video:
        raise ValueError(f"{path} has no video stream: give a video")
    return container.streams.video[0]


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged or no video ({' '.join(str(error).split())}): download or write it again")
