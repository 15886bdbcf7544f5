"""How well a world model's surprise tells impossible events from ordinary ones: area under the ROC curve."""

# `evaluate` reads these lines itself to find out what must be installed: one import per line.
from typing import Any

import datasets
import evaluate
import numpy as np

from lewm_hf.measures.correlation import roc_auc

_DESCRIPTION = """
Detection of violations of expectation by surprise, the error of a world model's prediction: the chance that an episode
with an event is more surprising than one without, ties counting half. 0.5 is chance, 1 is perfect.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of float, surprise of each episode.
    references: list of int, 1 where the event happened, 0 where nothing did.
    resamples: bootstrap resamples of the interval, within events and within the others; default 1000.
    seed: of the bootstrap, default 0.
Returns:
    roc_auc, roc_auc_low, roc_auc_high: the area and its 95 % percentile bootstrap interval.
    event_mean, usual_mean: mean surprise with and without the event.
    n_events, n_usual: how many of each.
Examples:
    >>> from lewm_hf.metrics import load_metric
    >>> metric = load_metric("surprise_auc")
    >>> metric.compute(predictions=[0.1, 0.2, 0.9, 0.8], references=[0, 0, 1, 1])["roc_auc"]
    1.0
"""

_CITATION = """
@article{lewm, title={LeWorldModel}, journal={arXiv preprint arXiv:2603.19312}, year={2026}}
"""


class SurpriseAUC(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int32")}
            ),
        )

    def _compute(self, predictions: Any, references: Any, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
        scores, events = np.array(predictions, dtype=float), np.array(references)
        area = roc_auc(scores, events)
        event, usual = scores[events == 1], scores[events == 0]
        labels = np.repeat([1, 0], [len(event), len(usual)])
        rng = np.random.default_rng(seed)
        drawn = []
        for _ in range(resamples):
            again = np.concatenate([rng.choice(event, len(event)), rng.choice(usual, len(usual))])
            drawn.append(roc_auc(again, labels))
        low, high = np.quantile(drawn, [0.025, 0.975])
        return {
            "roc_auc": area,
            "roc_auc_low": float(low),
            "roc_auc_high": float(high),
            "event_mean": float(event.mean()),
            "usual_mean": float(usual.mean()),
            "n_events": len(event),
            "n_usual": len(usual),
        }
