"""Results appear whole or not at all."""

from pathlib import Path

from ..data.files import replacing


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Writes a file at once, making its folder; an interrupted write leaves what was there.

    Raises:
        OSError: one line where the disk is full.
    """
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
