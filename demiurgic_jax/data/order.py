"""The order of rows in an epoch, and which of them are whose: functions of their arguments alone."""

import numpy as np

from demiurgic_jax.errors import UserError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014), uint64 to uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """A permutation of 0..size-1, int64: the ranks of hashes of (seed, epoch, i).

    Written out here because NumPy keeps its generators' streams the same only within a release.
    """
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
    key = _mixed(_mixed(key + _GOLDEN) + np.array([epoch], np.uint64) * _GOLDEN)
    return np.argsort(_mixed(key + np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN), kind="stable")


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
