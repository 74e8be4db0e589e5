"""From logits to a token, row by row: what one row draws never depends on the rows beside it.

Shape suffixes: B rows, V vocab, N top alternatives.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_ALTERNATIVES = 20  # as in the OpenAI API

Array = jax.Array | np.ndarray


class SamplingOptions(NamedTuple):
    """How each row chooses. `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0, `repetition_penalty` 1 and the
    other penalties at 0 do nothing."""

    seed: Array  # uint32 [B]
    temperature: Array  # float32 [B]
    top_k: Array  # int32 [B]
    top_p: Array  # float32 [B]
    min_p: Array  # float32 [B]
    repetition_penalty: Array  # float32 [B]
    frequency_penalty: Array  # float32 [B]
    presence_penalty: Array  # float32 [B]


class Seen(NamedTuple):
    """What the penalties are about, for each of N histories."""

    prompt: Array  # bool [N, V], whether a token is in the prompt
    generated: Array  # int32 [N, V], how often it was generated


class Choice(NamedTuple):
    """The chosen tokens and, where asked for, what the model itself thought of them.

    Log-probabilities (natural) are those of the distribution at temperature 1 without filters and penalties; zeros when
    they were not wanted.
    """

    tokens: Array  # int32 [B]
    logprobs: Array  # float32 [B]
    top_ids: Array  # int32 [B, N]
    top_logprobs: Array  # float32 [B, N], descending


def choose(
    logits_BV: jax.Array,
    positions_B: jax.Array,
    options: SamplingOptions,
    seen: Seen,
    rows_B: jax.Array,
    want_logprobs: jax.Array,
) -> Choice:
    """Picks each row's next token from float32 logits; row b's history is row `rows_B[b]` of `seen`.

    Randomness is a function of (seed, position of the row's newest token) alone. `want_logprobs` is a
    scalar bool, so that rows which need no log-probabilities do not pay for them.
    """
    penalized_BV = jax.lax.cond(
        jnp.any(_penalizes(options)),
        lambda: _penalize(logits_BV, options, Seen(seen.prompt[rows_B], seen.generated[rows_B])),
        lambda: logits_BV,
    )
    tokens = jax.lax.cond(
        jnp.all(options.temperature <= 0),
        lambda: jnp.argmax(penalized_BV, axis=-1).astype(jnp.int32),
        lambda: _draw(penalized_BV, positions_B, options),
    )
    B, V = logits_BV.shape
    count = min(MAX_ALTERNATIVES, V)

    def logprobs() -> tuple[jax.Array, jax.Array, jax.Array]:
        normalizer_B1 = jax.nn.logsumexp(logits_BV, axis=-1, keepdims=True)
        top_BN, ids_BN = jax.lax.top_k(logits_BV, count)
        chosen_B1 = jnp.take_along_axis(logits_BV, tokens[:, None], axis=-1)
        return (chosen_B1 - normalizer_B1)[:, 0], ids_BN, top_BN - normalizer_B1

    def nothing() -> tuple[jax.Array, jax.Array, jax.Array]:
        return jnp.zeros(B), jnp.zeros((B, count), jnp.int32), jnp.zeros((B, count))

    return Choice(tokens, *jax.lax.cond(want_logprobs, logprobs, nothing))


def _penalizes(options: SamplingOptions) -> jax.Array:
    repeated = options.repetition_penalty != 1
    return repeated | (options.frequency_penalty != 0) | (options.presence_penalty != 0)


def _penalize(logits_BV: jax.Array, options: SamplingOptions, seen: Seen) -> jax.Array:
    """Logits of the tokens in prompt and answer divided by `repetition_penalty` where positive, else multiplied
    (Keskar et al. 2019, arXiv:1909.05858); those of the answer's less `frequency_penalty` for each time and
    `presence_penalty` once (OpenAI's API)."""
    generated_BV = seen.generated.astype(jnp.float32)
    known_BV = seen.prompt | (seen.generated > 0)
    divisor_BV = jnp.where(known_BV, options.repetition_penalty[:, None], 1.0)
    repeated_BV = jnp.where(logits_BV > 0, logits_BV / divisor_BV, logits_BV * divisor_BV)
    often_BV = options.frequency_penalty[:, None] * generated_BV
    return repeated_BV - often_BV - jnp.where(generated_BV > 0, options.presence_penalty[:, None], 0.0)


def _draw(logits_BV: jax.Array, positions_B: jax.Array, options: SamplingOptions) -> jax.Array:
    """Gumbel-max draws; greedy rows are those without noise."""
    greedy_B1 = (options.temperature <= 0)[:, None]
    scaled_BV = logits_BV / jnp.where(greedy_B1, 1.0, options.temperature[:, None])
    filters = jnp.any((options.top_k > 0) | (options.top_p < 1) | (options.min_p > 0))
    scaled_BV = jax.lax.cond(filters, lambda: _filter(scaled_BV, options), lambda: scaled_BV)

    def noise(seed: Array, position: Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), position)
        return jax.random.gumbel(key, logits_BV.shape[1:], jnp.float32)

    noise_BV = jax.vmap(noise)(options.seed, positions_B)
    return jnp.argmax(jnp.where(greedy_B1, logits_BV, scaled_BV + noise_BV), axis=-1).astype(jnp.int32)


def _filter(scaled_BV: jax.Array, options: SamplingOptions) -> jax.Array:
    """-inf outside of the `top_k` likeliest tokens, then outside of the nucleus of mass `top_p` of those
    (Holtzman et al. 2020), then below `min_p` times the likeliest (Nguyen et al. 2024, arXiv:2407.01082). Tokens
    exactly as likely as the last one kept are kept too."""
    probs_BV = jax.nn.softmax(scaled_BV, axis=-1)
    k_B = jnp.where(options.top_k > 0, options.top_k, 0).astype(jnp.float32)
    probs_BV = jnp.where(probs_BV >= _threshold(probs_BV, jnp.ones_like(probs_BV), k_B), probs_BV, 0)
    mass_B = options.top_p * jnp.sum(probs_BV, axis=-1)
    nucleus_BV = probs_BV >= _threshold(probs_BV, probs_BV, jnp.where(options.top_p < 1, mass_B, 0))
    likely_BV = probs_BV >= options.min_p[:, None] * jnp.max(probs_BV, axis=-1, keepdims=True)
    return jnp.where(nucleus_BV & likely_BV & (probs_BV > 0), scaled_BV, -jnp.inf)


def _threshold(probs_BV: jax.Array, weights_BV: jax.Array, target_B: jax.Array) -> jax.Array:
    """The largest t, [B, 1], for which the weights of {p >= t} sum to `target_B`; 0 for targets of 0.

    Bisects the bit patterns of the floats 0..1, which are ordered as integers: 31 sums instead of
    sorting the vocabulary.
    """

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) // 2
        t_B1 = jax.lax.bitcast_convert_type(middle, jnp.float32)[:, None]
        enough = jnp.sum(jnp.where(probs_BV >= t_B1, weights_BV, 0), axis=-1) >= target_B
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    above_one = jax.lax.bitcast_convert_type(jnp.float32(1.0), jnp.int32) + 1
    start = jnp.zeros_like(target_B, jnp.int32), jnp.full_like(target_B, above_one, jnp.int32)
    low, _ = jax.lax.fori_loop(0, 31, halve, start)
    low = jnp.where(target_B > 0, low, 0)
    return jax.lax.bitcast_convert_type(low, jnp.float32)[:, None]
