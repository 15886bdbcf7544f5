import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.overrides import TorchFunctionMode

from lewm_hf.planning.noise import philox, problem_noise

WORD = st.integers(0, 2**32 - 1)


def philox_of_the_paper(counter, key):
    """Algorithm of Salmon et al. (2011) in Python integers."""
    counter, key = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            (second >> 32) ^ counter[1] ^ key[0],
            second % 2**32,
            (first >> 32) ^ counter[3] ^ key[1],
            first % 2**32,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


def words(counter, key):
    """By PyTorch's integers, as on accelerators; NumPy's, as on CPUs, are the same."""
    made, same = (
        [word.item() for word in philox(*(tuple(integer([word]) for word in part) for part in (counter, key)))]
        for integer in (torch.tensor, np.array)
    )
    assert made == same
    return made


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    assert words(counter, key) == expected


@given(st.lists(WORD, min_size=4, max_size=4), st.lists(WORD, min_size=2, max_size=2))
@settings(max_examples=50, deadline=None)
def test_philox_equals_integer_arithmetic(counter, key):
    assert words(counter, key) == philox_of_the_paper(counter, key)


def test_numbers_are_standard_normal_and_uncorrelated():
    noise = problem_noise(7, [0, 1, "a"], [0, 0, 3], range(4), (50, 5, 10)).double()
    assert noise.shape == (3, 4, 50, 5, 10)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    streams = noise.flatten(2).flatten(0, 1)  # problems and iterations
    correlation = np.corrcoef(streams.numpy()) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5 / math.sqrt(streams.shape[1])
    lag = np.corrcoef(streams[:, :-1].flatten().numpy(), streams[:, 1:].flatten().numpy())[0, 1]
    assert abs(lag) < 5 / math.sqrt(streams.numel())


@given(
    seed=st.integers(-(2**63), 2**63),
    problem=st.one_of(st.integers(0, 10**12), st.text(max_size=5)),
    replan=st.integers(0, 50),
    iteration=st.integers(0, 40),
    size=st.integers(1, 9),
)
@settings(max_examples=30, deadline=None)
def test_a_number_depends_on_its_address_alone(seed, problem, replan, iteration, size):
    alone = problem_noise(seed, [problem], [replan], [iteration], (size, 3))[0, 0]
    among = problem_noise(seed, [5, problem, "x"], [9, replan, 0], range(iteration + 2), (size + 2, 3))
    assert torch.equal(among[1, iteration, :size], alone)
    other = problem_noise(seed + 1, [problem], [replan], [iteration], (size, 3))[0, 0]
    assert not torch.equal(other, alone)


def test_addresses_do_not_run_into_each_other():
    keys = [(1, 23, 4), (12, 3, 4), (1, 2, 34), (1, "23", 4), (-1, 23, 4)]
    firsts = [problem_noise(seed, [problem], [replan], [0], (4,))[0, 0] for seed, problem, replan in keys]
    assert len({tuple(first.tolist()) for first in firsts}) == len(keys)


def test_numpy_integers_and_strings_address_as_python_ones():
    plain = problem_noise(3, [4, "door"], [1, 0], [2], (6,))
    assert torch.equal(problem_noise(3, [np.int64(4), np.str_("door")], [np.int32(1), 0], [2], (6,)), plain)


def test_an_accelerator_is_sent_nothing_but_addresses():
    class Copies(TorchFunctionMode):
        numbers = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            self.numbers += made.numel() if function is torch.tensor else 0
            return made

    with Copies() as copies:
        noise = problem_noise(1, ["a", "b"], [0, 0], range(3), (300, 5, 10), "meta")
    assert noise.shape == (2, 3, 300, 5, 10) and copies.numbers == 2 * 4 + 3
