"""What can be measured in an environment, as its class says it: probe targets and impossible events."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MAX_DRAWS = 1000


@dataclass(frozen=True)
class Target:
    """One property of the scene that a probe reads out of embeddings.

    Args:
        name: as in the paper, where it has the property.
        unit: of the raw values; sines and cosines have none.
        moving: a velocity, which one frame cannot show: probed from a window of embeddings too.
    """

    name: str
    unit: str = ""
    moving: bool = False


@dataclass(frozen=True)
class Events:
    """The impossible events of an environment: a body changes its color, and something is suddenly elsewhere.

    Args:
        policy: name of the task's policy that acts around them: the paper's choice where it has one.
        steps: environment steps of an episode.
        color: factor of variation that the color event changes.
        body: what it colors.
        moved: what the teleport (`StateEnv.teleport`) moves, and how far at least.
    """

    policy: str
    steps: int
    color: str
    body: str
    moved: str


def circle(angles: np.ndarray) -> np.ndarray:
    """Angles `(n,)` or `(n, k)` in rad -> sines and cosines `(n, 2k)`.

    A raw angle jumps where a turn ends, and no smooth probe can follow it. The paper does not say what it used.
    """
    angles = np.asarray(angles).reshape(len(angles), -1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def draw_until(draw: Callable[[], np.ndarray], accept: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
    """The first value of `draw` that `accept` takes.

    Raises:
        ValueError: where none of a thousand is, naming `what`.
    """
    for _ in range(MAX_DRAWS):
        value = draw()
        if accept(value):
            return value
    raise ValueError(f"no {what} satisfies its rule after {MAX_DRAWS} draws: use another seed")


def far_from(old: np.ndarray, distance: float) -> Callable[[np.ndarray], bool]:
    """Whether a vector is at least `distance` away from `old`."""
    return lambda new: bool(np.linalg.norm(new - old) >= distance)
