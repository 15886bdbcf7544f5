"""Which start-goal pairs a protocol admits, and drawing some of them, the same on every machine and NumPy version."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tasks.state_env import StateEnv
from .protocol import Protocol

PORTION = 100_000


@dataclass(frozen=True)
class PairCounts:
    """How many pairs a data set holds.

    Args:
        valid: rows whose episode goes on for `goal_offset` steps at least.
        solved_at_start: of these, pairs whose start already satisfies the success rule; 0 where the environment cannot
            tell.
        admitted: pairs that the protocol admits.
        episodes: episodes with at least one admitted pair.
    """

    valid: int
    solved_at_start: int
    admitted: int
    episodes: int


def select_pairs(
    episodes: Any, env: StateEnv, protocol: Protocol, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray, PairCounts]:
    """Draws `n` pairs by the protocol's rule.

    Every pair (and, for `draw: episodes`, every episode) has a pseudo-random rank, a pure function of the seed, the
    episode id and the frame; the `n` smallest ranks win. So the pairs of a smaller `n` are among those of a larger
    one, and neither the order of the rows nor NumPy's random streams matter.

    Args:
        episodes: an `EpisodeData`.
        env: an environment of the task with the success rule that will be evaluated.

    Returns:
        `rows` `(n,)` of the starts, sorted by episode and frame; `index` `(n,)` of their episodes; `PairCounts`.

    Raises:
        ValueError: where fewer than `n` pairs are admitted, or no two rows are `goal_offset` steps apart.
    """
    apart = episodes.rows_apart(protocol.goal_offset)
    lengths = np.asarray(episodes.lengths, dtype=np.int64)
    index = np.repeat(np.arange(len(lengths)), lengths)
    frames = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.asarray(episodes.offsets, dtype=np.int64)[index] + frames
    valid = frames + apart < lengths[index]
    index, frames, rows = index[valid], frames[valid], rows[valid]
    if not len(rows):
        longest = int(lengths.max(initial=0))
        raise ValueError(
            f"no episode is long enough for goal_offset={protocol.goal_offset}: the longest has {longest} rows, "
            f"{apart + 1} are needed; collect longer episodes, or change the protocol's goal_offset (--set, or "
            "eval_overrides in a recipe)"
        )
    solved, keep = np.empty(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
    for first in range(0, len(rows), PORTION):  # the states of all pairs at once may take gigabytes
        part = slice(first, first + PORTION)
        starts, goals = episodes.states[rows[part]], episodes.states[rows[part] + apart]
        solved[part] = env.reached(starts, goals) if env.knows_pairs else False
        if protocol.opposite_rooms:
            keep[part] = env.crosses(starts, goals)
    if protocol.drop_solved:
        keep &= ~solved
    if env.judge == "own goal" and episodes.success is not None and (keep & episodes.success[rows + apart]).any():
        keep &= episodes.success[rows + apart]  # the only pictures of a goal that the environment can judge
    counts = PairCounts(len(rows), int(solved.sum()), int(keep.sum()), len(np.unique(index[keep])))
    index, frames, rows = index[keep], frames[keep], rows[keep]
    ids = np.asarray(episodes.episode_ids)[index]

    order = draw_order("rows", seed, ids, frames)
    if protocol.draw == "episodes":
        # First the best frame of every episode, then the best episodes.
        _, best = np.unique(ids[order], return_index=True)
        order = order[best]
        order = order[draw_order("episodes", seed, ids[order], frames[order])]
    if len(order) < n:
        unit = "episodes with an admitted pair" if protocol.draw == "episodes" else "admitted pairs"
        raise ValueError(
            f"protocol {protocol.label} finds {len(order)} {unit} in {len(lengths)} episodes, but n={n} were "
            "asked for: ask for fewer pairs (-n; in a recipe eval_pairs), or collect more episodes"
        )
    chosen = order[:n]
    chosen = chosen[np.lexsort((frames[chosen], ids[chosen]))]
    return rows[chosen], index[chosen], counts


def draw_order(draw: str, seed: int, ids: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The order in which pairs are drawn: `(n,)` indices. `"rows"` ranks pairs, `"episodes"` ranks their episodes."""
    rank = _rank(seed, 1, ids, frames) if draw == "rows" else _rank(seed, 2, ids)
    return np.lexsort((frames, ids, rank))


def _rank(seed: int, purpose: int, *columns: np.ndarray) -> np.ndarray:
    """Uniform uint64 hashes of integer columns: splitmix64's finalizer (Steele et al. 2014), chained."""
    state = _mix(np.full(columns[0].shape, (seed * 4 + purpose) % 2**64, dtype=np.uint64))
    for column in columns:
        state = _mix(state ^ column.astype(np.int64).view(np.uint64))
    return state


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
