"""Folders that appear whole or not at all, whatever moment the process dies at: new ones, and such as take the place
of an earlier one.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .files import FULL, only_one

AGAIN = "run the same command again"


def check_new_folder(target: Path) -> None:
    """Refuses a target that holds something.

    Raises:
        ValueError: one line.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        found = "is not empty" if target.is_dir() else "is a file"
        raise ValueError(f"{target} exists already and {found}: name a new folder, or delete it first")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, which becomes `target` when the block ends well and vanishes otherwise.

    What a process left there that was killed in such a block vanishes, too.

    Raises:
        ValueError: where `target` exists and is not an empty folder.
        OSError: one line where the disk is full, or another command writes `target`.
    """
    check_new_folder(target)
    # Nobody else writes there as long as it is held: what is staged was left by a process that is gone.
    with only_one(target.with_name(f".{target.name}.lock"), work=f"writes {target}"):
        check_new_folder(target)
        temporary = staging_of(target)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            _all_to_disk(temporary)
            if target.exists():
                target.rmdir()  # Windows renames to nothing that is there
            os.rename(temporary, target)
        except (OSError, SafetensorError) as error:
            if isinstance(error, OSError) and error.errno not in FULL:
                raise
            raise OSError(_not_written(target, error, AGAIN)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def staging_of(target: Path) -> Path:
    """The folder beside it that is written first; all ranks of a training know its name."""
    return target.with_name(f".{target.name}.new")


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _to_disk(path: Path) -> None:
    """Waits until a file, or the names inside a folder, would survive a power failure."""
    if os.name == "nt" and path.is_dir():
        return  # Windows writes folders through
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _all_to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        _to_disk(path)
    _to_disk(folder)


def publish(target: Path) -> None:
    """Puts the complete staged folder in the place of `target`, which goes only once the new one is on disk."""
    _all_to_disk(staging_of(target))
    if target.exists():
        os.rename(target, _previous(target))
    os.rename(staging_of(target), target)
    _to_disk(target.parent)
    shutil.rmtree(_previous(target), ignore_errors=True)


def recover(target: Path) -> None:
    """Finishes what a process killed inside `publish` left undone, and drops what it had only half written."""
    if _previous(target).exists() and not target.exists():
        os.rename(_previous(target), target)
    for leftover in (staging_of(target), _previous(target)):
        shutil.rmtree(leftover, ignore_errors=True)


def free_bytes(path: Path) -> int:
    """Bytes that are left on the disk of a folder."""
    return shutil.disk_usage(path).free


def _not_written(target: Path, error: Exception, remedy: str) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    free = free_bytes(target.parent) / 2**20
    return f"cannot write {target} ({reason}); {free:,.0f} MiB are free there: make room and {remedy}"


@contextmanager
def named_write_errors(target: Path, remedy: str = AGAIN) -> Iterator[None]:
    """Whatever a full disk makes of torch and safetensors while they write into the staged folder of `target`, the
    user reads one line; what is staged goes.

    Args:
        remedy: what to do once there is room.

    Raises:
        OSError: that line.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(staging_of(target), ignore_errors=True)
        # A file that was to appear whole has its line, whose cause is what belongs into this one.
        first = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise OSError(_not_written(target, first, remedy)) from error


@contextmanager
def replacing_folder(target: Path, remedy: str = AGAIN) -> Iterator[Path]:
    """A folder to write into, which takes the place of `target` once complete; one process only.

    Args:
        remedy: what to do once there is room where the disk was full.

    Raises:
        OSError: one line, where writing fails; `target` is then what it was.
    """
    recover(target)
    with named_write_errors(target, remedy):
        staging_of(target).mkdir()
        yield staging_of(target)
        publish(target)
