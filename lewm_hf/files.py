"""Files that appear whole or not at all, and folders in which one command works at a time."""

import errno
import glob
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of a temporary file's name.
DRAWN_BYTES = 8
# Of file systems on the network; where nothing knows of locks, `filelock` makes do with files.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
# A path made of an address has one slash, and a drive of Windows one letter.
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/")
# Workers of a killed command hold its lock until they notice.
PATIENCE = 10.0


def is_address(place: Any) -> bool:
    """Whether a place is told by an address, `kind://...`, and not by a path."""
    return isinstance(place, str) and "://" in place


def local_folder(out: str | Path) -> Path:
    """A folder of this machine by its path.

    Raises:
        ValueError: one line for an address, which as a path would be a folder of that odd name.
    """
    if is_address(out) or _ADDRESS.match(str(out)):
        raise ValueError(f"{out} is an address: give a folder of this machine, such as a mounted bucket")
    return Path(out)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it takes `path`'s place when the block ends well, and vanishes otherwise.

    What a process left there that was killed in such a block vanishes, too.

    Raises:
        OSError: one line where the disk is full or nothing may be written there; `path` is as it was.
    """
    # Processes of several hosts or containers may share both a folder and a number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(DRAWN_BYTES)}.tmp")
    lock = temporary.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        with _marked(lock):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(
                f"no space left for {path} ({os.strerror(error.errno)}): make room and run the same command again; "
                "finished files stay usable"
            ) from error
        if error.errno in REFUSED and Path(error.filename or temporary) in (temporary, lock, path, *path.parents):
            raise OSError(_refusal(path, error.errno)) from error
        raise
    finally:
        with suppress(NotADirectoryError):  # it never came to be
            temporary.unlink(missing_ok=True)


@contextmanager
def _held(lock: BaseFileLock) -> Iterator[None]:
    """Takes a lock, and its file away with it."""
    lock.acquire()
    try:
        yield
    finally:
        if os.name == "posix":  # elsewhere the lock takes its file along
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _marked(lock: Path) -> Iterator[None]:
    """Tells others that somebody is at work; where there are no locks, nobody takes away what lies there."""
    with ExitStack() as held:
        try:
            held.enter_context(_held(FileLock(lock)))
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            lock.unlink(missing_ok=True)
        yield


def leftovers(path: Path) -> list[Path]:
    """What writing `path` has left behind, or is at work with: temporary files, and the locks of who writes them."""
    # What is drawn as it is drawn, or as a process's number, which it once was: those of `a.b` are not those of `a`.
    drawn = f"[0-9a-f]{{{2 * DRAWN_BYTES}}}"
    name = re.compile(rf"\.{re.escape(path.name)}\.({drawn}\.(tmp|lock)|\d+(-\w+)?\.tmp)")
    return [found for found in path.parent.glob(f".{glob.escape(path.name)}.*") if name.fullmatch(found.name)]


def _remove_abandoned(path: Path) -> None:
    """Deletes temporary files of `path` whose locks nobody holds: their processes are gone, wherever they ran."""
    for lock in leftovers(path):
        if lock.suffix == ".lock":
            with suppress(OSError), _held(FileLock(lock, timeout=0)):  # at work, somebody else's, or gone by now
                lock.with_suffix(".tmp").unlink(missing_ok=True)


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Writes a file at once, making its folder; an interrupted write leaves what was there.

    Raises:
        OSError: one line where the disk is full.
    """
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _refusal(path: Path, number: int) -> str:
    return f"{path} cannot be written ({os.strerror(number)}): give a folder that you may write to"


def reserve(path: Path, start: int, size: int) -> None:
    """Takes disk for bytes `start` to `start + size` of a file that exists already, before they are written through a
    map into memory.

    Writing to a mapped page that the disk has no room for kills a process without a word.

    Raises:
        OSError: where the disk has no room.
    """
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), start, size)
        else:
            file.seek(start)
            file.write(bytes(size))


@contextmanager
def only_one(path: Path, wait: bool = False, work: str | None = None) -> Iterator[None]:
    """Whoever holds the lock file `path` works alone; it goes when the work is done or its process dies.

    Args:
        wait: until the other one is done, however long.
        work: what the message says that another command does; default: it is at work in the folder of `path`.

    Raises:
        OSError: one line where another one is at work still after some seconds, the lock belongs to another user, or
            nothing may be written there.
    """
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(_held(FileLock(path, timeout=-1 if wait else PATIENCE)))
        except Timeout as error:
            raise OSError(
                f"another command {work or f'is at work in {path.parent}'}: wait until it is done, or give another "
                "folder"
            ) from error
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM) and os.path.exists(path):
                raise OSError(
                    f"{path} is the lock of another user ({os.strerror(error.errno)}): wait until that user's command "
                    "is done, delete the file if none is at work, or give another folder"
                ) from error
            if error.errno in REFUSED:
                raise OSError(_refusal(path.parent, error.errno)) from error
            if error.errno in NO_LOCKS:
                raise OSError(
                    f"the file system of {path.parent} has no locks ({os.strerror(error.errno)}), without which two "
                    "commands could write there at once: give a folder on another disk"
                ) from error
            raise
        yield


def remove_leftovers(path: Path) -> None:
    """Deletes whatever writing `path` left behind; for who holds its folder's lock: nobody is at work there."""
    for leftover in leftovers(path):
        leftover.unlink(missing_ok=True)


def size_text(size: float) -> str:
    """`1234567` -> `"1.2 MB"`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float) -> str:
    """`95.0` -> `"95 s"`, `600.0` -> `"10 min"`, `7500.0` -> `"2.1 h"`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
