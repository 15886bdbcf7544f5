"""Random numbers of one planning problem: addressed, not consumed.

With one generator shared by all problems, a problem's candidates depend on its place in the batch, and success rates
with them (one checkpoint on PushT: 49 % solved one by one, 41 % in batches of 16).
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..plain_numbers import plain

Problem = int | str
# Of PyTorch's integers or NumPy's, whose operations on few numbers take a fifth of the time.
Integers = TypeVar("Integers", Tensor, NDArray[np.int64])

_WORD = 0xFFFFFFFF


def _multiply(factor: int, word: Integers) -> tuple[Integers, Integers]:
    """High and low 32 bits of a product of 32-bit words; int64 wraps, but keeps all 64 bits."""
    product = factor * word
    return (product >> 32) & _WORD, product & _WORD


def philox(
    counter: tuple[Integers, Integers, Integers, Integers], key: tuple[Integers, Integers]
) -> tuple[Integers, Integers, Integers, Integers]:
    """Philox 4x32-10 (Salmon et al. 2011): four random 32-bit words (in int64) per counter and key.

    A counter-based generator in integer arithmetic: the same bits on every device, for any number of counters at once.
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def check_problem(problem: Any) -> Problem:
    """A problem's name or number, out of NumPy's and torch's kinds of both too.

    Raises:
        ValueError: for anything else; numbers with a fraction would share the noise of others.
    """
    found = plain(problem)
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise ValueError(f"problem={problem!r} must be a whole number or a name")
    return found


def _address(seed: int, problem: Problem, replan: int) -> list[int]:
    """128 bits as four words. Hashed, so that no two addresses share a stream and names serve as well as numbers."""
    problem = check_problem(problem)
    digest = blake2b(repr((int(seed), problem, int(replan))).encode(), digest_size=16).digest()
    return [int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4)]


def problem_noise(
    seed: int,
    problems: Sequence[Problem],
    replans: Sequence[int],
    iterations: Iterable[int],
    shape: Sequence[int],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal numbers `(B, iterations, *shape)` in float32 for B problems.

    Row (b, i) is a pure function of (seed, problems[b], replans[b], iterations[i]): it depends neither on the batch
    nor on what was drawn before. It is made on `device`, where only addresses are copied to; devices agree to the
    rounding of `log` and `cos`.
    """
    size = math.prod(shape)
    address = [_address(seed, problem, replan) for problem, replan in zip(problems, replans, strict=True)]
    on_cpu = torch.device(device).type == "cpu"
    # An accelerator is waited for with every list that is copied there: one for the addresses, one for the iterations.
    integers: Any = partial(np.array, dtype=np.int64) if on_cpu else partial(torch.tensor, device=device)
    count: Any = partial(np.arange, dtype=np.int64) if on_cpu else partial(torch.arange, device=device)
    addressed = integers(address)
    word0, word1, word2, word3 = (addressed[:, part, None, None] for part in range(4))
    index = count((size + 3) // 4)
    iteration = integers(list(iterations))[:, None]
    words = philox((index, iteration, word2, word3), (word0, word1))
    # Box-Muller; the half keeps the logarithm's argument positive.
    numbers = torch.from_numpy(np.stack(words, -1)) if on_cpu else torch.stack(words, -1)
    uniform = (numbers.float() + 0.5) * 2.0**-32
    radius, angle = (-2 * uniform[..., 0::2].log()).sqrt(), 2 * math.pi * uniform[..., 1::2]
    normal = torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(-3)
    return normal[..., :size].unflatten(-1, tuple(shape))


def colored(noise: Tensor, beta: float, steps_per_block: int) -> Tensor:
    """White normal numbers `(..., blocks, A)` -> standard normal ones with the power spectrum `1 / f^beta`.

    The spectrum is that of each action dimension over the `blocks * steps_per_block` environment steps of a plan
    (Timmer and Koenig 1995; iCEM, Pinneri et al. 2020). The lowest frequency stands in for zero.

    Args:
        noise: `A = steps_per_block * action_dim`.
        beta: 0 changes nothing.
    """
    if not beta:
        return noise
    over_steps = noise.unflatten(-1, (steps_per_block, -1)).flatten(-3, -2)
    steps = over_steps.shape[-2]
    frequency = torch.fft.rfftfreq(steps, device=noise.device).clamp_min(1 / steps)
    scale = frequency.pow(-beta / 2)
    # Every frequency but zero and, of an even number, the highest stands for two of the full spectrum.
    weight = torch.full_like(scale, 2.0)
    weight[0] = 1.0
    if steps % 2 == 0:
        weight[-1] = 1.0
    scale = scale / ((weight * scale.square()).sum() / steps).sqrt()
    shaped = torch.fft.irfft(torch.fft.rfft(over_steps, dim=-2) * scale[:, None], n=steps, dim=-2)
    return shaped.unflatten(-2, (-1, steps_per_block)).flatten(-2)
