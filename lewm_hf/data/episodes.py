"""Episodes as arrays: vectors in memory, frames decoded when asked for.

Frames are read from the Arrow buffers that `datasets` memory-maps. Its formatted access (`with_format("torch")`,
`Array3D`) is ten to a hundred times slower and turns uint8 into int64.
"""

import glob
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from .. import __version__
from .pace import rows_apart
from .schema import ACTION, IMAGE, SIM_GOAL, SIM_STATE, STATE, SUCCESS
from .stated import check_statistics
from .statistics import action_statistics
from .storage.arrow_copies import load_files, load_folder
from .storage.dataset_card import DESCRIPTION_FILE, check_complete, read_description
from .storage.encoding import decode
from .storage.parquet import matrix, read_metadata, vectors

logger = logging.getLogger(__name__)

# Arguments of `load_episodes` that say how a recording is read.
COLUMN_KEYS = ("image_key", "action_key", "episode_key", "fps", "fit")
# Share of the episodes of a data set without a test split.
HELD_OUT = 0.1
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
Decoder = Callable[[memoryview], np.ndarray]


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
        return self.description.get("env")

    @property
    def env_kwargs(self) -> dict[str, Any]:
        return dict(self.description.get("env_kwargs", {}))

    @property
    def fps(self) -> float | None:
        return self.description.get("fps")

    @property
    def every(self) -> int:
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
        return self.actions.shape[1] // self.every

    @property
    def num_rows(self) -> int:
        return len(self.actions)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    @property
    def column_names(self) -> list[str]:
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
        """Like `frames`, into `out` `(n, H, W, 3)` uint8."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.num_rows:
            raise IndexError(f"rows {rows.min()} to {rows.max()} do not all exist: {self.name} has {self.num_rows}")
        if self.kept is not None:
            out[:] = self.kept.frames(rows)
            return
        shape = out.shape[1:]
        chunks = np.searchsorted(self._chunk_ends, rows, side="right")
        for number, (row, chunk) in enumerate(zip(rows.tolist(), chunks.tolist(), strict=True)):
            image = self._decode(self._encoded(row, chunk))
            if image.shape != shape:
                height, width = image.shape[:2]
                raise ValueError(
                    f"the frame in row {row} of {self.name} is {height}x{width}, the first one {shape[0]}x{shape[1]}: "
                    "collect or import again at one size"
                )
            out[number] = image

    def _encoded(self, row: int, chunk: int) -> memoryview:
        data, ends, first = self._chunks[chunk]
        at = row - first
        return data[ends[at] : ends[at + 1]]

    def _check_columns(self) -> None:
        names = self._dataset.column_names
        if not len(self._dataset):
            raise ValueError(f"{self.name} has no rows in split {self.split!r}: collect episodes first")
        for name in ("episode_index", ACTION, self._image_key):
            if name not in names:
                raise ValueError(f"{self.name} has no column {name!r}: its columns are {', '.join(names)}")
        if not isinstance(self._dataset.features[self._image_key], datasets.Image):
            raise ValueError(
                f"column {self._image_key!r} of {self.name} is no Image() column but "
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
        self._check_contiguous()
        try:
            self.actions = np.ascontiguousarray(vectors(table.column(ACTION)), dtype=np.float32)
        except ValueError as error:
            raise ValueError(f"the actions of {self.name} differ in size: {error}; split the data set") from None
        self._check_pace()
        self._check_actions()
        self._open_frames()

    def _check_contiguous(self) -> None:
        ids, counts = np.unique(self.episode_ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"episode {ids[counts > 1][0]} of {self.name} is not contiguous: sort the rows by episode_index and "
                "frame_index"
            )
        if "frame_index" not in self._dataset.column_names:
            return
        frame = self._dataset.data.column("frame_index").to_numpy()
        expected = np.arange(len(frame)) - np.repeat(self.offsets, self.lengths)
        wrong = np.flatnonzero(frame != expected)
        if len(wrong):
            row = wrong[0]
            episode = self.episode_ids[np.searchsorted(self.offsets, row, side="right") - 1]
            raise ValueError(
                f"episode {episode} of {self.name} has frame_index={frame[row]} where {expected[row]} was expected: "
                "rows are missing or out of order; sort them by episode_index and frame_index"
            )

    def _check_pace(self) -> None:
        every, width = self.every, self.actions.shape[1]
        if type(every) is not int or every < 1:
            raise ValueError(f"{DESCRIPTION_FILE} of {self.name} says every={every!r}: restore it, or collect again")
        stated = self.description.get("action_dim", width // every)
        if width != every * stated:
            raise ValueError(
                f"the rows of {self.name} have actions of {width} numbers, but {DESCRIPTION_FILE} says every={every} "
                f"and action_dim={stated}: restore the file, or collect again"
            )

    def _check_actions(self) -> None:
        missing = ~np.isfinite(self.actions).all(1)
        last = self.offsets + self.lengths - 1
        missing[last] = np.isinf(self.actions[last]).any(1)
        if missing.any():
            row = np.flatnonzero(missing)[0]
            episode = np.searchsorted(self.offsets, row, side="right") - 1
            raise ValueError(
                f"episode {self.episode_ids[episode]}, frame {row - self.offsets[episode]} of {self.name} has "
                f"action={self.actions[row].tolist()}; only an episode's last action may be missing, and none "
                "infinite: drop or split the episode"
            )

    def _open_frames(self) -> None:
        self._chunks, ends = [], []
        first = 0
        for chunk in self._dataset.data.column(self._image_key).chunks:
            data = chunk.field("bytes")
            if data.null_count:
                raise ValueError(f"{self.name} stores paths instead of frames: import it, which embeds them")
            wide = pa.types.is_large_binary(data.type)
            _, offsets, buffer = data.buffers()
            bounds = np.frombuffer(offsets, dtype=np.int64 if wide else np.int32)
            bounds = bounds[data.offset : data.offset + len(data) + 1]
            self._chunks.append((memoryview(buffer), bounds, first))
            first += len(data)
            ends.append(first)
        self._chunk_ends = np.array(ends)

    def _check_frame_size(self) -> None:
        height, width = self._decode(self._encoded(0, 0)).shape[:2]
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
            self._kept[column] = vectors(self._dataset.data.column(column)).astype(np.float64)
        return self._kept[column]

    def __getstate__(self) -> dict[str, Any]:
        kept = (
            "split", "description", "name", "revision", "_digest", "_dataset", "_image_key", "_decode", "image_size",
        )  # fmt: skip
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read()


def load_episodes(
    source: str | Path,
    split: str = "train",
    revision: str | None = None,
    *,
    image_key: str | Sequence[str] | None = None,
    action_key: str | Sequence[str] | None = None,
    episode_key: str | None = None,
    fps: float | None = None,
    fit: str | None = None,
    image_size: int | None = None,
    if_needed: bool = False,
    decode: Decoder = decode,
    cache_dir: str | Path | None = None,
) -> EpisodeData:
    """Opens a data set of this package, or a recording in another layout: a directory, a file, or a Hub id.

    Recordings are LeRobot data sets, folders of videos with their numbers in CSV files, HDF5 files, and whatever table
    `datasets` loads. One whose columns are not called and ordered as here is imported first, once; see `import_once`.

    Args:
        source: directory, Parquet or HDF5 file, or Hub id.
        split: `"train"`, `"test"` or whatever the data set has. One that has `"train"` alone is divided: its last
            tenth of episodes is `"test"`, and `"train"` is the rest.
        revision: branch, tag or commit of a Hub data set.
        image_key: of a recording: the image column, or several, whose pictures are put side by side; a LeRobot data
            set with one camera needs none, and `top` is short for `observation.images.top`.
        action_key: of a recording: another column than `action`, or several, which are joined.
        episode_key: of a table, or of videos with one CSV file: the column that tells episodes apart.
        fps: of a recording that does not tell it: frames per second.
        fit: of a recording: `"crop"`, `"pad"` or `"stretch"` makes frames square.
        image_size: of a recording with `fit`: larger frames are kept at this side.
        if_needed: pass over these arguments where the data set is one of this package, instead of refusing them.
        decode: turns the bytes of one frame into `(H, W, 3)` uint8.
        cache_dir: where `datasets` keeps its Arrow copy; default: its own cache.

    Raises:
        FileNotFoundError: one line where `source` or the split does not exist.
        ValueError: one line for missing, damaged or contradictory files; see `EpisodeData`.
    """
    directory = _local(source, split, revision)
    # The Hub's cache names the folder of a snapshot after its commit, whatever branch or tag was asked for.
    commit = None if Path(source).exists() else directory.name
    given = zip(COLUMN_KEYS, (image_key, action_key, episode_key, fps, fit), strict=True)
    named = [name for name, value in given if value is not None]
    description = read_description(directory) if directory.is_dir() else None
    if description is None:
        from .importers.mapping import ColumnMapping
        from .recordings import import_once, recording_format  # which needs what reads those formats

        format = recording_format(directory) or (None if _is_ready(directory) and not named else "table")
        if format is not None:
            images = _names(image_key)
            mapping = ColumnMapping(
                image=images[0] if len(images) == 1 else images or None, action=_names(action_key),
                episode=episode_key, fps=fps, fit=fit,
            )  # fmt: skip
            directory = import_once(format, directory, mapping, cache_dir, image_size=image_size)
            description = read_description(directory)
    elif named and not if_needed:
        raise ValueError(
            f"{source} is a data set of this package, whose columns are known: leave {', '.join(named)} away, which "
            "are for recordings"
        )
    found = sorted({path.name.partition("-")[0] for path in (directory / "data").glob("*.parquet")})
    part = found == ["train"] and "test" not in _described(description) and split in ("train", "test")
    stored = "train" if part else split
    files = sorted((directory / "data").glob(f"{glob.escape(stored)}-*.parquet"))
    if description is not None and not files:
        raise FileNotFoundError(
            f"{source} has no split {split!r}: " + (f"it has {', '.join(found)}" if found else "collect episodes first")
        )
    if files:
        check_complete(directory, description, [stored])
    _check_files(files or sorted(directory.rglob("*.parquet")))
    try:
        if files:
            dataset, digest = load_files(files, stored, cache_dir)
        else:
            dataset, digest, part = load_folder(directory, split, cache_dir)
    except DatasetGenerationError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(f"{source} cannot be read ({cause}): collect or download it again") from None
    if part:
        dataset = _part(dataset, split, str(source))
    episodes = EpisodeData(dataset, split, description, IMAGE, decode, str(source), commit, digest)
    if description is not None:
        check_statistics(directory, description, episodes)
    return episodes


def _names(key: str | Sequence[str] | None) -> tuple[str, ...]:
    """`"top,wrist"` or a list -> names."""
    names = key.split(",") if isinstance(key, str) else key or ()
    return tuple(name.strip() for name in names)


def _is_ready(directory: Path) -> bool:
    """Whether the Parquet files of a folder have this package's columns, so that nothing need be imported."""
    files = sorted(directory.rglob("*.parquet"))
    if not files:
        return False
    names = read_metadata(files[0]).schema.to_arrow_schema().names
    return {"episode_index", ACTION, IMAGE} <= set(names)


