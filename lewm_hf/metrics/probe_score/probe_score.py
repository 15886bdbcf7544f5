"""How well a probe reads a property out of frozen embeddings: MSE of standardized values, Pearson r and R2."""

# `evaluate` reads these lines itself to find out what must be installed: one import per line.
from typing import Any

import datasets
import evaluate
import numpy as np

from lewm_hf.measures.correlation import pearson, r_squared

_DESCRIPTION = """
Scores of a regression probe as in the tables of the LeWM paper: mean squared error of the standardized target and
Pearson correlation, and the share of variance explained. Several dimensions are averaged.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of vectors, what the probe read.
    references: list of vectors, the true values, in the same units.
    std: standard deviation of the true values in the probe's training part, per dimension; default: of `references`.
Returns:
    mse: mean squared error in units of std, over all values; 1 for predicting the mean.
    mse_sd: standard deviation over rows of a row's squared error.
    r: Pearson correlation, mean over dimensions.
    r2: share of variance explained, mean over dimensions.
Examples:
    >>> from lewm_hf.metrics import load_metric
    >>> metric = load_metric("probe_score")
    >>> result = metric.compute(predictions=[[0.0], [1.0], [2.0]], references=[[0.0], [1.0], [2.0]])
    >>> result["mse"], result["r"], result["r2"]
    (0.0, 1.0, 1.0)
"""

_CITATION = """
@article{lewm, title={LeWorldModel}, journal={arXiv preprint arXiv:2603.19312}, year={2026}}
"""


class ProbeScore(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(self, predictions: Any, references: Any, std: Any = None) -> dict[str, Any]:
        predicted, true = np.array(predictions, dtype=float), np.array(references, dtype=float)
        r, r2 = pearson(predicted, true), r_squared(predicted, true)
        std = true.std(0) if std is None else np.asarray(std, dtype=float)
        if not (np.shape(std) in ((), true.shape[1:]) and np.all(std > 0)):
            raise ValueError(f"std={np.asarray(std).tolist()} must be positive, one per dimension: drop constants")
        errors = np.square((predicted - true) / std).mean(1)
        return {
            "mse": float(errors.mean()),
            "mse_sd": float(errors.std()),
            "r": float(r.mean()),
            "r2": float(r2.mean()),
        }
