"""What concerns the machine: precision, signals, and random numbers of side work."""

import random
import signal

import numpy as np
import pytest
import torch

from lewm_hf.randomness import preserved_randomness
from lewm_hf.training.interruption import StopRequest
from lewm_hf.training.precision import mixed_precision, training_device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "precision", "expected"),
    [
        ({"avx512_bf16": True}, "auto", "bf16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "auto", "bf16"),
        ({"avx2": True, "avx512_bf16": False}, "auto", "no"),
        ({}, "auto", "no"),
        ({}, "bf16", "bf16"),
        ({"avx512_bf16": True}, "fp32", "no"),
    ],
)
def test_auto_takes_bf16_where_the_processor_has_it(monkeypatch, capabilities, precision, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert mixed_precision(precision, CPU) == expected


def test_bf16_is_refused_where_an_accelerator_lacks_it(monkeypatch):
    monkeypatch.setattr("lewm_hf.training.precision.is_bf16_available", lambda: False)
    assert mixed_precision("auto", torch.device("xpu")) == "no"
    with pytest.raises(ValueError, match="bf16 is not supported by this xpu"):
        mixed_precision("bf16", torch.device("xpu"))


def test_the_device_is_the_one_that_accelerate_chooses(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("xpu"))
    assert training_device() == torch.device("xpu")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert training_device() == CPU
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert training_device() == CPU


def test_the_second_signal_does_what_it_always_did():
    # A process started in the background of a script ignores SIGINT from the beginning.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _stop_twice()
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_twice():
    with StopRequest() as stop:
        assert stop.signum is None
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_side_work_leaves_every_generator_alone():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(RuntimeError), preserved_randomness(CPU):
        draw()
        torch.manual_seed(7)
        raise RuntimeError
    assert draw() == expected
