"""Results: frozen dataclasses that are JSON objects too, read by attribute or by key as transformers' outputs are."""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, field
from functools import cache
from typing import Any, ClassVar, NoReturn, Self, Union, get_args, get_origin, get_type_hints


def named(name: str) -> Any:
    """Metadata of a field that has another name in JSON, one that is taken in Python."""
    return {"name": name}


def absent() -> Any:
    """A field that is left out of JSON where it is `None`."""
    return field(default=None, metadata={"absent": True})


class Record(dict[str, Any]):
    """Base of frozen dataclasses whose fields are plain values, other records, or lists and dictionaries of them.

    `record["rate"]` and `record.rate` are the same, and `json.dumps` writes it as the dictionary it is.
    """

    def __post_init__(self) -> None:
        for entry in _fields(type(self)):
            value = getattr(self, entry.name)
            if not (value is None and entry.metadata.get("absent")):
                # As JSON gives it back, so that a record equals what was read from its file.
                dict.__setitem__(self, _name(entry), list(value) if isinstance(value, tuple) else value)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and words, new ones."""
        return {key: _plain(value) for key, value in self.items()}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """What `to_json` gave, read again. Keys that nobody knows are passed over: a later version may write more.

        Raises:
            ValueError: where a field is missing or of another kind, naming it: `"lacks success.rate"`.
        """
        return cls._read(content, ())

    @classmethod
    def _read(cls, content: Any, place: tuple[str, ...]) -> Self:
        if not isinstance(content, Mapping):
            _refuse(place, content, "an object")
        entries = {_name(entry): entry for entry in _fields(cls)}
        missing = [
            ".".join((*place, name)) for name, entry in entries.items() if name not in content and not _optional(entry)
        ]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
        hints = _hints(cls)
        return cls(
            **{
                entry.name: _read(hints[entry.name], content[name], (*place, name))
                for name, entry in entries.items()
                if name in content
            }
        )

    def _frozen(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} does not change: make another one with dataclasses.replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _frozen

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), {entry.name: getattr(self, entry.name) for entry in _fields(type(self))})


class Result(Record):
    """A record that is a file of its own, which says what it is.

    Attributes:
        kind: what was measured; the file is `KIND.json`.
        format: number of the file's form.
    """

    kind: ClassVar[str]
    format: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, value in self.head().items():
            dict.__setitem__(self, name, value)
        super().__post_init__()

    @classmethod
    def head(cls) -> dict[str, Any]:
        """What the file begins with."""
        return {"format": cls.format, "kind": cls.kind}


def _restore(kind: type[Record], values: dict[str, Any]) -> Record:
    return kind(**values)


def _fields(kind: type) -> tuple[Field[Any], ...]:
    return dataclasses.fields(kind)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _name(entry: Field[Any]) -> str:
    return entry.metadata.get("name", entry.name)


def _optional(entry: Field[Any]) -> bool:
    return entry.default is not MISSING or entry.default_factory is not MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _read(kind: Any, value: Any, place: tuple[str, ...]) -> Any:
    """A value of JSON as what a field's annotation says."""
    if kind is Any:
        return value
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (kind,) = (one for one in inner if one is not type(None))
        return _read(kind, value, place)
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind._read(value, place)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            _refuse(place, value, "a list")
        return origin(_read(inner[0], one, (*place, str(number))) for number, one in enumerate(value))
    if origin is dict or kind is dict:
        if not isinstance(value, Mapping):
            _refuse(place, value, "an object")
        return dict(_entries(inner[1] if inner else Any, value, place))
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        _refuse(place, value, {str: "text", bool: "true or false"}.get(kind, "a number"))
    return value


def _entries(kind: Any, value: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, one in value.items():
        yield key, _read(kind, one, (*place, str(key)))


def _refuse(place: tuple[str, ...], value: Any, expected: str) -> NoReturn:
    described = f"a {type(value).__name__}" if isinstance(value, list | Mapping) else repr(value)
    raise ValueError(f"has {described} instead of {expected} under {'.'.join(place) or 'its first bracket'}")
