"""Actions as vectors: what a world model sees of any action space, and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space


class OneHot(Box):
    """Vectors of one-hot groups, one group per choice: `(sum(choices),)` float32, of which each group holds a single 1.

    Args:
        choices: how many values each choice has; `(2,)` for left or right.
    """

    def __init__(self, choices: tuple[int, ...]):
        super().__init__(0.0, 1.0, (sum(choices),))
        self.choices = tuple(int(count) for count in choices)

    def encode(self, chosen: Any) -> np.ndarray:
        """Numbers of the chosen values, one per group, counted from 0 -> `(sum(choices),)`."""
        vector = np.zeros(self.shape, dtype=np.float32)
        vector[self._starts() + np.asarray(chosen, dtype=np.int64).reshape(-1)] = 1.0
        return vector

    def decode(self, vector: np.ndarray) -> np.ndarray:
        """The largest entry of each group -> numbers of the chosen values, `(groups,)` int64."""
        parts = np.split(np.asarray(vector), self._starts()[1:])
        return np.array([part.argmax() for part in parts], dtype=np.int64)

    def _starts(self) -> np.ndarray:
        return np.cumsum((0, *self.choices[:-1]))


class WholeNumbers(Box):
    """Vectors of whole numbers, `(n,)` float32, within bounds that are whole numbers too."""


def draw_action(space: Box, rng: np.random.Generator) -> np.ndarray:
    """A uniform action of a bounded space, float32: within the bounds, a whole number where the space has no others, or
    one value of every choice.
    """
    if isinstance(space, OneHot):
        return space.encode([rng.integers(count) for count in space.choices])
    if isinstance(space, WholeNumbers):
        # Half a number beyond both ends: what is rounded to an end comes from as far around it as with the others.
        drawn = np.rint(rng.uniform(space.low - 0.5, space.high + 0.5))
        return np.clip(drawn, space.low, space.high).astype(np.float32)
    return rng.uniform(space.low, space.high).astype(np.float32)


@dataclass(frozen=True)
class ActionVectors:
    """Between an environment's actions and vectors.

    Args:
        original: the environment's action space.
        space: of the vectors, a `Box` of one dimension; a `OneHot` where the environment wants choices, and
            `WholeNumbers` where it takes no others.
    """

    original: Space
    space: Box

    @classmethod
    def of(cls, space: Space, name: str) -> "ActionVectors":
        """The vectors of an action space.

        Args:
            name: what the error message calls the environment.

        Raises:
            ValueError: one line for a space that is made of several others, or of text.
        """
        if isinstance(space, Discrete):
            return cls(space, OneHot((int(space.n),)))
        if isinstance(space, MultiDiscrete):
            return cls(space, OneHot(tuple(space.nvec.ravel().tolist())))
        if isinstance(space, MultiBinary):
            return cls(space, OneHot((2,) * int(np.prod(space.shape))))
        if isinstance(space, Box):
            kind = WholeNumbers if space.dtype.kind in "iu" else Box
            return cls(space, kind(space.low.ravel(), space.high.ravel(), dtype=np.float32))
        raise ValueError(
            f"{name} takes actions of {space}, which is neither a Box nor a choice (Discrete, MultiDiscrete, "
            "MultiBinary): flatten its action space first"
        )

    def vector(self, action: Any) -> np.ndarray:
        """An action as the environment takes it, or a vector of it -> a vector of `space`, float32: what is executed,
        within the bounds, and whole numbers where the environment takes no others.

        Raises:
            ValueError: for what is neither, or NaN.
        """
        given = np.asarray(action)
        if isinstance(self.space, OneHot):
            if given.shape == self.space.shape:
                return self.space.encode(self.space.decode(given))
            return self._chosen(given)
        if given.size != self.space.shape[0] or given.dtype.kind not in "fiub" or not np.isfinite(given).all():
            raise ValueError(f"action={action!r} must be {self.space.shape[0]} finite numbers, as {self.original} says")
        vector = np.clip(given.ravel().astype(np.float32), self.space.low, self.space.high)
        return self._executed(vector)

    def action(self, vector: np.ndarray) -> Any:
        """A vector of `space` -> the action that the environment takes."""
        original = self.original
        if not isinstance(self.space, OneHot):
            return self._executed(np.asarray(vector)).reshape(original.shape).astype(original.dtype)
        chosen = self.space.decode(vector)
        if isinstance(original, Discrete):
            return int(original.start + chosen[0])
        start = getattr(original, "start", 0)
        return (chosen.reshape(original.shape) + start).astype(original.dtype)

    def _executed(self, vector: np.ndarray) -> np.ndarray:
        return np.rint(vector) if isinstance(self.space, WholeNumbers) else vector

    def _chosen(self, given: np.ndarray) -> np.ndarray:
        start = np.asarray(getattr(self.original, "start", 0))
        numbers = given.ravel() - start.ravel()
        counts = np.array(self.space.choices)
        if (
            given.dtype.kind not in "iub"
            or numbers.shape != counts.shape
            or ((numbers < 0) | (numbers >= counts)).any()
        ):
            raise ValueError(f"action={given.tolist()!r} is none of {self.original}: give one of its values")
        return self.space.encode(numbers)
