"""Decoded frames, kept: in memory, or in a file that is mapped into memory."""

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..engines.workers import usable_cores
from ..files import only_one, remove_leftovers, replacing, reserve, size_text
from .episode_data import EpisodeData

logger = logging.getLogger(__name__)

CACHES = ("ram", "memmap")
ROWS_AT_ONCE = 256


class FrameCache:
    """All frames of the episodes, decoded once.

    `"ram"` shares its memory with forked loader processes; it cannot be sent to spawned ones. `"memmap"` writes a
    `.npy` file that later runs and all processes use, through the page cache.

    Args:
        episodes: one split.
        kind: `"ram"` or `"memmap"`.
        directory: of the file; default: beside the Arrow files of `datasets`.

    Raises:
        ValueError: for another kind.
        OSError: where memory or disk are too small; nothing is written then.
    """

    def __init__(self, episodes: EpisodeData, kind: str, directory: str | Path | None = None):
        if kind not in CACHES:
            raise ValueError(f"cache={kind!r} is unknown: use None, {' or '.join(map(repr, CACHES))}")
        self.kind = kind
        shape = (episodes.num_rows, episodes.image_size, episodes.image_size, 3)
        size = int(np.prod(shape))
        if kind == "ram":
            _check_room(size, available_memory(), "memory", "use cache='memmap' (frame_cache in a recipe)")
            logger.info("keeping %d decoded frames in memory: %s", episodes.num_rows, size_text(size))
            self._frames = np.empty(shape, dtype=np.uint8)
            _fill(self._frames, episodes, lambda start, count: None)
            return
        path = _file(episodes, directory)
        if not path.exists():
            # Ranks and runs that start together wait for the first.
            with only_one(path.with_name(f".{path.name}.lock"), wait=True):
                if not path.exists():
                    self._write(path, episodes, shape, size)
        self._path = path
        self._frames = np.load(path, mmap_mode="r")

    @staticmethod
    def _write(path: Path, episodes: EpisodeData, shape: tuple[int, ...], size: int) -> None:
        free = shutil.disk_usage(path.parent).free
        remedy = "use another cache_dir (HF_DATASETS_CACHE names it) or cache=None (frame_cache: none in a recipe)"
        _check_room(size, free, f"space in {path.parent}", remedy)
        logger.info("writing %d decoded frames to %s: %s", episodes.num_rows, path, size_text(size))
        remove_leftovers(path)
        with replacing(path) as temporary:
            frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            header = temporary.stat().st_size - size
            _fill(frames, episodes, lambda start, count: reserve(temporary, header + start, count))
            frames.flush()

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """`(n, H, W, 3)` uint8, a copy."""
        return self._frames[rows]

    def __getstate__(self) -> dict[str, Any]:
        if self.kind == "ram":
            raise ValueError(
                f"a cache of {size_text(self._frames.nbytes)} in memory cannot be sent to spawned processes: use "
                "cache='memmap' (frame_cache in a recipe), num_workers=0 or multiprocessing_context='fork'"
            )
        return {"kind": self.kind, "_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._frames = np.load(self._path, mmap_mode="r")


def _file(episodes: EpisodeData, directory: str | Path | None = None) -> Path:
    directory = Path(datasets.config.HF_DATASETS_CACHE, "lewm_frames") if directory is None else Path(directory)
    return directory / f"{episodes.fingerprint}.npy"


def read_kept_frames(episodes: EpisodeData, directory: str | Path | None = None) -> bool:
    """Lets episodes read the frames that an earlier run with `cache="memmap"` left on this disk; `False` without any.

    Decodes and writes nothing.
    """
    found = _file(episodes, directory).is_file()
    if found:
        episodes.read_from(FrameCache(episodes, "memmap", directory))
    return found


def available_memory() -> int | None:
    """Bytes that this process may still take, within its control group; `None` where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text(encoding="ascii")))
    except OSError:
        pass
    return free


def _check_room(size: int, room: int | None, what: str, remedy: str) -> None:
    if room is not None and size > room:
        raise OSError(f"decoded frames take {size_text(size)}, but only {size_text(room)} of {what} are left: {remedy}")


def _fill(frames: np.ndarray, episodes: EpisodeData, reserve: Callable[[int, int], None]) -> None:
    """Decodes all frames; `reserve(start, count)` is called before so many bytes are written there."""
    row_bytes = frames[:1].nbytes

    def decode(start: int) -> None:
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(frames)))
        reserve(start * row_bytes, len(rows) * row_bytes)
        episodes.read_frames(rows, frames[rows[0] : rows[-1] + 1])

    with ThreadPoolExecutor(usable_cores()) as pool:
        # Consumed, so that an error of a thread is raised here.
        list(pool.map(decode, range(0, len(frames), ROWS_AT_ONCE)))
