"""Names of files that others wrote: in which order they come, which are nobody's episodes, and where they may point."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath

# What operating systems and office programs leave between files: macOS on foreign disks and in zip files, Windows'
# thumbnails, and the lock files of Excel and LibreOffice.
_COMPANION = re.compile(r"\..*|~\$.*|__MACOSX|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_FIELD = re.compile(r"\{(\w+)(?::(0?\d{1,2})d)?\}")
MAX_DIGITS = 20
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm")
# What every version of a Lance table has a file in; a table of episodes may lie beside that of their rows.
LANCE_VERSIONS, _LANCE_EPISODES = "_versions", "_episodes"


def natural_order(path: Path) -> tuple:
    """Sorts `walk_2` before `walk_10`."""
    parts = re.split(r"(\d+)", path.as_posix())
    return tuple((int(part), part) if part.isdecimal() else (-1, part) for part in parts)


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Those below `folder` that are no companions of other programs, in natural order."""
    kept = [path for path in paths if not any(map(_COMPANION.fullmatch, path.relative_to(folder).parts))]
    return sorted(kept, key=natural_order)


def lance_tables(folder: Path) -> list[Path]:
    """The Lance table that a folder is, or those of rows that it holds."""
    if not folder.is_dir():
        return []
    if (folder / LANCE_VERSIONS).is_dir():
        return [folder]
    inside = [child for child in folder.iterdir() if (child / LANCE_VERSIONS).is_dir()]
    return sorted(child for child in inside if not child.stem.endswith(_LANCE_EPISODES))


def below(folder: Path, name: str) -> Path:
    """A path below a folder.

    Raises:
        ValueError: one line where the name is absolute, or leads out of the folder.
    """
    path = PureWindowsPath(name)  # takes slashes of both kinds
    if not name or "\0" in name or path.anchor or ".." in path.parts:
        raise ValueError(f"{name!r} does not lead to a file below {folder}")
    return folder / name


def fill(pattern: str, fields: Mapping[str, int | str]) -> str:
    """Puts values into a path pattern such as `chunk-{chunk_index:03d}/{video_key}.mp4`, and does nothing else.

    `str.format` would look up attributes and pad to any width; this takes these fields and whole numbers of at most
    `MAX_DIGITS` digits.

    Raises:
        ValueError: one line.
    """

    def value(found: re.Match) -> str:
        name, width = found.groups()
        if name not in fields:
            raise ValueError(f"{pattern!r} has the field {name!r}, expected {', '.join(fields)}")
        if width is None:
            return str(fields[name])
        if not isinstance(fields[name], int) or int(width) > MAX_DIGITS:
            raise ValueError(f"{pattern!r} formats {name!r} as :{width}d, expected at most {MAX_DIGITS} digits")
        return f"{fields[name]:{width}d}"

    if re.search(r"[{}]", _FIELD.sub("", pattern)):
        raise ValueError(f"{pattern!r} is not a pattern of names and fields like {{{next(iter(fields))}:03d}}")
    return _FIELD.sub(value, pattern)
