"""Recipes as files: found by path or by name, laid over a base, read together with the command line."""

import argparse
import dataclasses
import difflib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

from ..yaml_text import parse_yaml

logger = logging.getLogger(__name__)

RECIPES = Path(__file__).with_name("recipes")
# What the command line says where a key shall have no value, whatever the recipe says: YAML's word and Python's.
NOTHING = ("null", "None")


def find_recipe(name: str | Path) -> Path:
    """A recipe by path, or one of the package's by its file's name, with or without `.yaml`.

    Raises:
        FileNotFoundError: one line.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = RECIPES / (path.name if path.suffix else f"{path.name}.yaml")
    if packaged.is_file():
        return packaged
    known = ", ".join(sorted(entry.stem for entry in RECIPES.glob("*.yaml")))
    raise FileNotFoundError(f"there is no recipe {name}: give a file, or one of the package's by name ({known})")


def read_yaml(path: Path, known: Sequence[str]) -> dict[str, Any]:
    """The keys of a recipe, on top of those of the recipe that its `base` names, beside it or in the package.

    Raises:
        FileNotFoundError, ValueError: one line, naming the file and the key.
    """
    keys: dict[str, Any] = {}
    for file, found in layers(path):
        refuse_unknown(list(found), known, str(file))
        keys = found | keys
    return keys


def layers(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A recipe and its keys, then its base and its keys, and so on: who comes first wins.

    Raises:
        FileNotFoundError, ValueError: one line, naming the file.
    """
    seen: list[Path] = []
    while path not in seen:
        seen.append(path)
        found = read_keys(path)
        base = found.pop("base", None)
        yield path, found
        if base is None:
            return
        beside = path.parent / str(base)
        path = beside if beside.is_file() else find_recipe(str(base))
    raise ValueError(f"{path} is its own base: take the key `base` away")


def read_keys(path: Path) -> dict[str, Any]:
    """The keys that stand in one file, whatever they are.

    Raises:
        ValueError: one line, where it holds none.
    """
    try:
        keys = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(
            f"{path}, line {line}, is not valid YAML ({problem}): write each key once, one `key: value` per line"
        ) from error
    if not isinstance(keys, dict):
        raise ValueError(f"{path} holds no `key: value` lines: see {RECIPES} for examples")
    return keys


def peek(argv: Sequence[str], key: str) -> str | None:
    """What the command line, a recipe or its base says about one key, where that decides which others there are.

    Raises:
        FileNotFoundError, ValueError: one line, for a recipe that cannot be read.
    """
    for argument, following in reversed(list(zip(argv, [*argv, None][1:], strict=True))):  # the last one counts
        name, equals, value = argument.partition("=")
        if name.replace("-", "_") == f"__{key}":
            said = value if equals else following
            return None if said in NOTHING else said
    if not argv or argv[0].startswith("-"):
        return None
    return next((found[key] for _, found in layers(find_recipe(argv[0])) if key in found), None)


def refuse_replaced(argv: Sequence[str], replaced: Mapping[str, float | None], by: str, value: object) -> None:
    """Refuses keys that another one replaces, where they were given after it: nobody gives what shall have no effect.

    One file may say both: that of a run holds every value.

    Args:
        argv: the command line, which comes after the recipe that it may begin with, and that after its base.
        replaced: keys and their values, `None` where they have none.
        by: the key that replaces them; `value` is what it has.

    Raises:
        ValueError: one line, naming the key and where it was given.
    """
    given = set(given_keys(argv))
    later = [("", given, f"--{by} null")]
    if by not in given and argv and not argv[0].startswith("-"):
        files = takewhile(lambda layer: by not in layer[1], layers(find_recipe(argv[0])))
        later += [(f" of {file}", set(keys), f"`{by}: null`") for file, keys in files]
    for where, keys, remedy in later:
        for name, asked in replaced.items():
            if name in keys and asked is not None:
                raise ValueError(
                    f"{name}={asked:g}{where} has no effect beside {by}={value}, which replaces it: omit it, or "
                    f"add {remedy}"
                )


def refuse_unknown(keys: Sequence[str], known: Sequence[str], where: str) -> None:
    """Raises:
    ValueError: for the first key that no recipe of this kind has, naming the closest one.
    """
    for key in keys:
        if key not in known:
            closest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown recipe key {key!r} in {where}: the closest known key is {closest!r}")


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any: what is `None` says in its help what happens without it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class _Parser(HfArgumentParser):
    """`where` is what its errors call wrong."""

    def __init__(self, classes: Sequence[type], where: str = "the command line"):
        super().__init__(classes, formatter_class=_Defaults, usage="... [RECIPE] [--key value ...]", allow_abbrev=False)
        self._known, self._where = field_names(*classes), where

    def format_help(self) -> str:
        """With the recipes, which are looked at only here."""
        shipped = ", ".join(_fitting(self._known))
        self.description = (
            f"RECIPE is a YAML file, or the name of one that ships with the package: {shipped}. It holds keys of those "
            "below, which win over it where they are given."
        )
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self._where} is wrong: {message}")


