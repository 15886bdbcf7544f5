"""Measured facts about episodes: the numbers of a data set's card, and the statistics that actions are scaled with."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..action_blocks import STD_FLOOR

logger = logging.getLogger(__name__)

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
GOAL_OFFSET = 25


def action_statistics(actions: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and population standard deviation of each action dimension, in float64.

    Args:
        actions: `(rows, action)`; rows with NaN (the last of an episode) do not count.

    A dimension that never moves is told in a warning: it is shifted but not scaled, and a model learns nothing of it.

    Raises:
        ValueError: where no row is left, or an action is infinite.
    """
    known = np.asarray(actions, dtype=np.float64)
    known = known[~np.isnan(known).any(1)]
    if not len(known):
        raise ValueError("there is no action to measure: every row has NaN")
    if not np.isfinite(known).all():
        raise ValueError("actions are infinite: repair or leave out their episodes")
    # Rounding would give a dimension that never changes a tiny deviation.
    constant = known.min(0) == known.max(0)
    mean, std = np.where(constant, known[0], known.mean(0)), np.where(constant, 0.0, known.std(0))
    if still := np.flatnonzero(std <= STD_FLOOR).tolist():
        logger.warning(
            "action dimensions %s never change in these %d rows: they are shifted by their mean and not scaled, and a "
            "model cannot learn what they do; leave them out, or record episodes in which they move",
            still, len(known),
        )  # fmt: skip
    return mean.tolist(), std.tolist()


def lag_one_autocorrelation(actions: np.ndarray, starts: np.ndarray) -> list[float | None]:
    """Pearson correlation of each action dimension with its successor, over all pairs within an episode.

    Args:
        actions: `(rows, action)`; pairs with NaN do not count.
        starts: `(rows,)` bool, the first row of each episode.

    Returns:
        One value per dimension, `None` where an action never changes or no episode has two actions.
    """
    actions = np.asarray(actions, dtype=np.float64)
    before, after = actions[:-1], actions[1:]
    pairs = ~starts[1:] & ~np.isnan(before).any(1) & ~np.isnan(after).any(1)
    before, after = before[pairs], after[pairs]
    if len(before) < 2:
        return [None] * actions.shape[1]
    before, after = before - before.mean(0), after - after.mean(0)
    scale = np.sqrt(np.square(before).sum(0) * np.square(after).sum(0))
    product = (before * after).sum(0)
    return [float(p / s) if s > 0 else None for p, s in zip(product, scale, strict=True)]


@dataclass(frozen=True)
class Facts:
    """What a data card states. Everything is measured on the rows, nothing is taken from the collector's word.

    Attributes:
        splits: split -> (episodes, rows).
        length_quantiles: rows per episode at 0, 5, 25, 50, 75, 95 and 100 %.
        length_mean: rows per episode.
        action_min, action_max, action_mean, action_std: per raw action dimension, over all splits.
        action_autocorrelation: lag one, per action dimension.
        successful_episodes: share of episodes that reach their goal; `None` without a `next.success` column.
        solved_pairs: share of pairs 25 steps apart whose start already satisfies the success rule with the later state
            as the goal; `None` for an unknown environment, or where no two rows are 25 steps apart.
        frame_bytes: mean size of a stored frame.
    """

    splits: dict[str, tuple[int, int]]
    length_quantiles: list[float]
    length_mean: float
    action_min: list[float]
    action_max: list[float]
    action_mean: list[float]
    action_std: list[float]
    action_autocorrelation: list[float | None]
    successful_episodes: float | None
    solved_pairs: float | None
    frame_bytes: float

    @property
    def episodes(self) -> int:
        return sum(episodes for episodes, _ in self.splits.values())

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.splits.values())


def measure(
    splits: dict[str, np.ndarray],
    actions: np.ndarray,
    success: np.ndarray | None,
    states: np.ndarray | None,
    reached: Callable[[np.ndarray, np.ndarray], np.ndarray] | None,
    frame_bytes: float,
    every: int = 1,
) -> Facts:
    """The facts of a data set.

    Args:
        splits: split -> rows of each episode; the other arguments hold the splits' rows in this order.
        actions: `(rows, every * action)`, the actions that leave each row.
        success: `(rows,)` bool or `None`.
        states: `(rows, state)`, simulator states, or `None`.
        reached: the environment's success rule on many (state, goal) pairs, or `None`.
        frame_bytes: mean size of a stored frame.
        every: simulator steps from a row to the next.
    """
    lengths = np.concatenate(list(splits.values())).astype(int)
    offsets = np.cumsum(lengths) - lengths
    # Blocks of an episode follow each other without a gap.
    actions = actions.reshape(len(actions) * every, -1)
    starts = np.zeros(len(actions), dtype=bool)
    starts[offsets * every] = True
    mean, std = action_statistics(actions)
    solved = None
    if reached is not None and states is not None and GOAL_OFFSET % every == 0:
        solved = solved_share(states, lengths, reached, GOAL_OFFSET // every)
    return Facts(
        splits={split: (len(rows), int(rows.sum())) for split, rows in splits.items()},
        length_quantiles=np.percentile(lengths, QUANTILES).tolist(),
        length_mean=float(lengths.mean()),
        action_min=np.nanmin(actions, axis=0).astype(float).tolist(),
        action_max=np.nanmax(actions, axis=0).astype(float).tolist(),
        action_mean=mean,
        action_std=std,
        action_autocorrelation=lag_one_autocorrelation(actions, starts),
        successful_episodes=None if success is None else float(np.logical_or.reduceat(success, offsets).mean()),
        solved_pairs=solved,
        frame_bytes=frame_bytes,
    )


def solved_share(
    states: np.ndarray,
    lengths: np.ndarray,
    reached: Callable[[np.ndarray, np.ndarray], np.ndarray],
    offset: int = GOAL_OFFSET,
) -> float | None:
    """Share of pairs of rows (t, t + offset) within an episode that the success rule calls solved at t."""
    frames = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.flatnonzero(frames + offset < np.repeat(lengths, lengths))
    if not len(rows):
        return None
    return float(np.mean(reached(states[rows], states[rows + offset])))
