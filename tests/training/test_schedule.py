import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup

from lewm_hf.training.schedule import RunLength, learning_rate


@pytest.mark.parametrize(("steps", "fraction"), [(1, 0.01), (40, 0.0), (100, 0.01), (333, 0.1), (7, 0.99)])
def test_learning_rate_equals_that_of_transformers(steps, fraction):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=3e-4)
    scheduler = get_cosine_schedule_with_warmup(optimizer, int(fraction * steps), steps)
    for step in range(steps):
        assert learning_rate(step, steps, fraction, 3e-4) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12, abs=0)
        optimizer.step()
        scheduler.step()


@given(st.integers(1, 100_000), st.floats(0, 0.5), st.data())
def test_learning_rate_by_its_formula(steps, fraction, data):
    step = data.draw(st.integers(0, steps))
    warmup = math.floor(fraction * steps)
    expected = step / warmup if step < warmup else math.cos(math.pi / 2 * (step - warmup) / (steps - warmup)) ** 2
    assert learning_rate(step, steps, fraction, 1.0) == pytest.approx(expected, abs=1e-9)


def test_released_recipe_keeps_the_learning_rate_near_its_peak():
    # TwoRoom: 5,138 steps per epoch, laid out for 100 epochs and stopped after 10.
    length = RunLength.of(5138, schedule_epochs=100, stop_epoch=10)
    assert (length.steps, length.schedule_steps) == (51_380, 513_800)
    assert learning_rate(5138, length.schedule_steps, 0.01, 5e-5) == pytest.approx(5e-5)
    assert learning_rate(length.steps, length.schedule_steps, 0.01, 1.0) == pytest.approx(0.98, abs=0.005)


def test_schedule_spans_the_steps_that_are_run_unless_stopped_early():
    assert RunLength.of(10, schedule_epochs=3) == RunLength(30, 30)
    assert RunLength.of(10, schedule_epochs=0.5) == RunLength(5, 5)
    assert RunLength.of(10, max_steps=7, schedule_epochs=100, stop_epoch=10) == RunLength(7, 7)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "max_steps"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"schedule_epochs": -1}, "schedule_epochs=-1"),
        ({"schedule_epochs": 5, "stop_epoch": 6}, "stop_epoch=6"),
        ({"stop_epoch": 3}, "schedule_epochs"),
    ],
)
def test_impossible_lengths_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        RunLength.of(10, **options)
