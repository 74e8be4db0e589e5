"""The order of rows in an epoch, and which of them are whose: functions of their arguments alone."""

import math

import numpy as np

from demiurgic_jax.errors import UserError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 12


def hashed(*values: int | np.ndarray) -> np.ndarray:
    """uint64 hashes of tuples of integers, arrays of them element by element.

    SplitMix64 (Steele, Lea and Flood 2014), written out here because NumPy keeps its generators' streams the same
    only within a release.
    """
    state = np.zeros(1, np.uint64)
    for value in values:
        word = value.astype(np.uint64) if isinstance(value, np.ndarray) else np.uint64(value & 0xFFFFFFFFFFFFFFFF)
        state = _mixed((state ^ word) + _GOLDEN)
    return state


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permuted(seed: int, epoch: int, places: np.ndarray, size: int) -> np.ndarray:
    """What stands at `places` (int64, 0..size-1) in the permutation of 0..size-1 that belongs to (seed, epoch).

    No other place is looked at, so any step of any epoch costs the same. A Feistel network over a·b ≥ size numbers,
    walked until it lands below `size` (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    a = math.isqrt(size - 1) + 1 if size > 1 else 1
    b = -(-size // a)
    key = int(hashed(seed, epoch)[0])
    result = np.array(places, np.int64)
    walking = np.arange(len(result))
    while len(walking):
        left, right = np.divmod(result[walking], b)
        for turn in range(0, _ROUNDS, 2):
            left = (left + (hashed(key, turn, right) % np.uint64(a)).astype(np.int64)) % a
            right = (right + (hashed(key, turn + 1, left) % np.uint64(b)).astype(np.int64)) % b
        result[walking] = left * b + right
        walking = walking[result[walking] >= size]
    return result


def process_share(batch_size: int, process_index: int, process_count: int) -> slice:
    """The contiguous rows of a global batch that one process reads. Raises UserError if they do not divide."""
    if batch_size % process_count:
        raise UserError(
            f"the batch size {batch_size} does not divide over {process_count} processes; make it a multiple of that"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} of {process_count} processes")
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)
