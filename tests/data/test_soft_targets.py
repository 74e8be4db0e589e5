import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.soft_target_bytes import soft_targets_from_bytes, soft_targets_to_bytes
from demiurgic_jax.data.soft_targets import sampled_targets, truncate_top_p
from demiurgic_jax.errors import UserError


def teacher(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A distribution over 50 ids of which the k likeliest are known, in random order."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(50, 0.1), n) + 1e-9
    ids = rng.permuted(np.argsort(-probabilities, axis=1)[:, :k], axis=1)
    return ids, np.log(np.take_along_axis(probabilities, ids, axis=1))


@settings(max_examples=60)
@given(n=st.integers(0, 8), k=st.integers(1, 12), top_p=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
def test_fewest_likeliest_entries_that_reach_top_p_are_kept(n, k, top_p, seed):
    ids, logprobs = teacher(n, k, seed)
    soft = truncate_top_p(ids, logprobs, top_p)
    assert (soft.counts.dtype, soft.logprobs.dtype, len(soft)) == (np.uint8, np.float16, n)
    at = 0
    for i in range(n):
        ranked = sorted(zip(-logprobs[i], ids[i], strict=True))
        count, mass = 0, 0.0
        while count < k and (count == 0 or mass < top_p):
            mass += np.exp(-ranked[count][0])
            count += 1
        assert soft.counts[i] == count
        assert soft.ids[at : at + count].tolist() == [token for _, token in ranked[:count]]
        np.testing.assert_allclose(soft.logprobs[at : at + count], [-x for x, _ in ranked[:count]], rtol=1e-3)
        at += count
    assert at == len(soft.ids)


def test_dense_pads_with_id_0_and_minus_infinity():
    ids = np.array([[7, 8, 9], [4, 5, 6]])
    soft = truncate_top_p(ids, np.log([[0.2, 0.7, 0.05], [0.96, 0.02, 0.01]]), 0.85)
    assert soft.counts.tolist() == [2, 1]
    dense_ids, dense_logprobs = soft.dense(3)
    assert (dense_ids.dtype, dense_logprobs.dtype) == (np.int32, np.float32)
    assert dense_ids.tolist() == [[8, 7, 0], [4, 0, 0]]
    np.testing.assert_allclose(np.exp(dense_logprobs), [[0.7, 0.2, 0], [0.96, 0, 0]], atol=1e-3)
    assert soft.dense(1)[0].tolist() == [[8], [4]]


def test_slices_are_the_same_positions():
    soft = truncate_top_p(*teacher(9, 6, 3), 0.8)
    ids, logprobs = soft.dense(6)
    part_ids, part_logprobs = soft.slice(2, 7).dense(6)
    np.testing.assert_array_equal(part_ids, ids[2:7])
    np.testing.assert_array_equal(part_logprobs, logprobs[2:7])
    assert len(soft.slice(4, 4)) == 0


def test_a_position_of_unused_entries_has_no_teacher():
    soft = truncate_top_p(np.zeros((2, 2), int), np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]), 0.9)
    assert soft.counts.tolist() == [0, 1]
    assert np.isinf(soft.dense(2)[1][0]).all()


def test_more_entries_than_a_count_can_hold_are_refused():
    with pytest.raises(ValueError, match="at most 255"):
        truncate_top_p(np.zeros((1, 256), int), np.zeros((1, 256)), 0.9)


@settings(max_examples=40)
@given(n=st.integers(0, 6), samples=st.integers(2, 255), seed=st.integers(0, 1000))
def test_sampled_targets_come_back_from_their_bytes(n, samples, seed):
    ids, logprobs = teacher(n, min(12, samples), seed)
    logprobs[np.random.default_rng(seed).random(logprobs.shape) < 0.3] = -np.inf
    soft = sampled_targets(ids, logprobs, samples)
    for dtype in (np.dtype("<u2"), np.dtype("<u4")):
        back = soft_targets_from_bytes(*soft_targets_to_bytes(soft, dtype), dtype, n)
        if n == 0:
            continue
        for name in ("counts", "ids", "logprobs", "samples"):
            np.testing.assert_array_equal(getattr(back, name), getattr(soft, name))


def test_an_entry_weighs_what_it_is_or_one_of_k():
    """Eight bits are within 1 % of a probability above 1/K; a rare entry weighs 1/K and takes two bytes."""
    probabilities = np.array([[0.9995, 0.0001, 0.0, 0.0], [0.5, 0.3, 0.019, 0.001], [0.0, 0.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        soft = sampled_targets(np.tile([5, 6, 7, 8], (3, 1)), np.log(probabilities), 50)
    assert soft.counts.tolist() == [2, 4, 0]
    weights = np.exp(soft.logprobs.astype(np.float64))
    np.testing.assert_allclose(weights, [0.9995, 0.02, 0.5, 0.3, 0.02, 0.02], rtol=0.01)
    counts, ids, logprobs = soft_targets_to_bytes(soft, np.dtype("<u2"))
    assert (len(counts), len(ids), len(logprobs)) == (1 + 3 + 3, 6 * 2, 3 + 1)
    assert soft.slice(1, 2).samples == 50
    assert soft.where(np.array([False, True, True])).ids.tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("samples", [0, 1, 256])
def test_too_few_or_too_many_samples_are_refused(samples):
    with pytest.raises(UserError, match=f"{samples} samples of a teacher's distribution: give 2 to 255"):
        sampled_targets(np.zeros((1, 1), int), np.zeros((1, 1)), samples)
