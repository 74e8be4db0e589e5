"""pass@k, its intervals, and how two models compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

RESAMPLES = 10_000
# Resamples are drawn in blocks of so many problem indices, to bound memory.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate, and the interval that holds the truth in `level` of all repetitions."""

    value: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Comparison:
    """Model A minus model B over the same problems. `only_a` and `only_b` count problems whose first sample only one
    of them solves; `p_value` is McNemar's exact one, two-sided."""

    difference: Interval
    problems: int
    only_a: int
    only_b: int
    p_value: float


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k) (Chen et al. 2021) for one problem: the chance that one of `k`
    samples drawn from `samples` passes, of which `passed` do. Raises ValueError unless 1 ≤ k ≤ samples."""
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"pass@{k} of {samples} samples, {passed} passed, is not defined")
    if samples - passed < k:
        return 1.0
    failing = 1.0
    for number in range(samples - passed + 1, samples + 1):
        failing *= 1.0 - k / number
    return 1.0 - failing


def bootstrap(scores: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of `scores` [problems] with its percentile bootstrap interval over problems (Efron 1979).

    Where all problems have the same score resampling says nothing; for all 0 or all 1 the exact (Clopper-Pearson) bound
    is given instead. Raises ValueError where there are no scores."""
    values = np.asarray(scores, np.float64)
    if not values.size:
        raise ValueError("no scores: nothing to say of them")
    mean, tail = float(values.mean()), (1 - level) / 2
    if values.min() == values.max():
        bound = tail ** (1 / values.size)
        if mean == 0.0:
            return Interval(0.0, 0.0, 1 - bound, level)
        if mean == 1.0:
            return Interval(1.0, bound, 1.0, level)
        return Interval(mean, mean, mean, level)
    low, high = np.quantile(_resampled_means(values, resamples, seed), [tail, 1 - tail])
    return Interval(mean, float(low), float(high), level)


def compare(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    first_a: Sequence[bool],
    first_b: Sequence[bool],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Two models on the same problems in the same order: the mean difference of their scores with a paired bootstrap
    interval, and McNemar's exact test on their first samples. Raises ValueError for other lengths."""
    if not len(scores_a) == len(scores_b) == len(first_a) == len(first_b):
        raise ValueError("both models need a score for every problem")
    differences = np.asarray(scores_a, np.float64) - np.asarray(scores_b, np.float64)
    if not differences.size:
        raise ValueError("no problems in common: nothing to compare")
    low, high = np.quantile(_resampled_means(differences, resamples, seed), [(1 - level) / 2, (1 + level) / 2])
    only_a = sum(a and not b for a, b in zip(first_a, first_b, strict=True))
    only_b = sum(b and not a for a, b in zip(first_a, first_b, strict=True))
    interval = Interval(float(differences.mean()), float(low), float(high), level)
    return Comparison(interval, len(differences), only_a, only_b, mcnemar(only_a, only_b))


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value: how likely a fair coin, thrown once a discordant problem, is so uneven or more."""
    total = only_a + only_b
    tail = sum(comb(total, number) for number in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**total)


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """[resamples]"""
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // values.size)
    blocks = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    return np.concatenate(
        [values[generator.integers(values.size, size=(block, values.size))].mean(axis=1) for block in blocks]
    )
