"""What an importer reads from: episodes of a foreign format, checked before the first frame is written."""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ...files import size_text
from ..storage.arrow_copies import DIGESTS, content_digest
from .choices import one_hot
from .mapping import KEPT, ColumnMapping

logger = logging.getLogger(__name__)

NAMED_EPISODES = 20
# Roles that are stored in single precision: what is beyond it would become infinite.
STORED = {"action": np.float32, "observation": np.float32}
WORTH_TELLING = 10**9


@dataclass(frozen=True)
class ImportedEpisode:
    """Rows of one episode, as `Episode` has them; what the source lacks is `None`.

    Attributes:
        images: frames `(H, W, 3)` uint8.
        row_actions: `(rows, action)` float32; the last row has its action where the source has one, else NaN.
        observations: `(rows, observation)` float32.
        states, goals: `(rows, state)` float64.
        next_success: `(rows,)` bool.
        kept: further columns of numbers by name, `(rows, n)` float64.
    """

    images: Sequence[np.ndarray]
    row_actions: np.ndarray
    observations: np.ndarray | None
    states: np.ndarray | None
    goals: np.ndarray | None
    next_success: np.ndarray | None
    kept: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def actions(self) -> np.ndarray:
        return self.row_actions

    def __len__(self) -> int:
        """Rows."""
        return len(self.row_actions)


class Source(ABC):
    """Episodes of a foreign format. Opening one reads and checks all metadata; open handles do not survive pickling.

    Attributes:
        path: the file or directory.
        mapping: with the format's defaults filled in.
        lengths: `(episodes,)` rows of each.
        fps: frames per second, `None` where neither source nor mapping tells.
        held_out: positions of the episodes that the source itself sets apart for tests; `None` where it says nothing.
        metadata: what identifies the source: sha256 of its small parts, and the like.
        packages: libraries that may decide about a decoded value.
        survives_fork: whether a forked process can read on: FFmpeg's decoders hang in the child of a process that has
            used them.
    """

    path: Path
    mapping: ColumnMapping
    lengths: np.ndarray
    fps: float | None
    metadata: dict[str, Any]
    packages: tuple[str, ...] = ()
    held_out: np.ndarray | None = None
    survives_fork: bool = True

    @abstractmethod
    def column(self, name: str, episode: int) -> np.ndarray:
        """A numeric column: `(rows, n)`, any dtype.

        Raises:
            ValueError: one line where it is missing, damaged or of another shape.
        """

    @abstractmethod
    def frames(self, episode: int) -> Iterator[np.ndarray]:
        """The frames in order, each `(H, W, 3)` uint8.

        Raises:
            ValueError: one line where one is damaged.
        """

    @abstractmethod
    def files(self) -> list[Path]:
        """Every file that decides about a number or a pixel."""

    @abstractmethod
    def close(self) -> None:
        """Closes what is open; the source stays usable."""

    def vectors(self, episode: int) -> dict[str, np.ndarray]:
        """Role -> `(rows, n)` float64; a row's action is the one that leaves it, NaN where nobody recorded it, and
        one-hot vectors where it is choices.
        """
        found = {}
        for role, names in self.mapping.vectors.items():
            parts = [np.asarray(self.column(name, episode), dtype=np.float64) for name in names]
            for name, part in zip(names, parts, strict=True):
                if len(part) != self.lengths[episode]:
                    raise ValueError(
                        f"column {name!r} of {self.path} has {len(part)} values in episode {episode}, which has "
                        f"{self.lengths[episode]} rows: repair the source"
                    )
            found[role] = np.concatenate(parts, axis=1)
        if self.mapping.action_shift:
            found["action"] = _moved_up(found["action"], self.mapping.action_shift)
        if sizes := self.mapping.action_choices:
            try:
                found["action"] = one_hot(found["action"], sizes, self.mapping.every or 1)
            except ValueError as error:
                raise ValueError(f"episode {episode} of {self.path} {error}") from error
        return found

    def check_vectors(self, episodes: Iterable[int]) -> dict[str, int]:
        """Reads every number of these episodes.

        Returns:
            Role -> size of its vectors.

        Raises:
            ValueError: one line for a size that changes, or a value that is missing anywhere but in an episode's last
                action, infinite, or beyond what is stored.
        """
        sizes: dict[str, int] = {}
        wrong: list[int] = []
        example = ""
        for episode in episodes:
            vectors = self.vectors(episode)
            for role, values in vectors.items():
                size = sizes.setdefault(role, values.shape[1])
                if not size:
                    raise ValueError(
                        f"{role} of {self.path} has no numbers in episode {episode}: map columns that have some"
                    )
                if values.shape[1] != size:
                    raise ValueError(
                        f"episode {episode} of {self.path} has {values.shape[1]}-dimensional {role}s, the episodes "
                        f"before have {size}: import them separately, with skip_episodes in the mapping"
                    )
            found = _first_missing(vectors)
            if found:
                role, row = found
                example = example or f"episode {episode}, frame {row} of {self.path} has {role}={vectors[role][row]}"
                wrong.append(episode)
        if wrong:
            listed = ", ".join(map(str, wrong[:NAMED_EPISODES])) + (", ..." if len(wrong) > NAMED_EPISODES else "")
            raise ValueError(
                f"{example}; numbers must be finite in what is stored, and only an episode's last action may be "
                f"missing: repair the source, or leave out "
                f"{len(wrong)} of its episodes with `skip_episodes: [{listed}]` in the mapping"
            )
        return sizes


