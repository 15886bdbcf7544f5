"""Training windows of a frozen backbone's tokens: every frame goes through the backbone once per data set."""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from ..data.episodes import EpisodeData
from ..data.windows import Window, WindowDataset
from ..files import replacing, size_text
from ..progress import progress_bar
from ..world_models.backbones import weights_fingerprint

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 64


class TokenCache:
    """Patch tokens of all frames of a data set in float16, in a file that is mapped into memory.

    The file is keyed by the frames, the backbone's weights and the sizes that it sees them in; later runs use it again.

    Args:
        episodes: one split.
        model: with `patch_tokens` and a frozen encoder, in eval mode; runs on its device.
        processor: of the model.
        directory: of the file; default: beside the Arrow files of `datasets`.

    Raises:
        OSError: where the disk is too small; nothing is written then.
    """

    def __init__(
        self,
        episodes: EpisodeData,
        model: Any,
        processor: Any,
        directory: str | Path | None = None,
        progress: bool = False,
    ):
        config = model.config
        directory = Path(datasets.config.HF_DATASETS_CACHE, "lewm_tokens") if directory is None else Path(directory)
        key = (
            episodes.fingerprint, weights_fingerprint(model.encoder), config.backbone_size, config.image_size,
            processor.image_mean, processor.image_std,
        )  # fmt: skip
        self._path = directory / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npy"
        if not self._path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            self._write(episodes, model, processor, progress)
        self._tokens = np.load(self._path, mmap_mode="r")

    def _write(self, episodes: EpisodeData, model: Any, processor: Any, progress: bool) -> None:
        device = next(model.parameters()).device

        def tokens(rows: np.ndarray) -> np.ndarray:
            frames = processor.normalize(torch.from_numpy(episodes.frames(rows)).to(device))
            return model.patch_tokens(frames[:, None])[:, 0].half().cpu().numpy()

        shape = (episodes.num_rows, *tokens(np.arange(1)).shape[1:])
        size, free = 2 * int(np.prod(shape)), shutil.disk_usage(self._path.parent).free
        if size > free:
            raise OSError(
                f"the backbone's tokens take {size_text(size)}, but only {size_text(free)} of space in "
                f"{self._path.parent} are left: HF_DATASETS_CACHE names another folder"
            )
        logger.info("running %d frames through the frozen backbone once: %s", episodes.num_rows, size_text(size))
        with replacing(self._path) as temporary:
            stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
            for first in progress_bar(range(0, shape[0], ROWS_AT_ONCE), desc="backbone", show=progress):
                rows = np.arange(first, min(first + ROWS_AT_ONCE, shape[0]))
                stored[rows] = tokens(rows)
            stored.flush()

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """`(n, P, width)` float16, a copy."""
        return self._tokens[rows]

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tokens = np.load(self._path, mmap_mode="r")


class TokenWindows(WindowDataset):
    """`WindowDataset` with `patch_tokens` `(n, T, P, width)` float16 in place of `pixel_values`.

    Args:
        episodes, config, kwargs: see `WindowDataset`.
        tokens: of these episodes.
    """

    def __init__(self, episodes: EpisodeData, config: Any, tokens: TokenCache, **kwargs: Any):
        super().__init__(episodes, config, **kwargs)
        self._cache = tokens

    def batch(self, indices: Sequence[int] | np.ndarray) -> Window:
        """Like `WindowDataset.batch`; a goal's tokens are called `goal_patch_tokens`."""
        return {name.replace("pixel_values", "patch_tokens"): value for name, value in super().batch(indices).items()}
