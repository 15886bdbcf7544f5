"""Episodes as arrays: vectors in memory, frames decoded when asked for."""

from collections.abc import Sequence
from typing import Any, Protocol

import datasets
import numpy as np
from datasets.fingerprint import Hasher

from .. import __version__
from .frame_column import Decoder, FrameColumn
from .pace import rows_apart
from .row_checks import check_actions, check_contiguous, check_order, check_pace
from .schema import ACTION, IMAGE, SIM_GOAL, SIM_STATE, STATE, SUCCESS
from .statistics import action_statistics
from .storage.dataset_card import DESCRIPTION_FILE
from .storage.encoding import decode
from .storage.parquet import matrix


class KeptFrames(Protocol):
    """Decoded frames of a whole split, such as `cache.FrameCache`."""

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """`(n, H, W, 3)` uint8."""


class EpisodeData:
    """One split of a data set.

    Pickling costs a few kilobytes: the copy memory-maps the same files again.

    Args:
        dataset: rows in episode order, with at least `episode_index`, `action` and an image column.
        split: its name.
        description: the content of `episodes.json`, where there is one.
        image_key: the image column.
        decode: turns the bytes of one frame into `(H, W, 3)` uint8.
        name: what error messages call the data set.
        revision: commit of a data set of the Hub; `None` for a folder.
        digest: of the content of the files; default: what `datasets` tells rows apart by.

    Attributes:
        lengths: `(episodes,)` rows of each episode.
        offsets: `(episodes,)` first row of each.
        episode_ids: `(episodes,)` `episode_index` of each.
        every: simulator steps from a row to the next; 1 unless the data set keeps every n-th step only.
        action_dim: size of one raw action.
        actions: `(rows, every * action_dim)` float32; row t's action, or block of actions, leaves row t. NaN where none
            does.
        split, env_id, env_kwargs, image_size, description: as collected; `env_id` is `None` where unknown.
        fps: rows per second; `None` where unknown.
        revision: as given.
        kept: where frames were decoded before, see `read_from`; `None`: nowhere.

    Raises:
        ValueError: one line, for no rows, missing columns, episodes that are not contiguous, actions of different
            sizes, NaN in an action before an episode's last row, or frames that are not square.
    """

    kept: KeptFrames | None = None

    def __init__(
        self,
        dataset: datasets.Dataset,
        split: str = "train",
        description: dict[str, Any] | None = None,
        image_key: str = IMAGE,
        decode: Decoder = decode,
        name: str = "the data set",
        revision: str | None = None,
        digest: str | None = None,
    ):
        self.split, self.description, self.name, self.revision = split, description or {}, name, revision
        self._digest = dataset._fingerprint if digest is None else digest
        self._dataset, self._image_key, self._decode = dataset, image_key, decode
        self._check_columns()
        self._read()
        self._check_frame_size()

    @property
    def env_id(self) -> str | None:
        """Gymnasium id of the environment; `None` where it is unknown."""
        return self.description.get("env")

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """How that environment was made."""
        return dict(self.description.get("env_kwargs", {}))

    @property
    def fps(self) -> float | None:
        """Rows per second; `None` where unknown."""
        return self.description.get("fps")

    @property
    def every(self) -> int:
        """Simulator steps from a row to the next."""
        return self.description.get("every", 1)

    @property
    def cameras(self) -> list[str] | None:
        """Cameras whose pictures an import put side by side; `None` for a single one."""
        return self.description.get("cameras")

    @property
    def fit(self) -> str | None:
        """How an import made its frames square, see `LeWMImageProcessor`; `None` where they were."""
        return self.description.get("fit")

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Lowest and highest raw action that the environment takes, `(action_dim,)` each; `None` where unknown."""
        bounds = self.description.get("action_bounds")
        return None if bounds is None else (np.array(bounds[0]), np.array(bounds[1]))

    @property
    def action_choices(self) -> list[int] | None:
        """How many values each choice has, where an action is one-hot vectors side by side; `None` where it is not."""
        return self.description.get("action_choices")

    @property
    def action_dim(self) -> int:
        """Size of one raw action."""
        return self.actions.shape[1] // self.every

    @property
    def num_rows(self) -> int:
        """Rows of all episodes together."""
        return len(self.actions)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    @property
    def column_names(self) -> list[str]:
        """All columns of the data set, those that this class does not read too."""
        return self._dataset.column_names

    @property
    def states(self) -> np.ndarray:
        """`(rows, state)` float64: what `set_state` takes to restore a row.

        Raises:
            ValueError: where the data set has none.
        """
        return self._vectors(SIM_STATE)

    @property
    def observations(self) -> np.ndarray:
        """`(rows, observation)` float64: what the environment or robot reports of its state.

        Raises:
            ValueError: where the data set has none.
        """
        return self._vectors(STATE)

    def numbers(self, name: str) -> np.ndarray:
        """`(rows, n)` float64: any column of numbers.

        Raises:
            ValueError: one line where there is none of that name, or it holds something else.
        """
        numeric = [column for column in self.column_names if _is_numeric(self._dataset.features[column])]
        if name not in numeric:
            raise ValueError(f"{self.name} has no column of numbers {name!r}: there are {', '.join(numeric)}")
        return matrix(self._dataset.data.column(name)).astype(np.float64)

    @property
    def goals(self) -> np.ndarray:
        """`(rows, state)` float64: the goal that the collector pursued."""
        return self._vectors(SIM_GOAL)

    @property
    def success(self) -> np.ndarray | None:
        """`(rows,)` bool: the goal that the collector pursued is reached in this row; `None` where nobody recorded it.

        Of an episode's first row that is not known: `False`.
        """
        if SUCCESS not in self._dataset.column_names:
            return None
        later = self._dataset.data.column(SUCCESS).to_numpy().astype(bool)
        here = np.r_[False, later[:-1]]
        here[self.offsets] = False
        return here

    @property
    def fingerprint(self) -> str:
        """Changes with all that decides about the frames: files, split, column and decoder; names a cache of them."""
        return Hasher.hash((self._digest, self.split, self._image_key, self._decode, __version__))

    def read_from(self, kept: KeptFrames | None) -> None:
        """Takes frames from where they were decoded before, for all who use these episodes; `None` decodes again.

        A copy that is sent to another process decodes.
        """
        self.kept = kept

    def rows_apart(self, steps: int) -> int:
        """Rows between two frames that are so many simulator steps apart.

        Raises:
            ValueError: one line where no two rows are.
        """
        return rows_apart(steps, self.every, self.name)

    def action_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and population std per action dimension: of the whole data set as collected, else of this split."""
        if "action_mean" in self.description:
            return list(self.description["action_mean"]), list(self.description["action_std"])
        return action_statistics(self.actions.reshape(-1, self.action_dim))

    def frames(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decodes these rows and no others: `(n, H, W, 3)` uint8.

        Raises:
            ValueError: one line for a damaged frame, or one of another size than the first of the data set.
            IndexError: for a row that does not exist.
        """
        rows = np.asarray(rows, dtype=np.int64)
        images = np.empty((len(rows), self.image_size, self.image_size, 3), dtype=np.uint8)
        self.read_frames(rows, images)
        return images

    def read_frames(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Like `frames`, into `out` `(n, H, W, 3)` uint8.

        Raises:
            ValueError, IndexError: as there.
        """
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.num_rows:
            raise IndexError(f"rows {rows.min()} to {rows.max()} do not all exist: {self.name} has {self.num_rows}")
        if self.kept is not None:
            out[:] = self.kept.frames(rows)
            return
        self._frames.read(rows, out)

    def _check_columns(self) -> None:
        names = self._dataset.column_names
        if not len(self._dataset):
            raise ValueError(f"{self.name} has no rows in split {self.split!r}: collect episodes first")
        for name in ("episode_index", ACTION, self._image_key):
            if name not in names:
                raise ValueError(f"{self.name} has no column {name!r}: its columns are {', '.join(names)}")
        if not isinstance(self._dataset.features[self._image_key], datasets.Image):
            raise ValueError(
                f"column {self._image_key!r} of {self.name} is not an Image() column but "
                f"{self._dataset.features[self._image_key]}: name another with image_key, or import the episodes"
            )
        if self._dataset._indices is not None:
            # The Arrow table ignores a selection of rows.
            self._dataset = self._dataset.flatten_indices()

    def _read(self) -> None:
        table = self._dataset.data
        self._kept: dict[str, np.ndarray] = {}
        index = table.column("episode_index").to_numpy()
        starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
        self.episode_ids, self.offsets = index[starts].astype(np.int64), starts
        self.lengths = np.diff(np.r_[starts, len(index)])
        check_contiguous(self.episode_ids, self.name)
        episodes = (self.offsets, self.lengths, self.episode_ids, self.name)
        if "frame_index" in self.column_names:
            check_order(table.column("frame_index").to_numpy(), *episodes)
        try:
            self.actions = np.ascontiguousarray(matrix(table.column(ACTION)), dtype=np.float32)
        except ValueError as error:
            raise ValueError(f"the actions of {self.name} differ in size: {error}; split the data set") from error
        check_pace(self.actions.shape[1], self.description, self.name)
        check_actions(self.actions, *episodes)
        self._frames = FrameColumn(table.column(self._image_key), self._decode, self.name)

    def _check_frame_size(self) -> None:
        height, width = self._frames.first_size()
        if height != width:
            raise ValueError(
                f"the frames of {self.name} are {height}x{width}: import them cropped or padded to squares, or give "
                "fit (crop, pad or stretch)"
            )
        stated = self.description.get("image_size", height)
        if stated != height:
            raise ValueError(
                f"the frames of {self.name} are {height}x{width}, but {DESCRIPTION_FILE} says {stated}: the files were "
                "mixed up; collect again"
            )
        self.image_size = height

    def _vectors(self, column: str) -> np.ndarray:
        if column not in self._dataset.column_names:
            raise ValueError(
                f"{self.name} has no column {column!r}, so the simulator cannot be restored: collect or import such "
                "episodes"
            )
        if column not in self._kept:
            self._kept[column] = matrix(self._dataset.data.column(column)).astype(np.float64)
        return self._kept[column]

    def __getstate__(self) -> dict[str, Any]:
        kept = (
            "split", "description", "name", "revision", "_digest", "_dataset", "_image_key", "_decode", "image_size",
        )  # fmt: skip
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read()


def _is_numeric(feature: Any) -> bool:
    value = getattr(feature, "feature", feature)
    return isinstance(value, datasets.Value) and value.dtype.startswith(("int", "uint", "float", "bool"))
