import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf.planning import goal_cost


def naive_cost(predicted, goals, steps, reduction):
    """Loops over everything, in NumPy and float64."""
    problems, samples, horizon = predicted.shape[:3]
    costs = np.zeros((problems, samples))
    for b in range(problems):
        for s in range(samples):
            values = []
            for t in range(horizon) if steps == "path" else [horizon - 1]:
                distances = [np.sum((predicted[b, s, t] - goal) ** 2) for goal in goals[b]]
                values.append(min(distances) if reduction == "min" else np.mean(distances))
            costs[b, s] = np.mean(values)
    return costs


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    latent=st.sampled_from([(1,), (5,), (2, 3)]),
    goals=st.integers(1, 3),
    steps=st.sampled_from(["final", "path"]),
    reduction=st.sampled_from(["min", "mean"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_costs_equal_loops(shape, latent, goals, steps, reduction, seed):
    rng = np.random.default_rng(seed)
    predicted, goal = rng.normal(size=(*shape, *latent)), rng.normal(size=(shape[0], goals, *latent))
    expected = naive_cost(predicted, goal, steps, reduction)
    made = goal_cost(torch.tensor(predicted), torch.tensor(goal), steps, reduction)
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    if goals == 1:
        single = goal_cost(torch.tensor(predicted), torch.tensor(goal[:, 0]), steps, reduction)
        assert torch.equal(single, made)


def test_half_precision_predictions_are_judged_in_float32():
    predicted = torch.full((1, 1, 1, 300), 16.0, dtype=torch.float16)  # the sum of squares overflows float16
    assert goal_cost(predicted, torch.zeros(1, 300)).item() == 300 * 256


def test_unknown_words_and_shapes_are_refused():
    predicted = torch.zeros(2, 3, 4, 5)
    for arguments in [
        (torch.zeros(2, 5), "last"),
        (torch.zeros(2, 5), "final", "max"),
        (torch.zeros(2, 6),),
        (torch.zeros(3, 5),),
        (torch.zeros(5),),
    ]:
        with pytest.raises(ValueError, match="unknown|do not fit"):
            goal_cost(predicted, *arguments)
