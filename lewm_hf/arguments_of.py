"""Functions whose arguments are the fields of a dataclass, so that names, defaults and meanings are written once."""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .plain_numbers import make_plain

P = ParamSpec("P")
Given = TypeVar("Given")
Result = TypeVar("Result")


def arguments_of(dataclass: Callable[P, Given]) -> Callable[[Callable[[Given], Result]], Callable[P, Result]]:
    """Decorates a function of one instance of a dataclass: it is then called with the dataclass's own arguments.

    Numbers of arrays arrive as Python's, see `plain_numbers`.

    Type checkers, `inspect.signature` and `help` see these arguments; the docstring gets the dataclass's `Args:` before
    its own `Returns:`.

    Args:
        dataclass: what the call makes of its arguments; its docstring and those of the dataclasses that it is derived
            from end with a section `Args:`.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[[Given], Result]) -> Callable[P, Result]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> Result:
            given = dataclass(*args, **kwargs)
            make_plain(given)
            return function(given)

        returned = inspect.signature(function).return_annotation
        signature = inspect.signature(dataclass).replace(return_annotation=returned)
        called.__signature__ = signature  # type: ignore[attr-defined]
        types = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        called.__annotations__ = {**types, "return": returned}
        called.__doc__ = _documented(function, dataclass)
        return called

    return decorate


def _documented(function: Callable[..., Any], dataclass: Any) -> str:
    start, returns, rest = (inspect.getdoc(function) or "").partition("Returns:")
    texts = [inspect.cleandoc(vars(kind)["__doc__"] or "") for kind in dataclass.__mro__ if is_dataclass(kind)]
    meanings = "".join(text.partition("Args:")[2].rstrip() for text in texts)
    return f"{start}Args:{meanings}\n\n{returns}{rest}"
