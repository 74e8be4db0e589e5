"""How far a student's distribution is from its teacher's, over stored entries and their rest, or over everything.

p is the teacher, q the student. What is compared at temperature T is p^(1/T) and q^(1/T), each normalised again:

- over the whole vocabulary that is the softmax of logits / T;
- over stored soft targets the K entries and the rest are K+1 outcomes, and T acts on their K+1 probabilities. The rest
  is tempered as the one outcome that it is: how its mass is spread was not stored, and the student is free to spread
  its own. At T = 1 the divergence over buckets is a lower bound of that over the vocabulary (data-processing
  inequality), and it is the same where the rest is empty.

Shape suffixes: B batch, C chunk of the sequence, V vocab (of this device), K soft-target entries.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from demiurgic_jax.training.vocabulary_parts import local_ids, logsumexp, pick, sum_parts, to_parts

# Stands for log 0 where -inf would turn 0 · log 0 into NaN.
LOG_ZERO = -1e30
# Where log 0 would be infinite: what a student's mass costs in reverse KL where the teacher has none, in nats, and the
# rest of a student when the stored entries are the whole vocabulary.
LEAST_LOG = -60.0

# (log p, log q, β) → the terms of which the divergence is the sum.
Terms = Callable[[jax.Array, jax.Array, float], jax.Array]


def forward_kl(log_p: jax.Array, log_q: jax.Array, beta: float = 0.0) -> jax.Array:
    """Terms of KL(p ‖ q): the student must cover all that the teacher may say."""
    return jnp.exp(log_p) * (log_p - log_q)


def reverse_kl(log_p: jax.Array, log_q: jax.Array, beta: float = 0.0) -> jax.Array:
    """Terms of KL(q ‖ p): the student must not say what the teacher would not (Gu et al. 2024, MiniLLM)."""
    return jnp.exp(log_q) * (log_q - jnp.maximum(log_p, LEAST_LOG))


def jensen_shannon(log_p: jax.Array, log_q: jax.Array, beta: float) -> jax.Array:
    """Terms of β·KL(p ‖ m) + (1-β)·KL(q ‖ m) with m = β·p + (1-β)·q, for 0 < β < 1 (Agarwal et al. 2024, GKD,
    arXiv:2306.13649): near β·KL(p ‖ q) for small β, near (1-β)·KL(q ‖ p) for β near 1."""
    log_m = jnp.logaddexp(log_p + jnp.log(beta), log_q + jnp.log1p(-beta))
    return beta * jnp.exp(log_p) * (log_p - log_m) + (1 - beta) * jnp.exp(log_q) * (log_q - log_m)


DIVERGENCES: Mapping[str, Terms] = {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "jsd": jensen_shannon}


def teacher_buckets(teacher_logprobs: jax.Array) -> jax.Array:
    """[..., K] stored log-probabilities to [..., K+1]: the last entry is the rest, log(1 - Σp)."""
    mass = jnp.sum(jnp.exp(teacher_logprobs), axis=-1, keepdims=True)
    # Sixteen-bit rounding can carry the stored mass past 1; what is left then is nothing, not negative.
    rest = jnp.log(jnp.maximum(1.0 - mass, 1e-7))
    return jnp.maximum(jnp.concatenate([teacher_logprobs, rest], axis=-1), LOG_ZERO)


def student_buckets(
    logits: jax.Array, log_normalizer: jax.Array, ids: jax.Array, used: jax.Array, vocabulary_axis: str | None = None
) -> jax.Array:
    """Log-probabilities [..., K+1] of the student at the teacher's ids, and of everything else.

    The rest is a log-sum-exp over the other logits rather than 1 - Σq, which loses all its digits once the
    student is confident.
    """
    rows = logits.shape[-1]
    local, here = local_ids(ids, rows, vocabulary_axis)
    picked = pick(logits, ids, vocabulary_axis) - log_normalizer[..., None]
    taken = jnp.where(here & used, local, rows)
    elsewhere = jnp.put_along_axis(logits, taken, LOG_ZERO, axis=-1, inplace=False, mode="drop")
    rest = jnp.maximum(logsumexp(elsewhere, vocabulary_axis)[0] - log_normalizer, LEAST_LOG)
    return jnp.concatenate([jnp.where(used, picked, LOG_ZERO), rest[..., None]], axis=-1)


def bucket_divergence(terms: Terms, teacher: jax.Array, student: jax.Array, temperature: Any, beta: float) -> jax.Array:
    """[...] from the bucket log-probabilities [..., K+1] of both, in nats."""
    log_p = jax.nn.log_softmax(teacher / temperature, axis=-1)
    log_q = jax.nn.log_softmax(student / temperature, axis=-1)
    return jnp.sum(terms(log_p, log_q, beta), axis=-1)


def sampled_forward_kl(teacher_logprobs: jax.Array, student: jax.Array) -> jax.Array:
    """[...] from sampled entries of the teacher [..., K] (data/soft_targets.py) and the student's buckets [..., K+1].

    Σ w·(log w - log q) over the entries, with weights that are not normalised: its gradient is in expectation that of
    the forward KL over the whole vocabulary. Its value is in expectation no smaller: rare entries count with log 1/K.
    """
    used = teacher_logprobs > LOG_ZERO
    terms = forward_kl(jnp.where(used, teacher_logprobs, 0.0), jnp.where(used, student[..., :-1], 0.0))
    return jnp.sum(jnp.where(used, terms, 0.0), axis=-1)


def full_divergence(
    terms: Terms,
    teacher_logits_BCV: jax.Array,
    logits_BCV: jax.Array,
    temperature: Any,
    beta: float,
    vocabulary_axis: str | None = None,
) -> jax.Array:
    """[B, C] over the whole vocabulary, from float32 logits of both, in nats."""

    def log_softmax(logits_BCV: jax.Array) -> jax.Array:
        tempered_BCV = logits_BCV / temperature
        normalizer_BC = to_parts(logsumexp(tempered_BCV, vocabulary_axis)[0], vocabulary_axis)
        return tempered_BCV - normalizer_BC[..., None]

    log_p_BCV, log_q_BCV = log_softmax(teacher_logits_BCV), log_softmax(logits_BCV)
    return sum_parts(jnp.sum(terms(log_p_BCV, log_q_BCV, beta), axis=-1), vocabulary_axis)
