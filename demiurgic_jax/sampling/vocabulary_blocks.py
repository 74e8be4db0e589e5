"""A few entries of each position's whole vocabulary, found by blocks of it rather than by sorting all.

Shape suffixes: C tokens of a chunk, V vocab, N blocks, K entries per position.
"""

import jax
import jax.numpy as jnp

BLOCK = 128


def top_k_by_blocks(logits_CV: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """What `jax.lax.top_k` gives, but for the order of equal logits. The k largest lie in the k blocks with the largest
    maxima, so only these are sorted: a few thousand numbers instead of a vocabulary."""
    C, V = logits_CV.shape
    count = -(-V // BLOCK)
    if count <= 2 * k:
        return jax.lax.top_k(logits_CV, k)
    padded = jnp.pad(logits_CV, ((0, 0), (0, count * BLOCK - V)), constant_values=-jnp.inf)
    blocks = padded.reshape(C, count, BLOCK)
    best_CK = jnp.sort(jax.lax.top_k(jnp.max(blocks, axis=-1), k)[1], axis=-1)
    candidates = jnp.take_along_axis(blocks, best_CK[..., None], axis=1).reshape(C, k * BLOCK)
    top_CK, where_CK = jax.lax.top_k(candidates, k)
    block_CK = jnp.take_along_axis(best_CK, where_CK // BLOCK, axis=-1)
    return top_CK, block_CK * BLOCK + where_CK % BLOCK


def sample_by_blocks(
    logits_CV: jax.Array, normalizer_C1: jax.Array, shifts_C: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """Ids int32 [C, k] and logits [C, k] of a sample of each position; -inf where there are fewer than `k` entries.

    Systematic sampling (Madow 1949): entry i covers min(1, k·p_i) of a line, and those are drawn that cover one of the
    points shift, shift + 1, …; so each has that chance, the likely ones are always there, and their number is fixed
    but for one. `shifts_C` are in [0, 1).
    """
    C, V = logits_CV.shape
    count = -(-V // BLOCK)
    padded_CV = jnp.pad(logits_CV, ((0, 0), (0, count * BLOCK - V)), constant_values=-jnp.inf)
    chances_CNB = jnp.minimum(jnp.exp(padded_CV - normalizer_C1) * k, 1.0).reshape(C, count, BLOCK)
    ends_CN = jnp.cumsum(jnp.sum(chances_CNB, axis=-1), axis=-1)
    points_CK = shifts_C[:, None] + jnp.arange(k, dtype=jnp.float32)
    block_CK = jnp.sum(ends_CN[:, None, :] <= points_CK[..., None], axis=-1)
    drawn_CK = block_CK < count
    block_CK = jnp.minimum(block_CK, count - 1)
    before_CK = jnp.where(block_CK > 0, jnp.take_along_axis(ends_CN, jnp.maximum(block_CK - 1, 0), axis=-1), 0.0)
    inside_CKB = jnp.cumsum(jnp.take_along_axis(chances_CNB, block_CK[..., None], axis=1), axis=-1)
    passed_CK = jnp.sum(inside_CKB <= (points_CK - before_CK)[..., None], axis=-1)
    ids_CK = block_CK * BLOCK + jnp.minimum(passed_CK, BLOCK - 1)
    # Rounding may let one entry cover two points, or the padding one.
    again_CK = jnp.pad(ids_CK[:, 1:] == ids_CK[:, :-1], ((0, 0), (1, 0)))
    drawn_CK &= ~again_CK & (ids_CK < V)
    ids_CK = jnp.where(drawn_CK, ids_CK, 0)
    values_CK = jnp.take_along_axis(logits_CV, ids_CK, axis=-1)
    return ids_CK.astype(jnp.int32), jnp.where(drawn_CK, values_CK, -jnp.inf)
