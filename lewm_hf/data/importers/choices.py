"""Recorded actions that name choices, as the one-hot vectors that a model and its planner know them by."""

from collections.abc import Sequence

import numpy as np


def one_hot(actions: np.ndarray, sizes: Sequence[int], every: int = 1) -> np.ndarray:
    """Actions as a source has them -> `(rows, every * sum(sizes))`, one-hot groups side by side.

    Args:
        actions: `(rows, every * n)`, of each row `every` actions; `n` numbers of the chosen values, counted from 0, or
            `sum(sizes)` numbers that are one-hot already. A row that was not recorded, NaN, stays so.
        sizes: how many values each choice has.

    Raises:
        ValueError: half a line for another width, and for the first action that chooses nothing of that.
    """
    chosen = actions.reshape(len(actions) * every, -1)
    recorded = np.isfinite(chosen).all(1)
    width, vectors = sum(sizes), np.full((len(chosen), sum(sizes)), np.nan)
    if chosen.shape[1] == len(sizes):
        with np.errstate(invalid="ignore"):
            whole = chosen % 1 == 0
        right = (whole & (chosen >= 0) & (chosen < np.asarray(sizes))).all(1)
        starts = np.cumsum((0, *sizes[:-1]))
        places = (starts + np.where(right[:, None], chosen, 0)).astype(int)
        found = np.zeros_like(vectors)
        np.put_along_axis(found, places, 1.0, axis=1)
        expected = f"numbers from 0 to {', '.join(str(size - 1) for size in sizes)}"
    elif chosen.shape[1] == width:
        groups = np.split(chosen, np.cumsum(sizes)[:-1], axis=1)
        right = np.isin(chosen, (0, 1)).all(1) & np.stack([group.sum(1) == 1 for group in groups], 1).all(1)
        found, expected = chosen, "a single 1 among the zeros of each choice"
    else:
        raise ValueError(
            f"has {chosen.shape[1]} numbers in an action, but action_choices={list(sizes)} are {len(sizes)} numbers of "
            f"values, or {width} that are 0 or 1"
        )
    if (wrong := recorded & ~right).any():
        values = ", ".join(f"{value:g}" for value in chosen[wrong.argmax()])
        raise ValueError(f"has the action [{values}], but action_choices={list(sizes)} want {expected}")
    vectors[recorded] = found[recorded]
    return vectors.reshape(len(actions), -1)
