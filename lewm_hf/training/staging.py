"""Folders and files that appear whole or not at all, whatever moment the process dies at."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


def staging_of(target: Path) -> Path:
    """The folder beside it that is written first."""
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


def publish(target: Path) -> None:
    """Puts the complete staged folder in the place of `target`, which goes only once the new one is on disk."""
    for file in staging_of(target).iterdir():
        _to_disk(file)
    _to_disk(staging_of(target))
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


@contextmanager
def named_write_errors(target: Path) -> Iterator[None]:
    """Whatever a full disk makes of torch and safetensors, the user reads one line.

    Raises:
        OSError: that line.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(staging_of(target), ignore_errors=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(
            f"cannot write {target} ({reason}); {free_bytes(target.parent) / 2**20:,.0f} MiB are free there: make room "
            "and continue with --resume, what was saved before is intact"
        ) from error


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `target` once complete; one process only.

    Raises:
        OSError: one line, where writing fails; `target` is then what it was.
    """
    recover(target)
    with named_write_errors(target):
        staging_of(target).mkdir()
        yield staging_of(target)
        publish(target)


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    _to_disk(temporary)
    os.replace(temporary, path)
