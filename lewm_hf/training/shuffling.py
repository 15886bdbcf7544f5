"""A permutation of any size that is computed where it is asked for, and stored nowhere.

A Feistel network on pairs of digits is a bijection whatever its round function; where it has a few numbers too many,
it is repeated until one of the wanted comes out, which keeps it a bijection (Black and Rogaway, "Ciphers with arbitrary
finite domains", CT-RSA 2002, sections 3 and 5). The round function is SplitMix64's mixer (Steele et al. 2014).
"""

from collections.abc import Sequence
from math import isqrt

import numpy as np

ROUNDS = 8


def mixed(values: np.ndarray, key: np.uint64) -> np.ndarray:
    """uint64 -> uint64, each bit of the result depending on every bit of value and key."""
    values = (values + key) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Permutation:
    """A pseudorandom permutation of `0 .. size - 1`, a pure function of `seed`.

    Args:
        size: at most 2^62.
        seed: numbers that name it, such as `(seed, epoch)`.
    """

    def __init__(self, size: int, seed: Sequence[int]):
        self.size = np.uint64(size)
        # As square as can be: fewer than 2 sqrt(size) numbers too many.
        self.high = np.uint64(max(1, isqrt(max(0, size - 1)) + 1))
        self.low = np.uint64(max(1, -(-size // int(self.high))))
        self.keys = np.random.SeedSequence(list(seed)).generate_state(ROUNDS, np.uint64)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """The numbers at places `index` `(n,)`, int64.

        Raises:
            IndexError: for a place that does not exist.
        """
        index = np.asarray(index)
        if len(index) and not 0 <= index.min() <= index.max() < self.size:
            raise IndexError(f"places {index.min()} to {index.max()} do not all exist: there are {self.size}")
        numbers = self._network(index.astype(np.uint64))
        while (outside := numbers >= self.size).any():
            numbers[outside] = self._network(numbers[outside])
        return numbers.astype(np.int64)

    def _network(self, numbers: np.ndarray) -> np.ndarray:
        high, low = np.divmod(numbers, self.low)
        for number, key in enumerate(self.keys):
            if number % 2:
                low = (low + mixed(high, key) % self.low) % self.low
            else:
                high = (high + mixed(low, key) % self.high) % self.high
        return high * self.low + low