def _fitting(known: Sequence[str]) -> list[str]:
    """Names of the package's recipes that say nothing but these keys, or that say themselves which there are."""
    found = {path.stem: set(read_keys(path)) - {"base"} for path in RECIPES.glob("*.yaml")}
    return sorted(
        name for name, keys in found.items() if keys <= set(known) or "model_type" in keys.intersection(known)
    )


def field_names(*classes: type) -> list[str]:
    return [entry.name for part in classes for entry in dataclasses.fields(part)]


def parse(argv: Sequence[str], *classes: type, defaults: Mapping[str, Any] | None = None) -> list[Any]:
    """`[recipe.yaml] [--key value ...]` -> an instance of each dataclass; the command line wins over the file.

    Args:
        defaults: values of keys that neither mentions, where they are not the dataclasses' own.

    Raises:
        FileNotFoundError, ValueError: one line, naming the key, the value and what was expected.
    """
    argv, known = list(argv), field_names(*classes)
    file = str(argv.pop(0)) if argv and not argv[0].startswith("-") else ""
    keys = read_yaml(find_recipe(file), known) if file else {}
    # By annotations: `HfArgumentParser` replaces the types of the fields themselves.
    kinds = {name: kind for part in classes for name, kind in get_type_hints(part).items() if name in known}
    # What it makes of a switch that is on.
    on = {entry.name for part in classes for entry in dataclasses.fields(part) if entry.default is True}
    flags = {f"no_{name}" for name in on if kinds[name] is bool}
    given = given_keys(argv)
    refuse_unknown([name for name in given if name not in flags | {"help"}], known, "the command line")
    for name, kind in kinds.items():
        if given.count(name) > 1 and _is_list(kind):  # of two lists the last would win, and who gives two wants both
            raise ValueError(
                f"--{name} is given {given.count(name)} times: give it once, and all of its values after it"
            )
    argv, emptied = _without_nothing(argv, {name for name, kind in kinds.items() if _may_be_nothing(kind)})
    # Through the command line, so that YAML's `5e-5`, a string to it, is read as the number it is meant to be.
    from_file = []
    for key, value in (dict(defaults or {}) | keys).items():
        if value in (None, []) or key in emptied:
            continue
        value = json.dumps(value) if isinstance(value, dict) else value
        from_file += [f"--{key}", *map(str, value)] if isinstance(value, list) else [f"--{key}={value}"]
    if file:
        _refuse_unread(_Parser(classes, f"the recipe {file}"), from_file, f"the recipe {file}")
    parser = _Parser(classes)
    # Before the values are looked at: what stands in the wrong place is missing elsewhere.
    _refuse_unread(parser, from_file + argv, "the command line")
    return list(parser.parse_args_into_dataclasses(from_file + argv, look_for_args_file=False))


def given_keys(argv: Sequence[str]) -> list[str]:
    """What a command line says something of: `--batch-size=32 --seed 1` -> `["batch_size", "seed"]`."""
    return [_key(argument) for argument in argv if argument.startswith("--")]


def _key(argument: str) -> str:
    return argument[2:].partition("=")[0].replace("-", "_")


def _is_list(kind: Any) -> bool:
    return any(get_origin(one) is list for one in (kind, *get_args(kind)))


def _may_be_nothing(kind: Any) -> bool:
    return type(None) in get_args(kind) or _is_list(kind)


def _without_nothing(argv: Sequence[str], keys: set[str]) -> tuple[list[str], set[str]]:
    """The command line without what it empties, `--key null`, and the keys of that."""
    left, emptied = list(argv), set()
    for at in reversed(range(len(argv))):
        name, equals, value = argv[at].partition("=")
        words = 1 if equals else 2
        said = value if equals else "".join(argv[at + 1 : at + 2])
        if name.startswith("--") and _key(name) in keys and said in NOTHING:
            emptied.add(_key(name))
            del left[at : at + words]
    return left, emptied


def _refuse_unread(parser: _Parser, arguments: Sequence[str], where: str) -> None:
    """Raises:
    ValueError: for what no key takes.
    """
    _, unread = parser.parse_known_args(arguments)
    if unread:
        raise ValueError(f"cannot place {' '.join(unread)!r} of {where}: give [recipe.yaml] [--key value ...]")
