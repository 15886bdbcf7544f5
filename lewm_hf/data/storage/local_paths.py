"""Paths of this machine in what is about to be published: strangers cannot follow them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import yaml

# Fields that hold a place: a Hub id, or a folder or file of the machine that wrote them.
PLACES = frozenset(
    {
        "dataset", "source", "model", "episodes", "world_model_source", "output_dir", "manifest", "weights", "mapping",
        "init_from",
        "eval_protocol", "eval_planner",
    }
)  # fmt: skip
SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_USER = re.compile(r"(\b[a-z][\w+.-]*://)[^/@\s]+@", re.IGNORECASE)
# Two components at least; the slashes of a URL or of "a/b" begin no path.
_ABSOLUTE = re.compile(
    r"(?:\bfile:/{1,3}|(?<![\w/.~<\\-]))(?:~[\w.-]*|[A-Za-z]:)?(?:[/\\][\w.@+=-]+){2,}[/\\]?", re.IGNORECASE
)
# A whole value that begins like this is one path: its folders may have spaces in their names.
_BEGINS_ABSOLUTE = re.compile(
    r"(?:file:/{1,3}|(?=[/~\\]|[a-z]:))(?:~[\w.-]*(?=[/\\])|[a-z]:|\\(?=\\))?[/\\][^\s/\\]", re.IGNORECASE
)


def relative(place: str) -> str:
    """A folder as it was typed; its last name alone where it began at the root or at home."""
    windows = PureWindowsPath(place)
    return windows.name if windows.root or windows.drive or place.startswith("~") or ".." in windows.parts else place


def without_paths(value: str, place: bool = False) -> str:
    """A string with each absolute path in it cut down to its last name, and addresses without user and password;
    unchanged where there is none.

    Args:
        place: the whole string is a place, so that a relative path is one too. What looks like a Hub id and is no
            path here stays.
    """
    value = _USER.sub(r"\1", value)
    if (place and _is_local(value)) or _is_absolute(value):
        return _last_name(value)
    return _ABSOLUTE.sub(lambda found: _last_name(found[0]), value)


def published(content: Any) -> Any:
    """Plain values with every string, keys included, as `without_paths` returns it; fields in `PLACES` are places."""
    return _mapped(content, False)


def clean_text(text: str, suffix: str) -> tuple[str, dict[str, str]]:
    """A file's text without local paths, otherwise unchanged, and what was replaced by what.

    Args:
        suffix: `".json"`, `".jsonl"`, `".yaml"` or `".yml"`.

    Raises:
        ValueError: where the text is not of that format.
    """
    replaced: dict[str, str] = {}
    for part in _parse(text, suffix):
        for place, value in _strings(part, False):
            if (new := without_paths(value, place)) != value:
                replaced[value] = new
    # Longest first: a path may be the beginning of another.
    for old in sorted(replaced, key=len, reverse=True):
        if suffix in (".yaml", ".yml"):
            text = re.sub(rf"(?<![\w/.-]){re.escape(old)}(?![\w/.-])", replaced[old].replace("\\", r"\\"), text)
            continue
        for ascii_only in (True, False):
            text = text.replace(
                json.dumps(old, ensure_ascii=ascii_only), json.dumps(replaced[old], ensure_ascii=ascii_only)
            )
    return (text if not replaced or _is_clean(text, suffix) else _rewritten(text, suffix)), replaced


def _is_clean(text: str, suffix: str) -> bool:
    return all(
        without_paths(value, place) == value for part in _parse(text, suffix) for place, value in _strings(part, False)
    )


def _rewritten(text: str, suffix: str) -> str:
    """Where strings stand in the text in another form than they are written here, such as folded over lines."""
    parts = [published(part) for part in _parse(text, suffix)]
    if suffix == ".jsonl":
        return "".join(json.dumps(part) + "\n" for part in parts)
    return json.dumps(parts[0], indent=2) if suffix == ".json" else yaml.safe_dump_all(parts, sort_keys=False)


def _parse(text: str, suffix: str) -> list[Any]:
    try:
        if suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return [json.loads(text)] if suffix == ".json" else list(yaml.safe_load_all(text))
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _strings(content: Any, place: bool) -> Iterator[tuple[bool, str]]:
    if isinstance(content, str):
        yield place, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _strings(key, False)
            yield from _strings(value, key in PLACES)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _strings(value, place)


def _mapped(content: Any, place: bool) -> Any:
    if isinstance(content, str):
        return without_paths(content, place)
    if isinstance(content, PurePath):
        return _last_name(str(content))
    if isinstance(content, Mapping):
        return {_mapped(key, False): _mapped(value, key in PLACES) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_mapped(value, place) for value in content]
    return content


def _is_absolute(value: str) -> bool:
    found = _BEGINS_ABSOLUTE.match(value)
    # One component and no more is a slash before a word.
    return found is not None and (re.search(r"[/\\]", value[found.end() :]) is not None or ":" in found[0])


def _is_local(value: str) -> bool:
    if "://" in value or "/" not in value.replace("\\", "/"):
        return False
    if value.startswith(("/", "~", "./", "../")) or re.match(r"[A-Za-z]:[/\\]", value):
        return True
    if not _HUB_ID.fullmatch(value):
        return " " not in value  # prose
    return Path(value).exists()


def _last_name(path: str) -> str:
    return PureWindowsPath(path).name or "here"
