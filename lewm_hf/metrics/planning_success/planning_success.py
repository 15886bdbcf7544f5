"""Planning success with its interval, beside what a blind policy reaches on the same start-goal pairs."""

# `evaluate` reads these lines itself to find out what must be installed: one import per line.
from typing import Any

import datasets
import evaluate

from lewm_hf.measures.intervals import mcnemar, wilson_interval

_DESCRIPTION = """
Success rate of goal-conditioned planning. A rate means little by itself: pairs that start solved and pairs that random
actions solve count too. So the rate comes with its Wilson interval, the rate of a blind policy on the same pairs, the
excess over it and McNemar's exact test.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of bool, whether the agent reached the goal of each pair.
    references: list of bool, whether a blind policy (uniform random actions) reached the goal of the same pair.
    confidence: of the intervals, default 0.95.
Returns:
    success, success_low, success_high: rate in [0, 1] and its Wilson interval.
    floor, floor_low, floor_high: the same of the blind policy.
    excess: success minus floor.
    p_value: McNemar's exact test, two-sided.
    n: number of pairs.
Examples:
    >>> from lewm_hf.metrics import load_metric
    >>> metric = load_metric("planning_success")
    >>> result = metric.compute(predictions=[True, True, True, False], references=[True, False, False, False])
    >>> result["success"], result["floor"], result["excess"]
    (0.75, 0.25, 0.5)
"""

_CITATION = """
@article{lewm, title={LeWorldModel}, journal={arXiv preprint arXiv:2603.19312}, year={2026}}
"""


class PlanningSuccess(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            # As bool a distance, a share or the word "False" would be a success.
            features=datasets.Features({name: datasets.Value("float64") for name in ("predictions", "references")}),
        )

    def _compute(self, predictions: Any, references: Any, confidence: float = 0.95) -> dict[str, Any]:
        for name, values in (("predictions", predictions), ("references", references)):
            if wrong := [value for value in values if value not in (0, 1)]:
                raise ValueError(
                    f"{name} must be 0 or 1, false or true, and not {wrong[0]}: whether each goal was reached"
                )
        n, successes, floor = len(predictions), int(sum(predictions)), int(sum(references))
        success_low, success_high = wilson_interval(successes, n, confidence)
        floor_low, floor_high = wilson_interval(floor, n, confidence)
        return {
            "success": successes / n,
            "success_low": success_low,
            "success_high": success_high,
            "floor": floor / n,
            "floor_low": floor_low,
            "floor_high": floor_high,
            "excess": (successes - floor) / n,
            "p_value": mcnemar(predictions, references).p_value,
            "n": n,
        }
