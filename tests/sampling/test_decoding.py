"""Choosing tokens: the filters, the randomness and the log-probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.sampling.decoding import Choice, SamplingOptions, choose

V = 50
LOGITS = np.random.default_rng(0).normal(size=(V,)).astype(np.float32) * 2
ROWS = 4096


def draw(temperature: float, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """`ROWS` draws from LOGITS, one seed each."""
    options = SamplingOptions(
        seed=np.arange(ROWS, dtype=np.uint32),
        temperature=np.full(ROWS, temperature, np.float32),
        top_k=np.full(ROWS, top_k, np.int32),
        top_p=np.full(ROWS, top_p, np.float32),
    )
    logits = jnp.broadcast_to(jnp.asarray(LOGITS), (ROWS, V))
    return np.asarray(jax.jit(choose)(logits, jnp.zeros(ROWS, jnp.int32), options, False).tokens)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def assert_drawn_from(tokens: np.ndarray, probs: np.ndarray) -> None:
    counts = np.bincount(tokens, minlength=V)
    assert not counts[probs == 0].any()
    # Five standard deviations of a binomial count.
    assert np.all(np.abs(counts - ROWS * probs) <= 5 * np.sqrt(ROWS * probs * (1 - probs)) + 1e-9)


def test_temperature_0_takes_the_likeliest_token():
    assert set(draw(0.0)) == {int(LOGITS.argmax())}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_distribution(temperature: float):
    assert_drawn_from(draw(temperature), softmax(LOGITS / temperature))


@pytest.mark.parametrize("k", [1, 2, 7, V, 10 * V])
def test_top_k_keeps_exactly_the_k_likeliest(k: int):
    kept = np.argsort(-LOGITS)[:k]
    probs = np.zeros(V)
    probs[kept] = softmax(LOGITS[kept])
    assert_drawn_from(draw(1.0, top_k=k), probs)


@pytest.mark.parametrize("top_p", [0.01, 0.4, 0.9, 0.999])
def test_top_p_keeps_the_smallest_nucleus_of_that_mass(top_p: float):
    probs = softmax(LOGITS / 1.3)
    order = np.argsort(-probs)
    size = int(np.searchsorted(np.cumsum(probs[order]), top_p)) + 1
    kept = np.zeros(V)
    kept[order[:size]] = probs[order[:size]] / probs[order[:size]].sum()
    assert_drawn_from(draw(1.3, top_p=top_p), kept)


def test_top_p_counts_the_mass_that_top_k_left():
    order = np.argsort(-LOGITS)[:5]
    probs = softmax(LOGITS[order])
    size = int(np.searchsorted(np.cumsum(probs), 0.6)) + 1
    kept = np.zeros(V)
    kept[order[:size]] = probs[:size] / probs[:size].sum()
    assert_drawn_from(draw(1.0, top_k=5, top_p=0.6), kept)


def mixed_rows() -> tuple[np.ndarray, SamplingOptions]:
    options = SamplingOptions(
        seed=np.array([3, 3, 9, 4], np.uint32),
        temperature=np.array([0.0, 1.0, 1.0, 0.7], np.float32),
        top_k=np.array([0, 0, 3, 0], np.int32),
        top_p=np.array([1.0, 1.0, 1.0, 0.5], np.float32),
    )
    return np.random.default_rng(1).normal(size=(4, V)).astype(np.float32), options


def test_what_a_row_draws_depends_on_no_other_row():
    logits, options = mixed_rows()
    positions = np.array([5, 6, 7, 8], np.int32)
    together = choose(logits, positions, options, False)
    for row in range(4):
        only = slice(row, row + 1)
        alone = choose(logits[only], positions[only], SamplingOptions(*(x[only] for x in options)), False)
        assert alone.tokens[0] == together.tokens[row]


def test_logprobs_are_those_of_the_unfiltered_distribution():
    logits, options = mixed_rows()
    choice: Choice = choose(logits, np.zeros(4, np.int32), options, True)
    expected = np.log(np.stack([softmax(row.astype(np.float64)) for row in logits]))
    np.testing.assert_allclose(choice.logprobs, expected[np.arange(4), choice.tokens], atol=1e-5)
    np.testing.assert_array_equal(choice.top_ids, np.argsort(-logits, axis=-1)[:, :20])
    np.testing.assert_allclose(choice.top_logprobs, np.take_along_axis(expected, choice.top_ids, -1), atol=1e-5)
