"""Settings that people refer to by a name: versioned YAML files with a hash, of which single values may be changed."""

import difflib
import hashlib
import json
from collections.abc import Collection, Iterable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from .yaml_text import parse_yaml


def content_hash(content: Any) -> str:
    """SHA-256 of plain values in canonical JSON: sorted keys, no white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def label(name: str, version: int, changed: Any) -> str:
    """`"paper-v3"`, with `" (modified)"` where values were changed."""
    return f"{name}-v{version}" + (" (modified)" if changed else "")


def names_in(folder: Traversable) -> list[str]:
    """Names of the files in a folder of this package, without `.yaml`."""
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_named(name_or_path: str | Path, folder: Traversable, kind: str) -> dict[str, Any]:
    """The content of a file of the package by its name, or of any `.yaml` file by its path.

    Args:
        name_or_path: also a label, name and version as results and cards say them: `"paper-v3"`.
        folder: where those of the package lie.
        kind: what they are, for messages: `"protocol"`.

    Raises:
        ValueError: for an unknown name, another version than the package's, what is neither name nor path, or a file
            that is not a mapping.
        FileNotFoundError: for a path that does not exist.
    """
    names, asked = names_in(folder), None
    if not isinstance(name_or_path, str | Path):
        raise ValueError(f"{kind}={name_or_path!r} is no name: use one of {', '.join(names)} or a .yaml file")
    named, _, version = str(name_or_path).rpartition("-v")
    if named in names and version.isdigit():
        name_or_path, asked = named, int(version)
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise FileNotFoundError(f"there is no {kind} file {path}: give another, or one of {', '.join(names)}")
        text = path.read_text(encoding="utf-8")
    elif str(name_or_path) in names:
        text = (folder / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        raise ValueError(f"unknown {kind} {str(name_or_path)!r}: use one of {', '.join(names)} or a .yaml file")
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{kind} {name_or_path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{kind} {name_or_path}: expected a mapping of fields, got {type(content).__name__}")
    if asked is not None and content["version"] != asked:
        raise ValueError(
            f"{kind} {label(named, asked, False)} is not of this version of the package, whose {named} is "
            f"{label(named, content['version'], False)}: use that one, or the .yaml file of yours"
        )
    return content


def check_key(key: Any, known: Collection[str], where: str) -> None:
    """Refuses an unknown key, naming the closest known one.

    Raises:
        ValueError: for a key that is not among `known`.
    """
    if key not in known:
        closest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
        raise ValueError(f"{where}: unknown key {key!r}: the closest known one is {closest!r}")


def parse_assignments(assignments: Iterable[str], known: Collection[str]) -> dict[str, Any]:
    """`["samples=200", "seeds=[1, 2]"]` -> `{"samples": 200, "seeds": [1, 2]}`; values are read as YAML.

    Raises:
        ValueError: for text without `=`, an unknown key, or a value that is not YAML.
    """
    values = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"override {text!r} has no '=': write field=value")
        check_key(key.strip(), known, "override")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"override {text!r}: {value!r} is not a YAML value") from error
    return values
