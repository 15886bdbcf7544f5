"""Several cameras of one recording as one picture: side by side, in the order that they were named in."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...pictures import side_by_side
from .source import Source


class TiledSource(Source):
    """A source with one picture per row out of several.

    Args:
        cameras: the same source, opened with one camera each.
    """

    def __init__(self, cameras: Sequence[Source]):
        first = cameras[0]
        self._cameras = list(cameras)
        self.path, self.lengths, self.fps = first.path, first.lengths, first.fps
        self.metadata, self.packages, self.held_out = first.metadata, first.packages, first.held_out
        self.survives_fork = all(camera.survives_fork for camera in cameras)
        self._names = tuple(camera.mapping.camera for camera in cameras)
        self.mapping = replace(first.mapping, image=self._names)

    def column(self, name: str, episode: int) -> np.ndarray:
        return self._cameras[0].column(name, episode)

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        for row, pictures in enumerate(zip(*(camera.frames(episode) for camera in self._cameras), strict=True)):
            try:
                yield side_by_side(dict(zip(self._names, pictures, strict=True)))
            except ValueError as error:
                raise ValueError(f"row {row} of episode {episode} of {self.path}: {error}") from error

    def files(self) -> list[Path]:
        return list(dict.fromkeys(file for camera in self._cameras for file in camera.files()))

    def close(self) -> None:
        for camera in self._cameras:
            camera.close()
