"""The `evaluate` modules, loaded offline from the package."""

import doctest
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, r2_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from lewm_hf.metrics import METRICS, load_metric, metric_path


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    evaluate = pytest.importorskip("evaluate")
    cache = tmp_path_factory.mktemp("evaluate")
    return {name: evaluate.load(metric_path(name), cache_dir=str(cache)) for name in METRICS}


def test_planning_success(metrics):
    rng = np.random.default_rng(0)
    agent, floor = rng.random(120) < 0.8, rng.random(120) < 0.3
    found = metrics["planning_success"].compute(predictions=agent.tolist(), references=floor.tolist())
    assert (found["success"], found["floor"], found["n"]) == (agent.mean(), floor.mean(), 120)
    assert found["excess"] == pytest.approx(agent.mean() - floor.mean())
    expected = proportion_confint(agent.sum(), 120, 0.05, "wilson")
    assert (found["success_low"], found["success_high"]) == pytest.approx(expected)
    table = [[sum(agent & floor), sum(agent & ~floor)], [sum(~agent & floor), sum(~agent & ~floor)]]
    assert found["p_value"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    wide = metrics["planning_success"].compute(predictions=agent, references=floor, confidence=0.99)
    assert wide["success_low"] < found["success_low"]


def test_batches_add_up(metrics):
    metric = metrics["planning_success"]
    metric.add_batch(predictions=[True, False], references=[False, False])
    metric.add_batch(predictions=[True, True], references=[False, True])
    assert metric.compute()["success"] == 0.75


@pytest.mark.parametrize("wrong", [0.5, 2, None, float("nan"), "False"])
def test_what_is_neither_success_nor_failure_is_no_success(metrics, wrong):
    """A share, a distance, or the words of a table."""
    metric = metrics["planning_success"]
    for given in ({"predictions": [wrong, 1], "references": [0, 1]}, {"predictions": [0, 1], "references": [1, wrong]}):
        with pytest.raises(ValueError, match="0 or 1|convert string|expected format"):
            metric.compute(**given)
    metric = metrics["planning_success"]
    assert metric.compute(predictions=[1.0, 0.0], references=[False, True])["success"] == 0.5


def test_probe_score(metrics):
    rng = np.random.default_rng(1)
    true = rng.normal(3, 5, (60, 3))
    predicted = true + rng.normal(0, 2, (60, 3))
    found = metrics["probe_score"].compute(predictions=predicted.tolist(), references=true.tolist())
    std = true.std(0)
    assert found["mse"] == pytest.approx(mean_squared_error(true / std, predicted / std))
    assert found["r2"] == pytest.approx(r2_score(true, predicted))
    assert found["r"] == pytest.approx(np.mean([np.corrcoef(predicted[:, i], true[:, i])[0, 1] for i in range(3)]))
    assert found["mse_sd"] == pytest.approx((((predicted - true) / std) ** 2).mean(1).std())
    other = metrics["probe_score"].compute(predictions=predicted, references=true, std=[1.0, 1.0, 1.0])
    assert other["mse"] == pytest.approx(mean_squared_error(true, predicted))
    with pytest.raises(ValueError, match="one per dimension"):
        metrics["probe_score"].compute(predictions=[[1.0], [2.0]], references=[[1.0], [1.0]])


def test_surprise_auc(metrics):
    rng = np.random.default_rng(2)
    events = np.repeat([0, 1], [70, 50])
    scores = rng.normal(events, 1)
    found = metrics["surprise_auc"].compute(predictions=scores.tolist(), references=events.tolist(), resamples=400)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(events, scores))
    # Hanley and McNeil's standard error, an independent formula.
    area, n1, n0 = found["roc_auc"], 50, 70
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (n1 - 1) * (q1 - area**2) + (n0 - 1) * (q2 - area**2)) / (n1 * n0))
    assert (found["roc_auc_low"], found["roc_auc_high"]) == pytest.approx(
        (area - 1.96 * error, area + 1.96 * error), abs=0.03
    )
    assert (found["event_mean"], found["n_usual"]) == (pytest.approx(scores[events == 1].mean()), 70)
    again = metrics["surprise_auc"].compute(predictions=scores.tolist(), references=events.tolist(), resamples=400)
    assert again == found


def test_examples_in_the_documentation_are_true(metrics):
    for name, metric in metrics.items():
        source = metric.inputs_description
        examples = doctest.DocTestParser().get_doctest(source, {}, name, None, None)
        assert len(examples.examples) >= 2
        results = doctest.DocTestRunner(verbose=False).run(examples)
        assert results.failed == 0, name


@pytest.mark.long
def test_they_load_in_a_fresh_process_without_a_network(tmp_path):
    code = (
        "import evaluate, json, sys\n"
        "m = evaluate.load(sys.argv[1])\n"
        "print(json.dumps(m.compute(predictions=[0.1, 0.9], references=[0, 1])))"
    )
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, metric_path("surprise_auc")],
        env=os.environ | offline,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["roc_auc"] == 1.0


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="use one of planning_success, probe_score, surprise_auc"):
        load_metric("accuracy")
