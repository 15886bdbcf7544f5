"""Functions whose arguments are the fields of a dataclass, so that names, defaults and meanings are written once."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Given = TypeVar("Given")
Result = TypeVar("Result")


def arguments_of(dataclass: Callable[P, Given]) -> Callable[[Callable[[Given], Result]], Callable[P, Result]]:
    """Decorates a function of one instance of a dataclass: it is then called with the dataclass's own arguments.

    Type checkers, `inspect.signature` and `help` see these arguments; the docstring gets the dataclass's `Args:` before
    its own `Returns:`.

    Args:
        dataclass: what the call makes of its arguments; its docstring ends with a section `Args:`.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[[Given], Result]) -> Callable[P, Result]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> Result:
            return function(dataclass(*args, **kwargs))

        returned = inspect.signature(function).return_annotation
        signature = inspect.signature(dataclass).replace(return_annotation=returned)
        called.__signature__ = signature  # type: ignore[attr-defined]
        types = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        called.__annotations__ = {**types, "return": returned}
        called.__doc__ = _documented(function, dataclass)
        return called

    return decorate


def _documented(function: Callable[..., Any], dataclass: Callable[..., Any]) -> str:
    start, returns, rest = (inspect.getdoc(function) or "").partition("Returns:")
    _, args, meanings = (inspect.getdoc(dataclass) or "").partition("Args:")
    return f"{start}{args}{meanings.rstrip()}\n\n{returns}{rest}"
