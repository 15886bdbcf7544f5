"""How well numbers predict other numbers. NumPy alone, float64 throughout."""

import numpy as np
from numpy.typing import ArrayLike


def pearson(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """Pearson correlation of each column: `(n, k)`, `(n, k)` -> `(k,)`. 0 where a column is constant.

    Raises:
        ValueError: for other shapes, fewer than 2 rows or values that are not finite.
    """
    first, second = (values - values.mean(0) for values in _matrices(predicted, true))
    norm = np.sqrt(np.square(first).sum(0) * np.square(second).sum(0))
    product = (first * second).sum(0)
    return np.clip(np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0), -1.0, 1.0)


def r_squared(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """Share of the variance explained, of each column: `(n, k)`, `(n, k)` -> `(k,)`; negative where the mean is better.

    For a constant true column 1 where it is met exactly and 0 otherwise, as in scikit-learn.
    """
    predicted, true = _matrices(predicted, true)
    error = np.square(predicted - true).sum(0)
    total = np.square(true - true.mean(0)).sum(0)
    constant = np.where(error > 0, 0.0, 1.0)
    return np.where(total > 0, 1 - np.divide(error, total, out=np.ones_like(total), where=total > 0), constant)


def ranks(values: ArrayLike) -> np.ndarray:
    """Ranks from 1 of `(n,)` values; equal ones share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two `(n,)` vectors; 0 where one is constant."""
    first, second = (np.asarray(values, dtype=np.float64) for values in (first, second))
    _matrices(first[:, None], second[:, None])
    return float(pearson(ranks(first)[:, None], ranks(second)[:, None])[0])


def roc_auc(scores: ArrayLike, events: ArrayLike) -> float:
    """Area under the ROC curve: the chance that an event scores higher than a non-event, ties counting half.

    Args:
        scores: `(n,)`, higher for more likely events.
        events: `(n,)` bool, or 0 and 1.

    Raises:
        ValueError: for other shapes or values, or unless both events and non-events occur.
    """
    scores, events = np.asarray(scores, dtype=np.float64), np.asarray(events)
    if scores.ndim != 1 or scores.shape != events.shape:
        raise ValueError(f"{scores.shape} scores and {events.shape} events do not match: give two equally long lists")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite: leave out what could not be scored")
    if not np.isin(events, (0, 1)).all():
        raise ValueError("events must be 0 or 1, false or true")
    events = events.astype(bool)
    positives, negatives = int(events.sum()), int((~events).sum())
    if not positives or not negatives:
        raise ValueError(f"{positives} events and {negatives} non-events: a ROC curve needs both")
    return float((ranks(scores)[events].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _matrices(predicted: ArrayLike, true: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if predicted.shape != true.shape or predicted.ndim != 2:
        raise ValueError(f"predicted {predicted.shape} and true {true.shape} do not match: give (n, k) twice")
    if len(true) < 2:
        raise ValueError(f"{len(true)} rows: at least 2 are needed")
    for name, values in (("predicted", predicted), ("true", true)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} values must be finite, row {int(np.argmin(np.isfinite(values).all(1)))} is not")
    return predicted, true
