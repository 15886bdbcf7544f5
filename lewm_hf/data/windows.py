"""Training windows: frames `frameskip` simulator steps apart, with all the actions between them.

With f rows from a frame to the next, a window of T frames spans T * f rows of one episode. Its frames are rows s,
s + f, s + 2f, ...; its action block k holds the `frameskip` actions that leave frame k (released code). A row is one
step, unless the episodes keep every n-th step only.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from ..action_blocks import to_blocks
from ..configuration_lewm import LeWMConfig
from ..proprioception_lewm import size_of
from .cache import FrameCache
from .episode_data import EpisodeData, KeptFrames
from .proprioception import proprioception_rows

logger = logging.getLogger(__name__)

Window = dict[str, torch.Tensor]


class WindowDataset(Dataset):
    """All windows of the episodes, in row order: `rows - (span - 1) * episodes` where no episode is too short.

    Only the frames of the windows asked for are decoded. Batches are read at once (`__getitems__`), and everything
    survives pickling and forking, so any `DataLoader` works; frames stay uint8 `(T, H, W, 3)`, to be normalized on the
    training device.

    Args:
        episodes: one split.
        config: gives `history_size`, `frameskip`, `action_dim` and the action statistics.
        num_frames: frames of a window; default `config.window_frames`, or `history_size + 1` where a config has none.
        frameskip: only for callers that carry it along; must equal the config's.
        goal_blocks: adds to each window a later frame of its episode, up to so many action blocks after its first one:
            a goal for an actor. How many is a fixed function of the window's number; an episode's end may cut it short.
        cache: `None` decodes again and again; `"ram"` and `"memmap"` decode every frame once, see `FrameCache`.
        cache_dir: of `"memmap"`.

    Raises:
        ValueError: one line, where no episode is long enough, or config and episodes contradict each other, as where
            `frameskip` is not a multiple of the steps from a row to the next.
        OSError: where the cache does not fit.
    """

    def __init__(
        self,
        episodes: EpisodeData,
        config: LeWMConfig,
        *,
        num_frames: int | None = None,
        frameskip: int | None = None,
        goal_blocks: int | None = None,
        cache: str | None = None,
        cache_dir: str | Path | None = None,
    ):
        if frameskip not in (None, config.frameskip):
            raise ValueError(f"frameskip={frameskip} contradicts the config's {config.frameskip}: change the config")
        if num_frames is None:
            num_frames = getattr(config, "window_frames", config.history_size + 1)
        if num_frames < 1:
            raise ValueError(f"num_frames={num_frames} must be at least 1")
        if episodes.action_dim != config.action_dim:
            raise ValueError(
                f"{episodes.name} has {episodes.action_dim}-dimensional actions, but config.action_dim is "
                f"{config.action_dim}: set action_dim={episodes.action_dim}"
            )
        to_blocks(torch.zeros(config.frameskip, config.action_dim), config)  # refuses missing statistics
        self.episodes, self.config, self.num_frames = episodes, config, num_frames
        self._rows_apart = episodes.rows_apart(config.frameskip)
        self.goal_blocks = goal_blocks
        self._proprioception = None
        if size_of(config):
            self._proprioception = torch.from_numpy(proprioception_rows(episodes, config))
        counts = np.maximum(episodes.lengths - self.span + 1, 0)
        short = int((counts == 0).sum())
        if short == len(counts):
            raise ValueError(
                f"all {short} {episodes.split} episodes of {episodes.name} are shorter than a window of {self.span} "
                f"rows ({num_frames} frames, {self._rows_apart} apart): the longest has {episodes.lengths.max()}; "
                "collect longer episodes, or lower history_size or frameskip"
            )
        if short:
            logger.warning(
                "%d of %d %s episodes are shorter than a window of %d rows: dropped",
                short, len(counts), episodes.split, self.span,
            )  # fmt: skip
        self._ends = np.cumsum(counts)
        self._cache: KeptFrames | None = None if cache is None else FrameCache(self.episodes, cache, cache_dir)

    def keep_frames(self, cache: str | None, cache_dir: str | Path | None = None) -> None:
        """Decodes every frame once, for all who use these episodes, or forgets them again; see the class.

        Raises:
            ValueError: for an unknown cache.
            OSError: where it does not fit.
        """
        self._cache = None if cache is None else FrameCache(self.episodes, cache, cache_dir)
        self.episodes.read_from(self._cache)

    @property
    def span(self) -> int:
        """Rows of a window."""
        return self.num_frames * self._rows_apart

    def __len__(self) -> int:
        return int(self._ends[-1])

    def starts(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """First rows `(n,)` of windows.

        Raises:
            IndexError: for a window that does not exist.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"windows {indices.min()} to {indices.max()} do not all exist: there are {len(self)}")
        episode = np.searchsorted(self._ends, indices, side="right")
        before = np.where(episode > 0, self._ends[episode - 1], 0)
        return self.episodes.offsets[episode] + indices - before

    def batch(self, indices: Sequence[int] | np.ndarray) -> Window:
        """`pixel_values` uint8 `(n, T, H, W, 3)` and `actions` float32 `(n, T, frameskip * action_dim)`, z-scored.

        A missing action (an episode's last row) becomes 0, the mean action. With `goal_blocks` also
        `goal_pixel_values` uint8 `(n, H, W, 3)` and `goal_blocks` int64 `(n,)`, blocks from the first frame to it. Of a
        config with proprioception also `proprioception` float32 `(n, T, N)`, z-scored, and `goal_proprioception`.
        """
        starts = self.starts(indices)
        rows = starts[:, None] + self._rows_apart * np.arange(self.num_frames)
        goals = np.empty(0, dtype=np.int64)
        if self.goal_blocks is not None:
            ahead = self._blocks_ahead(np.asarray(indices, dtype=np.int64), starts)
            goals = starts + self._rows_apart * ahead
        frames = (self._cache or self.episodes).frames(np.concatenate([rows.ravel(), goals]))
        frames, goal_frames = frames[: rows.size], frames[rows.size :]
        actions = self.episodes.actions[starts[:, None] + np.arange(self.span)]
        actions = torch.from_numpy(actions.reshape(len(starts), -1, self.config.action_dim))
        window = {
            "pixel_values": torch.from_numpy(frames.reshape(*rows.shape, *frames.shape[1:])),
            "actions": torch.nan_to_num(to_blocks(actions, self.config), nan=0.0),
        }
        if self.goal_blocks is not None:
            window |= {"goal_pixel_values": torch.from_numpy(goal_frames), "goal_blocks": torch.from_numpy(ahead)}
        if self._proprioception is not None:
            window["proprioception"] = self._proprioception[torch.from_numpy(rows)]
            if self.goal_blocks is not None:
                window["goal_proprioception"] = self._proprioception[torch.from_numpy(goals)]
        return window

    def _blocks_ahead(self, indices: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """`(n,)` from 1 to `goal_blocks`, at most what the episode still holds."""
        # Multiplying by an odd number below 2^32 (Knuth) scatters neighbors, whose pictures are nearly the same.
        wanted = ((indices * 2654435761) % 2**32 * self.goal_blocks >> 32) + 1
        episode = np.searchsorted(self.episodes.offsets, starts, side="right") - 1
        last = self.episodes.offsets[episode] + self.episodes.lengths[episode] - 1
        return np.minimum(wanted, (last - starts) // self._rows_apart)

    def moving(self, columns: Sequence[int], threshold: float) -> np.ndarray:
        """Numbers of the windows between whose first and last frame `observation.state[columns]` changes by more.

        Args:
            columns: entries of `observation.state`.
            threshold: Euclidean distance, in the units of those entries.

        Raises:
            ValueError: where the episodes have no such entries, or nothing moves that far.
        """
        states = self.episodes.observations
        if not all(0 <= column < states.shape[1] for column in columns):
            raise ValueError(
                f"moving_columns={list(columns)} do not all exist: observation.state of {self.episodes.name} has "
                f"{states.shape[1]} entries, counted from 0"
            )
        starts = self.starts(np.arange(len(self)))
        ends = starts + self._rows_apart * (self.num_frames - 1)
        distance = np.linalg.norm(states[ends][:, list(columns)] - states[starts][:, list(columns)], axis=1)
        found = np.flatnonzero(distance > threshold)
        if not len(found):
            raise ValueError(
                f"no window of {self.episodes.name} moves by more than moving_threshold={threshold} in entries "
                f"{list(columns)} of observation.state, at most by {distance.max():.3g}: lower the threshold"
            )
        return found

    def __getitem__(self, index: int) -> Window:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> "WindowBatch":
        return WindowBatch(self.batch(indices))


class WindowBatch(list[Window]):
    """Windows that were read together: a plain list to anyone, and already a batch to `collate_windows`."""

    def __init__(self, batch: Window):
        size = len(next(iter(batch.values())))
        super().__init__({name: values[number] for name, values in batch.items()} for number in range(size))
        self.batch = batch


def collate_windows(windows: Sequence[Window]) -> Window:
    """`collate_fn` of a `DataLoader`. PyTorch's own copies all frames once more."""
    return windows.batch if isinstance(windows, WindowBatch) else default_collate(list(windows))
