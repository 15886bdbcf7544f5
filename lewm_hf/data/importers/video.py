"""Frames of a video, in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...extras import requires_extra

with requires_extra("video"):
    import av


class VideoFacts(NamedTuple):
    """What a container says: number of frames (`None` where it does not), frames per second, (height, width)."""

    frames: int | None
    fps: float | None
    size: tuple[int, int]


def video_facts(path: Path) -> VideoFacts:
    """Reads a container's header.

    Raises:
        ValueError: one line where it is damaged or has no video.
    """
    try:
        with av.open(str(path)) as container:
            stream = _stream(container, path)
            fps = stream.average_rate
            size = stream.height, stream.width
            return VideoFacts(stream.frames or None, None if fps is None else float(fps), size)
    except av.FFmpegError as error:
        raise _damaged(path, error) from None


def video_frames(path: Path, count: int, fps: float, first: int | None = None) -> Iterator[np.ndarray]:
    """Decodes frames `(H, W, 3)` uint8 RGB.

    Args:
        path: the video.
        count: how many.
        fps: frames per second, which tells frames apart where `first` is given.
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
                yield frame.to_ndarray(format="rgb24")
                found += 1
    except av.FFmpegError as error:
        raise _damaged(path, error) from None
    if found < count:
        raise ValueError(_mismatch(path, f"{found} frames", count, first))


def _numbered(container, path: Path, fps: float, first: int | None) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Frames from `first` on with their numbers, counted from there."""
    stream = _stream(container, path)
    if first is None:
        yield from enumerate(container.decode(stream))
        return
    # To the key frame before, by half a frame more because times are rounded.
    container.seek(max(int((first - 0.5) / fps / stream.time_base), 0), stream=stream, backward=True)
    for frame in container.decode(stream):
        number = round(float(frame.pts * stream.time_base) * fps) - first
        if number >= 0:
            yield number, frame


def _mismatch(path: Path, found: str, count: int, first: int | None) -> str:
    wanted = f"{count} frames" if first is None else f"frames {first} to {first + count - 1}"
    return (
        f"{path} does not hold the {wanted} that its episode has rows for (found {found}): download it again, or leave "
        "the episode out with skip_episodes in the mapping"
    )


def _stream(container, path: Path):
    if not container.streams.video:
        raise ValueError(f"{path} has no video stream: give a video")
    return container.streams.video[0]


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged or no video ({' '.join(str(error).split())}): download or write it again")