def _is_numeric(feature: Any) -> bool:
    value = getattr(feature, "feature", feature)
    return isinstance(value, datasets.Value) and value.dtype.startswith(("int", "uint", "float", "bool"))


def _described(description: dict[str, Any] | None) -> list[str]:
    """Splits that have episodes by their description."""
    return [split for split, value in (description or {}).get("splits", {}).items() if value["episodes"]]


def _part(dataset: datasets.Dataset, split: str, name: str) -> datasets.Dataset:
    """The training or the test episodes of a data set that is not split: the last ones are held out."""
    if "episode_index" not in dataset.column_names:
        return dataset  # refused later, with the columns that there are
    index = dataset.data.column("episode_index").to_numpy()
    starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
    if len(starts) < 2 and split == "train":
        return dataset
    if len(starts) < 2:
        raise ValueError(
            f"{name} has no test split, and too few episodes to hold some out: {len(starts)}; collect more"
        )
    held_out = max(round(HELD_OUT * len(starts)), 1)
    logger.info("%s has no test split: the last %d of %d episodes are held out", name, held_out, len(starts))
    border = int(starts[-held_out])
    return dataset.select(range(border) if split == "train" else range(border, len(dataset)))


def _local(source: str | Path, split: str, revision: str | None) -> Path:
    """The directory of the data set, downloaded where it is a Hub id."""
    path = Path(source)
    if path.exists():
        return path
    if not HUB_ID.fullmatch(str(source)) or path.exists():
        raise FileNotFoundError(f"there is no data set {source}: give a directory or a Hub id like org/name, or a file")
    download = {"repo_id": str(source), "repo_type": "dataset", "revision": revision}
    try:
        try:
            file = Path(hf_hub_download(filename=DESCRIPTION_FILE, **download))
            described = _described(read_description(file.parent))
            stored = "train" if split == "test" and described == ["train"] else split
            wanted = [DESCRIPTION_FILE, "README.md", f"data/{stored}-*"]
        except EntryNotFoundError:
            wanted = None  # not of this package: its layout is for `datasets` to find out
        return Path(snapshot_download(allow_patterns=wanted, **download))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"there is no directory {source}, and the Hub data set cannot be fetched ({reason}): check the name, the "
            "revision and the network"
        ) from None


def _check_files(paths: list[Path]) -> None:
    """Refuses damaged files and files that do not fit together, before `datasets` copies the first."""
    first = None
    for path in paths:
        fields = {field.name: field.type for field in read_metadata(path).schema.to_arrow_schema()}
        if first is None:
            first = path, fields
        for name in first[1].keys() | fields.keys():
            here, there = fields.get(name), first[1].get(name)
            if here != there:
                raise ValueError(
                    f"column {name!r} is {here} in {path.name}, but {there} in {first[0].name}: the files belong to "
                    "different data sets; separate them"
                )
