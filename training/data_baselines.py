"""Other readers of the same windows, for `bench_data.py`: each reads the window that starts at a row."""

import contextlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import h5py
import hdf5plugin
import numpy as np
import torch

from lewm_hf.data.cache import FrameCache
from lewm_hf.data.episodes import EpisodeData
from lewm_hf.data.schema import ACTION, IMAGE

# First row -> frames `(T, H, W, 3)` uint8 and actions `(T, frameskip * action_dim)`, not normalized.
Reader = Callable[[int], tuple[torch.Tensor, torch.Tensor]]
# Chunk and filter of the released files.
CHUNK_FRAMES = 100
BLOSC = hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)


def tensors(frames: np.ndarray, actions: np.ndarray, window_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    actions = torch.from_numpy(np.array(actions)).reshape(window_frames, -1)
    return torch.from_numpy(np.ascontiguousarray(frames)), actions


def as_documented(table: datasets.Dataset, span: int, skip: int) -> Reader:
    """The way the documentation of `datasets` shows it: all rows of the span, pictures and lists out."""

    def read(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = table[start : start + span]
        frames = np.stack([np.asarray(image) for image in rows[IMAGE][::skip]])
        return tensors(frames, np.array(rows[ACTION], dtype=np.float32), span // skip)

    return read


def only_what_is_used(table: datasets.Dataset, span: int, skip: int) -> Reader:
    """`datasets` as well, but no picture is decoded that is not used, and actions come as an array."""
    pictures = table.select_columns([IMAGE])
    actions = table.select_columns([ACTION]).with_format("numpy")

    def read(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = pictures[list(range(start, start + span, skip))]
        frames = np.stack([np.asarray(image) for image in rows[IMAGE]])
        return tensors(frames, actions[start : start + span][ACTION], span // skip)

    return read


def write_hdf5(path: Path, episodes: EpisodeData) -> None:
    """The episodes in the layout of the released files."""
    size = episodes.image_size
    with h5py.File(path, "w") as file:
        shape = (episodes.num_rows, size, size, 3)
        chunks = (min(CHUNK_FRAMES, episodes.num_rows), *shape[1:])
        pixels = file.create_dataset("pixels", shape, "u1", chunks=chunks, **BLOSC)
        for start in range(0, episodes.num_rows, CHUNK_FRAMES):
            rows = np.arange(start, min(start + CHUNK_FRAMES, episodes.num_rows))
            pixels[rows[0] : rows[-1] + 1] = episodes.frames(rows)
        file.create_dataset("action", data=episodes.actions)


@contextlib.contextmanager
def hdf5(path: Path, span: int, skip: int):
    """Every `skip`-th frame of the span, out of chunks that are decompressed whole.

    The chunk cache holds the two chunks that a window may touch: more would find again, in a file of this size, what a
    data set of thousands of episodes has long evicted.
    """
    with h5py.File(path, "r") as file:
        chunk = int(np.prod(file["pixels"].chunks))
    with h5py.File(path, "r", rdcc_nbytes=2 * chunk) as file:
        pixels, actions = file["pixels"], file["action"]

        def read(start: int) -> tuple[torch.Tensor, torch.Tensor]:
            return tensors(pixels[start : start + span : skip], actions[start : start + span], span // skip)

        yield read


def forget_pages(cache: FrameCache) -> None:
    """Takes a mapped file out of memory, so that it is read from the disk again."""
    frames: Any = cache._frames  # whose map into memory has no public name
    frames._mmap.madvise(mmap.MADV_DONTNEED)
    with open(cache._path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