def _moved_up(actions: np.ndarray, rows: int) -> np.ndarray:
    missing = np.full((min(rows, len(actions)), actions.shape[1]), np.nan)
    return np.concatenate([actions[rows:], missing])


def _first_missing(vectors: dict[str, np.ndarray]) -> tuple[str, int] | None:
    for role, values in vectors.items():
        if role.startswith(KEPT):  # nobody computes with them
            continue
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(values.astype(STORED.get(role, np.float64))).all(1)
        if role == "action" and np.isnan(values[-1]).all():
            bad[-1] = False
        if bad.any():
            return role, int(np.flatnonzero(bad)[0])
    return None


def require_columns(path: Path, mapping: ColumnMapping, present: Iterable[str]) -> None:
    """Refuses a mapping to columns that do not exist, or one without image or action.

    Raises:
        ValueError: one line.
    """
    present = list(present)
    for role in ("image", "action"):
        if not getattr(mapping, role):
            raise ValueError(
                f"nothing says which column of {path} is the {role}: name it in the mapping under `columns`; there are "
                f"{', '.join(present)}"
            )
    for role, names in {"image": (mapping.image,), **mapping.vectors}.items():
        for name in names:
            if name not in present:
                raise ValueError(f"{path} has no column {name!r} for the {role}: there are {', '.join(present)}")


def camera_named(name: str, cameras: Sequence[str]) -> str:
    """The column of a camera: by its name, or by the last part of it, `top` for `observation.images.top`."""
    ending = [camera for camera in cameras if camera.endswith(f".{name}")]
    return ending[0] if name not in cameras and len(ending) == 1 else name


def agreed_fps(path: Path, stated: float | None, mapping: ColumnMapping, tolerance: float = 1e-3) -> float | None:
    """Frames per second of source and mapping, which may differ by the share `tolerance`.

    Raises:
        ValueError: one line where they differ.
    """
    if stated is not None and mapping.fps is not None and not np.isclose(stated, mapping.fps, rtol=tolerance):
        raise ValueError(
            f"{path} has {stated:g} frames per second, the mapping says fps: {mapping.fps:g}: correct the mapping"
        )
    return mapping.fps if stated is None else float(stated)


def check_total(path: Path, name: str, stated: int, counted: int) -> None:
    """Raises `ValueError` where a source's own count is not what it holds."""
    if stated != counted:
        raise ValueError(
            f"{path} says {name}={stated}, but holds {counted}: it is incomplete or damaged; download or write it again"
        )


def content_sha256(source: Source) -> str:
    """One digest of all files of a source, with their names.

    A size or a time of modification would not notice a source that was corrected. Files that nobody has touched since
    are not read again.
    """
    files = source.files()
    total = sum(file.stat().st_size for file in files)
    if total > WORTH_TELLING:
        logger.info("comparing the content of %s (%s)", source.path, size_text(total))
    base = source.path if source.path.is_dir() else source.path.parent
    names = "\0".join(file.relative_to(base).as_posix() for file in files)
    notes = Path(datasets.config.HF_DATASETS_CACHE) / DIGESTS
    return sha256(names.encode(), content_digest(files, notes).encode())


def sha256(*parts: bytes | np.ndarray | dict) -> str:
    """One digest of several small things."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, dict):
            part = json.dumps(part, sort_keys=True).encode()
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else part)
    return digest.hexdigest()
