"""`meta/info.json` of a LeRobot data set: counts, frames per second, path patterns and features, checked."""

import json
import math
from pathlib import Path
from typing import Any

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
KINDS: dict[str, type | tuple[type, ...]] = {
    "codebase_version": str, "fps": (int, float), "features": dict, "total_episodes": int, "total_frames": int,
    "data_path": str, "chunks_size": int,
}  # fmt: skip
LARGE = 1 << 31


def read_info(path: Path) -> dict[str, Any]:
    """The content of a data set's `meta/info.json`.

    Raises:
        FileNotFoundError, ValueError: one line where it is missing, damaged, or of another version.
    """
    file = path / INFO
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}: give the directory of a LeRobot data set")
    try:
        info = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON ({error}): download it again") from error
    for name, kind in KINDS.items():
        found = info.get(name, 1000 if name == "chunks_size" else None) if isinstance(info, dict) else None
        if found is None:
            raise ValueError(f"{file} has no {name!r}: it is no description of a LeRobot data set")
        if not isinstance(found, kind) or isinstance(found, bool):
            raise ValueError(f"{file} has {name}={found!r}, expected {_names(kind)}: download it again")
    if not 0 < info["fps"] < math.inf or info.get("chunks_size", 1) < 1:
        raise ValueError(
            f"{file} has fps={info['fps']}, chunks_size={info.get('chunks_size', 1000)}, expected more than 0: "
            "correct it, or download it again"
        )
    for name, feature in info["features"].items():
        shape = feature.get("shape", []) if isinstance(feature, dict) else None
        sized = isinstance(shape, list | tuple) and all(type(n) is int and 0 <= n < LARGE for n in shape)
        if not sized or not isinstance(feature.get("dtype", ""), str):
            raise ValueError(f"{file} describes {name!r} as {str(feature)[:200]}, expected dtype, shape and names")
    if info["codebase_version"] not in VERSIONS:
        raise ValueError(
            f"{path} has version {info['codebase_version']!r}, expected one of {', '.join(VERSIONS)}: convert "
            "it with LeRobot"
        )
    return info


def _names(kinds: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
