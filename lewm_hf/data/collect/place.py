"""Where a collection goes: a folder of this machine, or one elsewhere, to which finished files are copied."""

import hashlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from ...engines.workers import Report
from ...files import is_address, local_folder
from ..storage.continuing import at_work, complete_by, finishing, is_complete, known_description
from ..storage.dataset_card import CARD_FILE, DESCRIPTION_FILE, write_description
from ..storage.lerobot import INFO_FILE
from ..storage.remote import RemoteFolder

STAGING = "lewm_staging"
SECONDS_BETWEEN = 1.0
# The files that say that everything else is there.
LAST = (INFO_FILE, CARD_FILE, DESCRIPTION_FILE)


def place_of(out: str | Path, part: int, parts: int) -> "Place":
    """The place that `out` names, for one shard of a collection.

    Raises:
        ValueError, ImportError: one line for an address of an unknown kind, or whose library is missing.
    """
    if not is_address(out):
        return Place(local_folder(out))
    remote = RemoteFolder(str(out))
    return Place(remote.local) if remote.local is not None else RemotePlace(remote, part, parts)


class Place:
    """A folder of this machine.

    Args:
        path: of the folder in which files are made.
    """

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def result(self) -> str | Path:
        """What opens the data set."""
        return self.path

    def known(self) -> dict[str, Any] | None:
        """See `known_description`."""
        return known_description(self.path)

    @contextmanager
    def at_work(self, part: int, parts: int) -> Iterator[None]:
        """See `storage.continuing.at_work`."""
        with at_work(self.path, part, parts):
            yield

    def is_complete(self, name: str, key: str) -> bool:
        """See `storage.continuing.is_complete`."""
        return is_complete(self.path / name, key)

    def missing(self, names: Iterable[str]) -> int:
        """How many of these files are not there, whole or damaged."""
        return sum(not (self.path / name).exists() for name in names)

    def leave(self) -> None:
        """Nothing more will be done here."""

    def begin(self, description: Mapping[str, Any]) -> None:
        """Says what will be here."""
        write_description(self.path, description)

    def reporting(self, names: Iterable[str], report: Report) -> Report:
        """What the work on these files reports to."""
        return report

    def keep(self, names: Iterable[str]) -> None:
        """Those of these files that are finished stay, whatever happens."""

    @contextmanager
    def whole(self, names: Iterable[str]) -> Iterator[None]:
        """A block in which all files of the data set are in `path`, and in which it is finished; one at a time."""
        with finishing(self.path):
            yield


class RemotePlace(Place):
    """A folder elsewhere. Files are made in one of this machine, and copied when they are finished.

    What was finished and not copied, because the command was killed or the network failed, is copied by the same
    command on the same machine. The folder here is removed when nothing in it is needed.

    Args:
        remote: the folder elsewhere.
        part, parts: shard of the collection, which has a folder of its own.
    """

    def __init__(self, remote: RemoteFolder, part: int, parts: int):
        digest = hashlib.sha256(str(remote).encode()).hexdigest()[:16]
        super().__init__(Path(datasets.config.HF_DATASETS_CACHE) / STAGING / f"{digest}-{part}-of-{parts}")
        self.remote = remote
        self._there: dict[str, dict[str, Any]] = {}
        self._whole: set[str] = set()
        self._sent: dict[str, tuple[int, int]] = {}
        self._last = 0.0

    def __str__(self) -> str:
        return str(self.remote)

    @property
    def result(self) -> str | Path:
        return self.remote.address

    def known(self) -> dict[str, Any] | None:
        self._there = self.remote.files()
        if DESCRIPTION_FILE in self._there:
            self._fetch(DESCRIPTION_FILE)
            return known_description(self.path)
        if self._there:
            raise ValueError(f"{self} is not empty and holds no collection: give a new or empty directory")
        for left in self.path.glob("[!.]*"):  # of a collection that was deleted there
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return None

    @contextmanager
    def at_work(self, part: int, parts: int) -> Iterator[None]:
        with super().at_work(part, parts):
            yield
            self.leave()

    def leave(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def is_complete(self, name: str, key: str) -> bool:
        if name not in self._whole and name in self._there:
            footer = self.remote.footer(name, self._there[name]["size"])
            if complete_by(f"{self}/{name}", footer, key):
                self._whole.add(name)
        return name in self._whole or is_complete(self.path / name, key)

    def missing(self, names: Iterable[str]) -> int:
        there = self.remote.files()
        return sum(name not in there for name in names)

    def begin(self, description: Mapping[str, Any]) -> None:
        super().begin(description)
        self._send(DESCRIPTION_FILE)

    def reporting(self, names: Iterable[str], report: Report) -> Report:
        names = list(names)

        def reported(count: int) -> None:
            report(count)
            if time.monotonic() - self._last > SECONDS_BETWEEN:
                self.keep(names)
                self._last = time.monotonic()

        return reported

    def keep(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._whole and (self.path / name).is_file():
                self._send(name)
                self._whole.add(name)

    @contextmanager
    def whole(self, names: Iterable[str]) -> Iterator[None]:
        with super().whole(names):
            for name in names:
                if name not in self._sent:
                    self._fetch(name)
            yield
            paths = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
            made = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
            for name in [*sorted(set(made).difference(LAST)), *(name for name in LAST if name in made)]:
                if self._sent.get(name) != self._version(name):
                    self._send(name)
            self.remote.remove_leftovers()

    def _fetch(self, name: str) -> None:
        self.remote.download(name, self.path / name)
        self._sent[name] = self._version(name)

    def _send(self, name: str) -> None:
        version = self._version(name)
        self.remote.upload(self.path / name, name)
        self._sent[name] = version

    def _version(self, name: str) -> tuple[int, int]:
        """Files are replaced, never written to."""
        found = (self.path / name).stat()
        return found.st_ino, found.st_mtime_ns
