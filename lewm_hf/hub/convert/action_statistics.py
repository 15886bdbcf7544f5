"""Action statistics of the data set that a published checkpoint was trained on: its files do not hold them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from ...data.importers.formats import open_source
from ...data.importers.mapping import ColumnMapping
from ...data.recordings import recording_format
from ...data.source_folder import HUB_ID
from ...data.statistics import action_statistics
from ...data.storage.dataset_card import DESCRIPTION_FILE

HDF5_SUFFIXES = (".h5", ".hdf5")
_COLUMN = "action"


@dataclass(frozen=True)
class ActionStatistics:
    """Statistics of raw actions, and where they come from.

    Args:
        mean, std: per raw action dimension; float64, population.
        rows: rows of the data set.
        counted: rows without NaN, the ones that count; an episode's last row has no action.
        dataset: name of the directory or file, or Hub id.
        revision: commit of a Hub data set.
    """

    mean: list[float]
    std: list[float]
    rows: int
    counted: int
    dataset: str
    revision: str | None = None

    @property
    def source(self) -> str:
        """What the config records."""
        at = f" at {self.revision}" if self.revision else ""
        return f"{self.dataset}{at}: {self.counted} of {self.rows} rows"


def measure_actions(
    dataset: str | Path, revision: str | None = None, token: str | bool | None = None
) -> ActionStatistics:
    """Measures the actions of a whole data set, all splits.

    Args:
        dataset: directory or Hub id of episodes in this package's layout (`data/*.parquet`), a released HDF5 file
            (needs the extra `hdf5`), or a folder of recordings that can be imported with its usual names, such as a
            Lance table.
        revision: branch, tag or commit of a Hub data set.
        token: for a private one.

    Raises:
        FileNotFoundError, ValueError: one line, where there is no data set, it is damaged or has no actions.
        ImportError: where the library of its format is missing.
    """
    path, commit = Path(dataset), None
    if not path.exists() and HUB_ID.fullmatch(str(dataset)):
        path = _fetched(str(dataset), revision, token)
        commit = path.name  # the Hub's cache names a snapshot after its commit, whatever was asked for
    elif revision is not None:
        raise ValueError(f"revision={revision} is of a data set on the Hub, which {dataset} is not: omit it")
    if path.is_dir():
        actions = _read_directory(path)
    elif not path.exists():
        raise FileNotFoundError(
            f"there is no data set {dataset}: give a directory or Hub id of episodes, or an HDF5 file"
        )
    elif path.suffix in HDF5_SUFFIXES:
        actions = _read_hdf5(path)
    else:
        raise ValueError(
            f"{dataset} is neither a directory nor an HDF5 file ({', '.join(HDF5_SUFFIXES)}): unpack the published "
            "archive first (zstd -d, tar --zstd -x)"
        )
    if actions.ndim != 2 or not actions.shape[1]:
        raise ValueError(f"column {_COLUMN!r} of {dataset} has shape {actions.shape}: expected (rows, action)")
    missing = np.isnan(actions).any(1)
    if np.isinf(actions).any():
        raise ValueError(f"column {_COLUMN!r} of {dataset} holds infinite values: repair the data set")
    if missing.all():
        raise ValueError(f"{dataset} holds no action to measure ({len(actions)} rows): give the complete data set")
    mean, std = action_statistics(actions)
    name = str(dataset) if commit else path.resolve().name
    return ActionStatistics(mean, std, len(actions), int((~missing).sum()), name, commit)


def _fetched(repo_id: str, revision: str | None, token: str | bool | None) -> Path:
    """The snapshot of a Hub data set of this package."""
    try:
        hf_hub_download(repo_id, DESCRIPTION_FILE, repo_type="dataset", revision=revision, token=token)
        patterns = [DESCRIPTION_FILE, "data/*.parquet"]
        folder = snapshot_download(
            repo_id, repo_type="dataset", revision=revision, token=token, allow_patterns=patterns
        )
    except (HfHubHTTPError, OSError, EntryNotFoundError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise ValueError(
                f"the Hub data set {repo_id} has no {DESCRIPTION_FILE}, it is none of this package: fetch it (`hf "
                f"download {repo_id} --repo-type dataset --local-dir DIR`), unpack it and give its folder or HDF5 file"
            ) from error
        raise FileNotFoundError(
            f"there is no directory {repo_id}, and the Hub data set cannot be fetched "
            f"({' '.join(str(error).split())[:300]}): check the name, the revision and the network"
        ) from error
    return Path(folder)


def _read_directory(path: Path) -> np.ndarray:
    from ...data.storage.dataset_card import read_description
    from ...data.storage.parquet import matrix, read_columns

    files = sorted((path / "data").rglob("*.parquet"))
    if not files and (format := recording_format(path)):
        return _read_recording(format, path)
    if not files:
        raise FileNotFoundError(f"{path} has no data/*.parquet: give the directory of a data set")
    actions = matrix(read_columns(files, [_COLUMN]).column(0))
    every = (read_description(path) or {}).get("every", 1)
    # One row per raw action, where a row of the data set has a block of them.
    return actions if every == 1 else actions.reshape(len(actions) * every, -1)


def _read_recording(format: str, path: Path) -> np.ndarray:
    source = open_source(format, path, ColumnMapping(), None)
    try:
        return np.concatenate([source.vectors(episode)[_COLUMN] for episode in range(len(source.lengths))])
    finally:
        source.close()


def _read_hdf5(path: Path) -> np.ndarray:
    try:
        import h5py
        import hdf5plugin  # noqa: F401  registers the filters of the released files
    except ImportError as error:
        raise ImportError(f"reading {path} needs {error.name}: install the extra `lewm-hf[hdf5]`") from error
    try:
        with h5py.File(path, "r") as file:
            if _COLUMN not in file:
                raise ValueError(f"{path} has no column {_COLUMN!r}: its columns are {', '.join(sorted(file))}")
            return file[_COLUMN][:]
    except OSError as error:
        raise ValueError(f"{path} is damaged or no HDF5 file ({str(error).splitlines()[0]}): fetch it again") from error
