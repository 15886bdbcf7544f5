"""Side work that must leave the run's random numbers alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_randomness(device: torch.device) -> Iterator[None]:
    """Restores the generators of Python, NumPy, torch and `device` afterwards.

    Evaluating more or less often then changes nothing about the training run.
    """
    python, numpy = random.getstate(), np.random.get_state()
    accelerator = device.type != "cpu" and hasattr(torch, device.type)
    forked = {"devices": [device.index or 0], "device_type": device.type} if accelerator else {"devices": []}
    try:
        with torch.random.fork_rng(**forked):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
