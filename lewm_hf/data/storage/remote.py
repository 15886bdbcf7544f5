"""Folders elsewhere, by an address of any file system that fsspec knows: `s3://bucket/set`, `ftp://host/set`.

A file appears there whole or not at all. Object stores do so by themselves; elsewhere it gets a temporary name first.
"""

import ftplib
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from ...files import replacing

Value = TypeVar("Value")

ATTEMPTS, PATIENCE = 4, 1.0  # seconds before the second, twice as long before each further one
BLOCK = 2**22
# Of a Parquet file, its last bytes: how long its footer is, and four letters.
FOOTER_END = 8
FOOTER_GUESS = 2**16
# What libraries raise besides `OSError` where a network or a server fails; only those in use are loaded.
_FAILURES = (
    ("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"), ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"), ("paramiko", "SSHException"), ("requests", "RequestException"),
)  # fmt: skip
# What trying again does not help against.
_REFUSALS = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ftplib.error_perm,
)  # fmt: skip
# By which a changed file differs from the one before, as far as its file system tells.
_MARKS = ("size", "ETag", "etag", "md5Hash", "checksum", "LastModified", "last_modified", "modify", "mtime", "updated",
          "created")  # fmt: skip


@dataclass(frozen=True)
class RemoteFolder:
    """A folder by its address.

    Args:
        address: with whatever its file system wants to know, perhaps user and password.

    Raises:
        ValueError: one line for a kind of address that nobody knows.
        ImportError: one line where the library for it is missing.
    """

    address: str

    def __post_init__(self) -> None:
        kind = self.address.partition("://")[0]
        try:
            fsspec.get_filesystem_class(kind)
        except ValueError as error:
            raise ValueError(f"{self} is at no kind of place that fsspec knows ({error}): give another") from error
        except ImportError as error:
            raise ImportError(f"{self} cannot be reached ({' '.join(str(error).split())})") from error

    def __str__(self) -> str:
        """The address without user and password."""
        kind, _, rest = self.address.partition("://")
        host, slash, path = rest.partition("/")
        return f"{kind}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")

    @property
    def name(self) -> str:
        """The folder's own."""
        return str(self).rpartition("/")[2]

    @property
    def local(self) -> Path | None:
        """The path of `file://` and what else is a folder of this machine."""
        kind = fsspec.get_filesystem_class(self.address.partition("://")[0])
        return Path(kind._strip_protocol(self.address)) if issubclass(kind, LocalFileSystem) else None

    def files(self) -> dict[str, dict[str, Any]]:
        """What is there, by path below the folder; of each, `size` and what else tells one version from another.

        Hidden files, those that are being written among them, are left out.
        """

        def listed(fs: Any, root: str) -> tuple[str, dict[str, Any]]:
            with suppress(FileNotFoundError):
                return root, fs.find(root, detail=True)
            return root, {}

        root, infos = self._do("listing it", listed)
        files = {}
        for path, info in infos.items():
            name = path.lstrip("/").removeprefix(root.lstrip("/")).lstrip("/")
            if name and not any(part.startswith(".") for part in name.split("/")):
                files[name] = {mark: info[mark] for mark in _MARKS if info.get(mark) is not None}
        return files

    def download(self, name: str, path: Path) -> None:
        """Copies a file from there.

        Raises:
            OSError: one line where it cannot be read, or the disk is full.
        """
        with replacing(path) as temporary:
            self._do(f"reading {name}", lambda fs, root: fs.get_file(f"{root}/{name}", str(temporary)))

    def upload(self, path: Path, name: str) -> None:
        """Copies a file to there, in place of another one of its name.

        Raises:
            OSError: one line where it cannot be written.
        """

        def put(fs: Any, root: str) -> None:
            target = f"{root}/{name}"
            if type(fs).mv is fsspec.AbstractFileSystem.mv:  # an object store, which has no renaming and needs none
                fs.put_file(str(path), target)
                return
            folder, _, last = target.rpartition("/")
            temporary = f"{folder}/.{last}.{secrets.token_hex(8)}.tmp"
            with suppress(*_failures()):  # somebody else makes it, at this moment
                fs.makedirs(folder, exist_ok=True)
            try:
                with open(path, "rb") as source, fs.open(temporary, "wb", block_size=BLOCK) as copy:
                    shutil.copyfileobj(source, copy, BLOCK)
                _renamed(fs, temporary, target)
            except _failures():
                with suppress(*_failures()):
                    fs.rm_file(temporary)
                raise

        self._do(f"writing {name}", put)

    def footer(self, name: str, size: int) -> pq.FileMetaData | None:
        """What a Parquet file of so many bytes says of itself at its end; `None` where that is damaged."""

        def tail(length: int) -> bytes:
            start = max(0, size - length)
            return self._do(f"reading {name}", lambda fs, root: fs.cat_file(f"{root}/{name}", start=start))

        end = tail(FOOTER_GUESS)
        length = int.from_bytes(end[-FOOTER_END : -FOOTER_END // 2], "little") + FOOTER_END
        try:
            return pq.read_metadata(pa.BufferReader(end if length <= len(end) else tail(length)))
        except pa.ArrowInvalid:
            return None

    def remove_leftovers(self) -> None:
        """Deletes what uploads that were cut off left behind; nobody may be writing there."""

        def remove(fs: Any, root: str) -> None:
            for path in fs.find(root):
                last = path.rpartition("/")[2]
                if last.startswith(".") and last.endswith(".tmp"):
                    fs.rm_file(path)

        self._do("removing temporary files", remove)

    def _do(self, what: str, work: Callable[[Any, str], Value]) -> Value:
        """Again where the network fails, each time by a new connection: servers close those that wait."""
        for attempt in range(ATTEMPTS):
            try:
                fs, root = fsspec.core.url_to_fs(self.address, skip_instance_cache=True)
                return work(fs, root.rstrip("/"))
            except _REFUSALS as error:
                raise OSError(f"{self}: {what} failed ({_reason(error)}): check address and permissions") from error
            except _failures() as error:
                if attempt == ATTEMPTS - 1:
                    raise OSError(
                        f"{self}: {what} failed ({_reason(error)}): check address and network, and run the same "
                        "command again; finished files stay usable"
                    ) from error
                time.sleep(PATIENCE * 2**attempt)
        raise AssertionError("unreachable")


def _renamed(fs: Any, old: str, new: str) -> None:
    try:
        fs.mv(old, new)
    except _failures():  # some do not rename in place of another file
        fs.invalidate_cache()
        if not fs.exists(new):
            raise
        fs.rm_file(new)
        fs.mv(old, new)


def _failures() -> tuple[type[Exception], ...]:
    loaded = [getattr(sys.modules[module], name) for module, name in _FAILURES if module in sys.modules]
    return (OSError, EOFError, ftplib.Error, *loaded)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
