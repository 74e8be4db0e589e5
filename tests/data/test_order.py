import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demiurgic_jax.data.order import hashed, permuted


def permutation(seed: int, epoch: int, size: int) -> list[int]:
    return permuted(seed, epoch, np.arange(size), size).tolist()


def test_permutation_is_this_one_for_ever():
    # Written down so that no change of a library, nor of this code, moves a run that resumes.
    assert permutation(0, 0, 10) == [4, 1, 8, 2, 3, 5, 6, 7, 9, 0]
    assert permutation(7, 2, 10) == [2, 9, 3, 0, 6, 7, 1, 4, 8, 5]
    assert permuted(2**63, 3, np.array([0, 1, 10**12]), 10**12 + 1).tolist() == [
        94459299634,
        550750410019,
        387846613219,
    ]


def test_hashes_are_those_of_splitmix64():
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def next_of(state: int) -> int:
        x = (state + golden) & mask
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
        return x ^ x >> 31

    # The generator's first output from seed 1234567, as its authors' program prints it.
    assert next_of(1234567) == 6457827717110365317
    assert hashed(1234567).tolist() == [6457827717110365317]
    for seed, other in [(0, 0), (-1, 5), (2**63, 2**64 - 1)]:
        expected = [next_of(next_of(next_of(seed & mask) ^ i) ^ other) for i in range(5)]
        assert hashed(seed, np.arange(5), other).tolist() == expected


@given(size=st.integers(1, 300), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 1000))
def test_every_place_is_taken_once(size, seed, epoch):
    assert sorted(permutation(seed, epoch, size)) == list(range(size))


@given(size=st.integers(1, 10**13), places=st.lists(st.integers(0, 10**13), min_size=1, max_size=5))
def test_a_place_knows_nothing_of_the_others(size, places):
    wanted = np.array(places) % size
    together = permuted(5, 1, wanted, size)
    assert ((together >= 0) & (together < size)).all()
    assert together.tolist() == [permuted(5, 1, wanted[i : i + 1], size)[0] for i in range(len(wanted))]


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_every_number_is_as_likely_in_every_place(size):
    seen = np.array([permutation(seed, 0, size) for seed in range(4000)])
    for place in range(size):
        assert np.bincount(seen[:, place], minlength=size).min() > 0.85 * 4000 / size


def test_permutations_differ_by_seed_and_epoch_and_keep_nothing_of_the_order():
    seen = {tuple(permutation(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}
    assert len(seen) == 25
    one, other = (permuted(3, epoch, np.arange(100_000), 100_000) for epoch in (0, 1))
    for a, b in [(one[:-1], one[1:]), (one, np.arange(100_000)), (one, other)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.015
