"""Rotary embeddings and attention.

Shape suffixes: B batch, S queries, T keys, H query heads, K key-value heads, G = H / K, M = G · S, D head dim.
"""

import jax
import jax.numpy as jnp

from demiurgic_jax.model.config import ModelConfig


def rotary_frequencies(config: ModelConfig) -> jax.Array:
    """Radians per position, float32 [D/2] (Su et al. 2021, arXiv:2104.09864), with the config's scaling."""
    exponents = jnp.arange(0, config.head_dim, 2, dtype=jnp.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * jnp.pi / frequencies
    # 0 where the wavelength is too long for the original context, 1 where it fits many times.
    kept = (scaling.original_context / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    kept = jnp.clip(kept, 0.0, 1.0)
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor


def rotary_tables(config: ModelConfig, positions_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosine and signed sine of every position's angles, float32 [B, S, 1, D]: computed once for all layers."""
    angles_BSD = positions_BS[..., None].astype(jnp.float32) * rotary_frequencies(config)
    cos, sin = jnp.cos(angles_BSD), jnp.sin(angles_BSD)
    tables = jnp.concatenate([cos, cos], axis=-1), jnp.concatenate([-sin, sin], axis=-1)
    # Without the barrier XLA fuses the trigonometry into every use, once per layer, head and pass.
    return jax.lax.optimization_barrier(jax.tree.map(lambda table: table[:, :, None, :], tables))


def rotate(x_BSHD: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns channel pairs (i, i + D/2) by their angles, in float32; the dtype of x comes back."""
    cos, sin = tables
    first, second = jnp.split(x_BSHD, 2, axis=-1)
    # All D channels at once: work on halves of 64 would leave half of a TPU's lanes empty.
    swapped = jnp.concatenate([second, first], axis=-1)
    return (x_BSHD.astype(jnp.float32) * cos + swapped.astype(jnp.float32) * sin).astype(x_BSHD.dtype)


def attention(
    q_BSHD: jax.Array,
    k_BTKD: jax.Array,
    v_BTKD: jax.Array,
    segment_ids_BS: jax.Array,
    key_segment_ids_BT: jax.Array,
    *,
    query_start: int | jax.Array = 0,
) -> jax.Array:
    """Grouped-query softmax attention, scaled by D^-1/2; softmax in float32. Returns [B, S, H, D].

    Query s stands in row `query_start` + s of the keys, and sees those up to there that are of its own segment.
    """
    S, T = q_BSHD.shape[1], k_BTKD.shape[1]
    q_BKGSD, k_BKTD, v_BKTD = _by_head(q_BSHD, k_BTKD, v_BTKD)
    size = _query_block(S)
    blocks = []
    for start in range(0, S, size):
        # Where the rows are known, blocks of queries see only the keys up to their own end: the upper triangle is not
        # computed.
        end = min(T, query_start + start + size) if isinstance(query_start, int) else T
        rows, keys = slice(start, start + size), slice(0, end)
        mask_ST = query_start + jnp.arange(S)[rows, None] >= jnp.arange(T)[None, keys]
        mask_BST = mask_ST & (segment_ids_BS[:, rows, None] == key_segment_ids_BT[:, None, keys])
        blocks.append(_masked_attention(q_BKGSD[:, :, :, rows], k_BKTD[:, :, keys], v_BKTD[:, :, keys], mask_BST))
    return _by_position(jnp.concatenate(blocks, axis=3))


def cached_attention(q_BSHD: jax.Array, k_BTKD: jax.Array, v_BTKD: jax.Array, key_limit_BS: jax.Array) -> jax.Array:
    """The same over a cache: query s of row b sees keys t <= key_limit_BS[b, s]."""
    mask_BST = jnp.arange(k_BTKD.shape[1]) <= key_limit_BS[:, :, None]
    return _by_position(_masked_attention(*_by_head(q_BSHD, k_BTKD, v_BTKD), mask_BST))


def _by_head(q_BSHD: jax.Array, k_BTKD: jax.Array, v_BTKD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scaled q [B, K, G, S, D], k and v [B, K, T, D]."""
    B, S, H, D = q_BSHD.shape
    K = k_BTKD.shape[2]
    q_BKGSD = (q_BSHD * D**-0.5).reshape(B, S, K, H // K, D).transpose(0, 2, 3, 1, 4)
    return q_BKGSD, k_BTKD.swapaxes(1, 2), v_BTKD.swapaxes(1, 2)


def _by_position(mixed_BKGSD: jax.Array) -> jax.Array:
    B, K, G, S, D = mixed_BKGSD.shape
    return mixed_BKGSD.transpose(0, 3, 1, 2, 4).reshape(B, S, K * G, D)


def _query_block(length: int) -> int:
    """Queries per block: 128, or as many as make eight blocks, which bounds the size of the program."""
    size = max(128, length // 8)
    return size if length % size == 0 else length


def _masked_attention(q_BKGSD: jax.Array, k_BKTD: jax.Array, v_BKTD: jax.Array, mask_BST: jax.Array) -> jax.Array:
    """One block; the G query heads of a key-value head are rows of one matrix."""
    B, K, G, S, D = q_BKGSD.shape
    T = k_BKTD.shape[2]
    scores_BKMT = jnp.einsum(
        "bkmd,bktd->bkmt", q_BKGSD.reshape(B, K, G * S, D), k_BKTD, preferred_element_type=jnp.float32
    )
    scores_BKGST = scores_BKMT.reshape(B, K, G, S, T)
    scores_BKGST = jnp.where(mask_BST[:, None, None], scores_BKGST, jnp.finfo(jnp.float32).min)
    probs_BKGST = jax.nn.softmax(scores_BKGST, axis=-1).astype(v_BKTD.dtype)
    return jnp.einsum("bkmt,bktd->bkmd", probs_BKGST.reshape(B, K, G * S, T), v_BKTD).reshape(B, K, G, S, D)
