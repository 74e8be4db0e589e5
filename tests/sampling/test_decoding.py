"""Choosing tokens: the filters, the randomness and the log-probabilities."""

import jax
import numpy as np
import pytest

from demiurgic_jax.sampling.decoding import Choice, SamplingOptions, Seen, choose

V = 50
LOGITS = np.random.default_rng(0).normal(size=(V,)).astype(np.float32) * 2
ROWS = 4096


def options_of(rows: int, **given: object) -> SamplingOptions:
    """`rows` rows with these options, the others doing nothing."""
    neutral = {
        "seed": np.arange(rows, dtype=np.uint32),
        "temperature": np.zeros(rows, np.float32),
        "top_k": np.zeros(rows, np.int32),
        "top_p": np.ones(rows, np.float32),
        "min_p": np.zeros(rows, np.float32),
        "repetition_penalty": np.ones(rows, np.float32),
        "frequency_penalty": np.zeros(rows, np.float32),
        "presence_penalty": np.zeros(rows, np.float32),
    }
    values = {name: np.full(rows, given[name], array.dtype) for name, array in neutral.items() if name in given}
    return SamplingOptions(**(neutral | values))


def unseen(rows: int) -> Seen:
    return Seen(np.zeros((rows, V), bool), np.zeros((rows, V), np.int32))


def picked(logits: np.ndarray, positions: np.ndarray, options: SamplingOptions, seen: Seen, want: bool) -> Choice:
    return jax.jit(choose)(logits, positions, options, seen, np.arange(len(logits)), want)


def draw(temperature: float, **options: float) -> np.ndarray:
    """`ROWS` draws from LOGITS, one seed each."""
    logits = np.broadcast_to(LOGITS, (ROWS, V))
    rows = options_of(ROWS, temperature=temperature, **options)
    return np.asarray(picked(logits, np.zeros(ROWS, np.int32), rows, unseen(ROWS), False).tokens)


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


@pytest.mark.parametrize("min_p", [0.05, 0.3, 1.0])
def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest(min_p: float):
    probs = softmax(LOGITS / 1.3)
    kept = np.where(probs >= min_p * probs.max(), probs, 0)
    assert 0 < np.count_nonzero(kept) < V
    assert_drawn_from(draw(1.3, min_p=min_p), kept / kept.sum())


def penalized(logits: np.ndarray, prompt: list[int], generated: list[int], **penalties: float) -> np.ndarray:
    """`ROWS` draws with these penalties after `prompt` and `generated`."""
    seen = unseen(ROWS)
    seen.prompt[:, prompt] = True
    np.add.at(seen.generated, (slice(None), generated), 1)
    rows = options_of(ROWS, temperature=1.0, **penalties)
    tokens = picked(np.broadcast_to(logits, (ROWS, V)), np.zeros(ROWS, np.int32), rows, seen, False).tokens
    return np.asarray(tokens)


def test_a_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones():
    prompt, generated = [1, 2, 3], [4, 5, 5]
    expected = LOGITS.copy()
    for token in {*prompt, *generated}:
        expected[token] = expected[token] / 1.7 if expected[token] > 0 else expected[token] * 1.7
    assert (LOGITS[[1, 2, 3, 4, 5]] > 0).any()
    assert (LOGITS[[1, 2, 3, 4, 5]] < 0).any()
    assert_drawn_from(penalized(LOGITS, prompt, generated, repetition_penalty=1.7), softmax(expected))


def test_frequency_and_presence_penalties_count_the_answer_alone():
    prompt, generated = [1, 2], [3, 3, 3, 4]
    expected = LOGITS.copy()
    expected[3] -= 3 * 0.5 + 0.75
    expected[4] -= 0.5 + 0.75
    drawn = penalized(LOGITS, prompt, generated, frequency_penalty=0.5, presence_penalty=0.75)
    assert_drawn_from(drawn, softmax(expected))


def test_a_greedy_row_heeds_its_penalties_and_its_neighbour_has_none():
    best = int(LOGITS.argmax())
    rows = options_of(2)._replace(presence_penalty=np.array([100, 0], np.float32))
    seen = unseen(2)
    seen.generated[:, best] = 1
    tokens = picked(np.stack([LOGITS, LOGITS]), np.zeros(2, np.int32), rows, seen, False).tokens
    assert tokens.tolist() == [int(np.argsort(-LOGITS)[1]), best]


def mixed_rows() -> tuple[np.ndarray, SamplingOptions]:
    options = options_of(4)._replace(
        seed=np.array([3, 3, 9, 4], np.uint32),
        temperature=np.array([0.0, 1.0, 1.0, 0.7], np.float32),
        top_k=np.array([0, 0, 3, 0], np.int32),
        top_p=np.array([1.0, 1.0, 1.0, 0.5], np.float32),
        min_p=np.array([0.0, 0.1, 0.0, 0.0], np.float32),
        frequency_penalty=np.array([0.0, 1.0, 0.0, 0.0], np.float32),
    )
    return np.random.default_rng(1).normal(size=(4, V)).astype(np.float32), options


def test_what_a_row_draws_depends_on_no_other_row():
    logits, options = mixed_rows()
    positions = np.array([5, 6, 7, 8], np.int32)
    seen = Seen(np.zeros((4, V), bool), np.arange(4 * V, dtype=np.int32).reshape(4, V) % 3)
    together = picked(logits, positions, options, seen, False)
    for row in range(4):
        only = slice(row, row + 1)
        its_own = SamplingOptions(*(x[only] for x in options))
        alone = picked(logits[only], positions[only], its_own, Seen(*(x[only] for x in seen)), False)
        assert alone.tokens[0] == together.tokens[row]


def test_logprobs_are_those_of_the_unfiltered_distribution():
    logits, options = mixed_rows()
    choice = picked(logits, np.zeros(4, np.int32), options, unseen(4), True)
    expected = np.log(np.stack([softmax(row.astype(np.float64)) for row in logits]))
    np.testing.assert_allclose(choice.logprobs, expected[np.arange(4), choice.tokens], atol=1e-5)
    np.testing.assert_array_equal(choice.top_ids, np.argsort(-logits, axis=-1)[:, :20])
    np.testing.assert_allclose(choice.top_logprobs, np.take_along_axis(expected, choice.top_ids, -1), atol=1e-5)
