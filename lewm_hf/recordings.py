"""Functions of tensors that threads call side by side without taking turns at Python.

Between any two operations a thread needs Python's lock, which one thread holds at a time. Where operations are small,
threads wait for it longer than they compute. A recording (`torch.jit.trace`) goes through the same operations in the
same order and needs the lock once, so numbers stay the same to the bit. Sixteen plans of a small model, 100 x 8
candidates each, on two cores of an AMD EPYC: 137 to 148 ms a plan with one thread, 132 to 159 with two at twice the
processor time, 73 with two and recordings.
"""

import sys
import threading
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# PyTorch names no successor of tracing that needs no compiler, and says that it may break from this Python on: there
# threads take turns.
SUPPORTED = sys.version_info < (3, 14)
# PyTorch never frees a recording, which takes about 10 MB for five blocks. What comes in further shapes is called.
MOST = 32


class Recordings:
    """Recordings of functions, made when one meets tensors of new shapes. Several threads may call it at once."""

    def __init__(self) -> None:
        self._made: dict[tuple, Callable[..., Tensor]] = {}
        self._lock = threading.Lock()

    def __call__(self, function: Callable[..., Tensor], weights: Sequence[Tensor], *inputs: Tensor | None) -> Tensor:
        """`function(*inputs)`.

        Args:
            function: computes a tensor from the inputs, `weights` and numbers that never change; told from others by
                its name.
            weights: all other tensors that it reads, these very objects; in every call of the same shapes and in the
                same order. They are no part of a recording, which outlives them.
            inputs: of any shapes; `None` stays `None`.
        """
        if not SUPPORTED:
            return function(*inputs)
        kind = (function.__name__, *(None if one is None else (one.shape, one.dtype) for one in inputs))
        with self._lock:
            recording = self._made.get(kind)
            if recording is None and len(self._made) < MOST:
                recording = self._made[kind] = _record(function, weights, inputs)
        if recording is None:
            return function(*inputs)
        # As recorded, a thread's own setting: nothing is fused or folded, which would change roundings.
        with torch.jit.optimized_execution(False):
            return recording(*weights, *(one for one in inputs if one is not None))


def _record(
    function: Callable[..., Tensor], weights: Sequence[Tensor], inputs: tuple[Tensor | None, ...]
) -> Callable[..., Tensor]:
    def of_given(*given: Tensor) -> Tensor:
        left = iter(given[len(weights) :])
        return function(*(None if one is None else next(left) for one in inputs))

    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes are constants of a recording: that is what its kind is for
        copies = tuple(one.clone() for one in inputs if one is not None)
        return torch.jit.trace(of_given, (*weights, *copies), check_trace=False)
