"""How moments of an environment that knows nothing of this package are named and found again: by a state vector of its
own, or by the seed of a reset and the actions since.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

REPLAYED = ("reset_seed", "step")


def own_state(env: gymnasium.Env) -> np.ndarray:
    """What the unwrapped environment's `get_state` says: a vector, float64."""
    return np.array(env.unwrapped.get_state(), dtype=np.float64, copy=True).ravel()


def own_state_names(env: gymnasium.Env, env_id: str) -> tuple[str, ...] | None:
    """Names of the numbers of an environment's own state, `None` where it has none: no `get_state` and no `set_state`.

    Raises:
        ValueError: one line where it has one of the two alone, or they are no inverses.
    """
    inner: Any = env.unwrapped
    able = [callable(getattr(inner, name, None)) for name in ("get_state", "set_state")]
    if able[0] != able[1]:
        there, missing = ("get_state", "set_state") if able[0] else ("set_state", "get_state")
        raise ValueError(
            f"{env_id} has {there}() but no {missing}(): add it, or take {there}() away, and episodes are replayed "
            "instead"
        )
    if not all(able):
        return None
    state = own_state(env)
    inner.set_state(state.copy())
    if not np.array_equal(own_state(env), state):
        raise ValueError(
            f"{env_id}: set_state(get_state()) does not give the state back: make them exact inverses, or take both "
            "away, and episodes are replayed instead"
        )
    named = tuple(getattr(inner, "state_names", ()))
    return named if len(named) == len(state) else tuple(f"state_{i}" for i in range(len(state)))


class Replay:
    """The actions by which a state `(reset seed, steps since)` is reached again.

    Args:
        env_id: for messages.

    Attributes:
        known: of recorded episodes, by their reset seed.
        seed, taken: of the reset that the present episode began with, and its action vectors so far.
    """

    def __init__(self, env_id: str):
        self.env_id = env_id
        self.known: dict[int, np.ndarray] = {}
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Forgets the present episode for the one that was just reset with `seed`."""
        self.seed: int = seed
        self.taken: list[np.ndarray] = []

    def state(self) -> np.ndarray:
        return np.array([self.seed, len(self.taken)], dtype=np.float64)

    def remember(self, episodes: Any) -> None:
        """Takes the actions of recorded episodes, an `EpisodeData`, in place of those of others."""
        states = episodes.states
        self.known = {
            int(states[offset, 0]): episodes.actions[offset : offset + length - 1]
            for offset, length in zip(episodes.offsets, episodes.lengths, strict=True)
        }

    def way(self, state: np.ndarray) -> tuple[int, Sequence[np.ndarray]]:
        """The reset seed and the actions that lead to a state.

        Raises:
            ValueError: one line where these are not known.
        """
        seed, step = (int(value) for value in state)
        known = self.known.get(seed, self.taken if seed == self.seed else ())
        if len(known) < step:
            raise ValueError(
                f"{self.env_id} has no set_state, and step {step} of the episode with reset seed {seed} is not among "
                "the recorded ones: give the episodes that it comes from (--episodes)"
            )
        return seed, list(known[:step])
