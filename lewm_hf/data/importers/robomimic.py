"""Demonstrations as robomimic and LIBERO write them: `data/demo_0`, `data/demo_1`, ... in one HDF5 file, or in several
of one folder.

A demonstration has `actions` `(rows, n)`, and `obs/NAME` with pictures `(rows, height, width, 3)` uint8 and vectors of
numbers; what else it has as rows of numbers (`rewards`, `dones`, `states`, `action_dict.NAME`) can be mapped or kept.
`next_obs` repeats the row after, and is not read. Demonstrations come in the order of their numbers, those of a folder
file by file. Unless the mapping names the columns of `observation`, it is all vectors in `obs`, in the order of their
names.

What else a file says is taken over:

- `mask/valid` lists the demonstrations that are held out, `mask/train` those that train; see `demonstration_split`.
- `env_kwargs.control_freq` in the JSON of `data`'s attribute `env_args` is frames per second.
- `macros_image_convention=opengl`, robosuite's, has a picture's bottom row first. LIBERO leaves it so, and such
  pictures are turned upright; robomimic has turned them itself.
- Where an action stands beside the picture that it led to it is moved up by a row; see `demonstration_timing`.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...tasks.task import Task
from .demonstration_split import split_of
from .demonstration_timing import action_shift
from .demonstrations import (
    ACTIONS,
    BOTTOM_FIRST,
    CONVENTION,
    Demo,
    attribute,
    control_frequency,
    demos_of,
    files_of,
)  # fmt: skip
from .hdf5_file import PACKAGES
from .mapping import EVERYTHING, ColumnMapping
from .source import Source, agreed_fps, camera_named, check_total, sha256

logger = logging.getLogger(__name__)

FRAMES_AT_ONCE = 100


class RobomimicSource(Source):
    """See the module.

    Args:
        path: a file, or a folder with some at its top.
        mapping: columns, by the names that they have in a demonstration or in its `obs`; `image` where there are
            several cameras.
        task: the episodes' task; its state is only known where the mapping tells.

    Raises:
        FileNotFoundError, ValueError: one line where files are missing, damaged, or demonstrations contradict each
            other or the mapping.
    """

    packages = PACKAGES

    def __init__(self, path: Path, mapping: ColumnMapping, task: Task | None):
        self.path = path
        self._files = files_of(path)
        self._demos = [demo for file in self._files for demo in demos_of(file)]
        self.metadata = {"source_bytes": sum(file.path.stat().st_size for file in self._files)}
        mapping = self._split(mapping)
        used = {number: demo for number, demo in enumerate(self._demos) if number not in mapping.skip_episodes}
        if not used:
            raise ValueError(f"{path} has {len(self._demos)} demonstrations, all left out: correct skip_episodes")
        self.mapping = self._filled(mapping, list(used.values()))
        for number, demo in used.items():
            self._check(demo, number)
        self._time(list(used.values()))
        self.lengths = np.array([demo.rows(self.mapping.action[0]) for demo in self._demos], dtype=np.int64)
        self.fps = self._said_fps(mapping)
        self._turned = {file.path for file in self._files if attribute(file, CONVENTION) == BOTTOM_FIRST}
        if self._turned:
            self.metadata["pictures"] = f"turned upright: {CONVENTION}={BOTTOM_FIRST} has the bottom row first"
        layouts = {str(number): repr(sorted(demo.columns.items())) for number, demo in enumerate(self._demos)}
        self.metadata["sha256"] = {"layout": sha256(layouts), "episode lengths": sha256(self.lengths)}

    def column(self, name: str, episode: int) -> np.ndarray:
        values = self._demos[episode].read(name)
        return values.reshape(len(values), -1)

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        demo, rows = self._demos[episode], int(self.lengths[episode])
        for first in range(0, rows, FRAMES_AT_ONCE):
            frames = demo.read(self.mapping.camera, first, min(first + FRAMES_AT_ONCE, rows))
            yield from frames[:, ::-1] if demo.file.path in self._turned else frames

    def files(self) -> list[Path]:
        return [file.path for file in self._files]

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _split(self, mapping: ColumnMapping) -> ColumnMapping:
        """Takes the masks' word for what is held out; skips what they leave out."""
        split = split_of(self._demos)
        if split is None:
            return mapping
        if new := set(split.left_out) - set(mapping.skip_episodes):
            logger.warning(
                "%d demonstrations of %s are in none of %s, and left out", len(new), self.path, split.said
            )  # fmt: skip
            mapping = replace(mapping, skip_episodes=tuple(sorted(new.union(mapping.skip_episodes))))
        rest = set(range(len(self._demos))) - set(mapping.skip_episodes)
        if held_out := rest & set(split.held_out):
            self.held_out = np.array(sorted(held_out), dtype=np.int64)
        if 0 < len(held_out) < len(rest):
            self.metadata["test_split"] = f"{len(held_out)} episodes, as the source says ({split.said})"
        return mapping

    def _filled(self, mapping: ColumnMapping, used: list[Demo]) -> ColumnMapping:
        """With the camera, the actions, what is kept and the observation."""
        first = used[0]
        cameras = [name for name, kind in first.observed.items() if kind.is_pictures]
        if mapping.image is None and len(cameras) != 1:
            raise ValueError(self._which_camera(first, cameras))
        image = cameras[0] if mapping.image is None else camera_named(mapping.camera, list(first.columns))
        if image not in first.columns:
            raise ValueError(f"{image!r} of {self.path} is no camera: there are {', '.join(cameras) or 'none'}")
        filled = replace(mapping, image=image, action=mapping.action or (ACTIONS,))
        # Before the observation is filled in: its parts can be kept under their own names, too.
        filled = filled.keeping(self._alike(used, filled.action[0]) if mapping.keep == EVERYTHING else ())
        vectors = tuple(name for name, kind in first.observed.items() if kind.is_numbers)
        return replace(filled, observation=filled.observation or vectors)

    def _which_camera(self, first: Demo, cameras: list[str]) -> str:
        if cameras:
            return (
                f"{self.path} has {len(cameras)} cameras ({', '.join(cameras)}): choose one with `image` in the "
                "mapping, or image_key of a training; several are put side by side"
            )
        there = ", ".join(f"{name} {kind}" for name, kind in first.observed.items())
        return (
            f"{first} has no pictures: obs has {there or 'nothing'}, expected (rows, height, width, 3) uint8; "
            "robomimic's dataset_states_to_obs.py draws them with --camera_names"
        )

    def _alike(self, used: list[Demo], action: str) -> list[str]:
        """Columns that hold equally many numbers per row in every demonstration."""
        found: dict[str, list[tuple[int, ...]]] = {}
        for demo in used:
            for name, kind in demo.columns.items():
                if kind.is_numbers and kind.shape[0] == demo.rows(action):
                    found.setdefault(name, []).append(kind.shape[1:])
        alike = [name for name, widths in found.items() if len(widths) == len(used) and len(set(widths)) == 1]
        if other := [name for name in found if name not in alike]:
            logger.info("demonstrations of %s differ in %s, which is not kept", self.path, ", ".join(other))
        return alike

    def _check(self, demo: Demo, number: int) -> None:
        """Refuses a demonstration that lacks a mapped column, or has not as many rows there as actions."""
        rest = f"repair it, or leave it out with `skip_episodes: [{number}]` in the mapping"
        action = self.mapping.action[0]
        for role, names in {**self.mapping.vectors, "image": (self.mapping.camera,)}.items():
            for name in names:
                kind = demo.columns.get(name)
                if kind is None:
                    raise ValueError(
                        f"{demo} has no {name!r}, or a link to nothing: expected it for the {role}, there are "
                        f"{', '.join(demo.columns) or 'no data sets'}; {rest}"
                    )
                if not (kind.is_pictures if role == "image" else kind.is_numbers):
                    wanted = "(rows, height, width, 3) uint8" if role == "image" else "numbers (rows, n)"
                    raise ValueError(f"{name!r} of {demo} is {kind}, expected {wanted} for the {role}: {rest}")
                if kind.shape[0] != demo.rows(action):
                    raise ValueError(
                        f"{name!r} of {demo} has {kind.shape[0]} rows, but {action!r} {demo.rows(action)}: expected "
                        f"one of each per step; {rest}"
                    )
        said = str(attribute(demo.file, "num_samples", demo.name))
        if said.isdecimal():
            check_total(demo.file.path, f"num_samples of {demo.name}", int(said), demo.rows(action))

    def _time(self, used: list[Demo]) -> None:
        """Finds out whether actions leave their rows or led to them."""
        if self.mapping.action_shift is not None:
            return
        shifts = {file.path.name: action_shift(here) for file in self._files
                  if (here := [demo for demo in used if demo.file is file])}  # fmt: skip
        if len(set(shifts.values())) > 1:
            names = [next(name for name, shift in shifts.items() if shift == wanted) for wanted in (0, 1)]
            raise ValueError(
                f"actions of {self.path} leave their rows in {names[0]}, and led to them in {names[1]}: import the "
                "files separately, or decide with action_shift in the mapping"
            )
        if 1 in shifts.values():
            logger.info("actions of %s stand beside the pictures that they led to: moved up by a row", self.path)
            self.metadata["actions"] = "moved up by a row: they stood beside the pictures that they led to"
            self.mapping = replace(self.mapping, action_shift=1)

    def _said_fps(self, mapping: ColumnMapping) -> float | None:
        said = sorted({fps for file in self._files if (fps := control_frequency(file)) is not None})
        if len(said) > 1:
            raise ValueError(
                f"files of {self.path} have {' and '.join(f'{fps:g}' for fps in said)} frames per second: import them "
                "separately"
            )
        return agreed_fps(self.path, said[0] if said else None, mapping)
