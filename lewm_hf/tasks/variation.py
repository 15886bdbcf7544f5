"""Factors of variation: named properties of a scene that a reset may resample.

A factor has a dotted name (`"agent.color"`), an initial value, a range or a list of choices, and optionally a
constraint that rejects draws. Every reset restores all initial values and then resamples only the names asked for, in
the order of declaration, whatever the order in which they were asked.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_DRAWS = 1000

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Factor(ABC):
    """One property of a scene.

    Args:
        initial: the value that every reset restores.
        constraint: `constraint(value, values)` tells whether `value` is acceptable beside the current `values` of the
            other factors. Factors declared earlier have their new value, later ones their initial or explicit value.
        rule: the constraint in words, for the error message.
    """

    initial: Any
    constraint: Callable[[Any, Mapping[str, Any]], bool] | None = None
    rule: str = "its constraint"

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Any:
        """One value of the range."""

    @abstractmethod
    def check(self, value: Any) -> Any:
        """`value` in the factor's own type. Raises `ValueError` (a reason without the name) outside the range."""


@dataclass(frozen=True, kw_only=True)
class Uniform(Factor):
    """Real numbers, uniform in `[low, high]`; an array where `initial` is one, with bounds per entry or common."""

    low: Any
    high: Any

    def draw(self, rng: np.random.Generator) -> Any:
        if np.ndim(self.initial) == 0:
            return float(rng.uniform(self.low, self.high))
        return rng.uniform(self.low, self.high, size=np.shape(self.initial))

    def check(self, value: Any) -> Any:
        return _within(value, self, np.float64)


@dataclass(frozen=True, kw_only=True)
class Integers(Factor):
    """Integers, uniform in `[low, high]`, both ends included; an array where `initial` is one."""

    low: Any
    high: Any

    def draw(self, rng: np.random.Generator) -> Any:
        if np.ndim(self.initial) == 0:
            return int(rng.integers(self.low, self.high, endpoint=True))
        return rng.integers(self.low, self.high, size=np.shape(self.initial), endpoint=True)

    def check(self, value: Any) -> Any:
        return _within(value, self, np.int64)


@dataclass(frozen=True, kw_only=True)
class Choice(Factor):
    """One of a few values, all equally likely."""

    choices: tuple

    def draw(self, rng: np.random.Generator) -> Any:
        return self.choices[int(rng.integers(len(self.choices)))]

    def check(self, value: Any) -> Any:
        if value not in self.choices:
            raise ValueError(f"is none of {', '.join(map(str, self.choices))}")
        return value


def _within(value: Any, factor: Uniform | Integers, dtype: type) -> Any:
    shape = np.shape(factor.initial)
    try:
        given = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"is not numeric: expected shape {shape}") from error
    if given.shape != shape:
        raise ValueError(f"has shape {given.shape}: expected {shape}")
    # NaN fails the comparison, so it is refused here too.
    if not np.all((given >= factor.low) & (given <= factor.high)):
        raise ValueError(f"is outside [{factor.low}, {factor.high}]")
    if dtype is np.int64 and np.any(given != np.floor(given)):
        raise ValueError("must be whole")
    cast: np.ndarray = given.astype(dtype)
    return cast if shape else cast.item()


class VariationSpace:
    """All factors of one environment, in sampling order.

    Args:
        factors: dotted name -> factor; the order is the sampling order.
        default: names that a reset resamples when none are asked for.
    """

    def __init__(self, factors: Mapping[str, Factor], default: Iterable[str] = ()):
        self.factors = dict(factors)
        self.default = tuple(default)
        self.expand(self.default)

    @property
    def names(self) -> tuple[str, ...]:
        """Dotted names of all factors."""
        return tuple(self.factors)

    def initial_values(self) -> Values:
        """A fresh dict of the initial values."""
        return {name: _copy(factor.initial) for name, factor in self.factors.items()}

    def expand(self, names: Iterable[str]) -> set[str]:
        """Factor names behind `names`: each a factor, a group (`"agent"` for every `"agent.*"`) or `"all"`.

        Raises:
            ValueError: for an unknown name, listing the known ones.
        """
        if isinstance(names, str):
            raise ValueError(f"variation={names!r} must be a list of names: write [{names!r}]")
        found = set()
        for name in names:
            members = {known for known in self.factors if name in ("all", known) or known.startswith(f"{name}.")}
            if not members:
                raise ValueError(f"unknown factor of variation {name!r}: use 'all' or any of {', '.join(self.names)}")
            found |= members
        return found

    def sample(
        self,
        rng: np.random.Generator,
        names: Iterable[str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Values:
        """New values of all factors.

        Args:
            rng: the only source of randomness.
            names: what to resample; `None` means the default names, an empty list nothing.
            values: explicit values; these factors are not resampled.

        Raises:
            ValueError: for unknown names, explicit values outside their range, explicit values that break a
                constraint, and constraints that no draw out of 1,000 satisfies.
        """
        resampled = self.expand(self.default if names is None else names)
        explicit = self._check_values(values or {})
        current = self.initial_values() | explicit
        for name in self.factors:
            if name in resampled and name not in explicit:
                current[name] = self._draw(name, rng, current)
            elif name in explicit:
                self._check_constraint(name, current)
        return current

    def resolve(self, values: Mapping[str, Any] | None = None) -> Values:
        """The initial values of all factors, except those given.

        Raises:
            ValueError: for unknown names, values outside their range or against a constraint.
        """
        explicit = self._check_values(values or {})
        current = self.initial_values() | explicit
        for name in explicit:
            self._check_constraint(name, current)
        return current

    def _check_values(self, values: Mapping[str, Any]) -> Values:
        checked = {}
        for name, value in values.items():
            if name not in self.factors:
                raise ValueError(f"unknown factor of variation {name!r}: use any of {', '.join(self.names)}")
            try:
                checked[name] = self.factors[name].check(value)
            except ValueError as error:
                raise ValueError(f"variation value {name}={value!r} {error}") from error
        return checked

    def _check_constraint(self, name: str, current: Mapping[str, Any]) -> None:
        factor = self.factors[name]
        if factor.constraint is not None and not factor.constraint(current[name], current):
            raise ValueError(f"variation value {name}={current[name]!r} breaks its constraint: {factor.rule}")

    def _draw(self, name: str, rng: np.random.Generator, current: Mapping[str, Any]) -> Any:
        factor = self.factors[name]
        for _ in range(MAX_DRAWS):
            value = factor.draw(rng)
            if factor.constraint is None or factor.constraint(value, current):
                return value
        raise ValueError(
            f"no value of {name} satisfies its constraint after {MAX_DRAWS} draws ({factor.rule}): "
            "change the explicit variation values"
        )


def _copy(value: Any) -> Any:
    return np.array(value) if np.ndim(value) else value
