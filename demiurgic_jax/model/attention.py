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
    """Cosine and sine of every position's angles, float32 [B, S, 1, D/2]: computed once for all layers."""
    angles_BSD = positions_BS[..., None].astype(jnp.float32) * rotary_frequencies(config)
    tables = jnp.cos(angles_BSD)[:, :, None, :], jnp.sin(angles_BSD)[:, :, None, :]
    # Without the barrier XLA fuses the trigonometry into every use, once per layer, head and pass.
    return jax.lax.optimization_barrier(tables)


def rotate(x_BSHD: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns channel pairs (i, i + D/2) by their angles, in float32; the dtype of x comes back."""
    cos, sin = tables
    first, second = jnp.split(x_BSHD.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_BSHD.dtype)


def attention(
    q_BSHD: jax.Array,
    k_BTKD: jax.Array,
    v_BTKD: jax.Array,
    *,
    segment_ids_BS: jax.Array | None = None,
    key_limit_BS: jax.Array | None = None,
) -> jax.Array:
    """Grouped-query softmax attention, scaled by D^-1/2; softmax in float32. Returns [B, S, H, D].

    Without `key_limit_BS` queries and keys are the same rows: query s sees keys t <= s of its own
    segment. With it the keys are a cache, and query s of row b sees keys t <= key_limit_BS[b, s].
    """
    B, S, H, D = q_BSHD.shape
    K = k_BTKD.shape[2]
    q_BKGSD = (q_BSHD * D**-0.5).reshape(B, S, K, H // K, D).transpose(0, 2, 3, 1, 4)
    k_BKTD, v_BKTD = k_BTKD.swapaxes(1, 2), v_BTKD.swapaxes(1, 2)
    if key_limit_BS is not None:
        mask_BST = jnp.arange(k_BTKD.shape[1]) <= key_limit_BS[:, :, None]
        mixed_BKGSD = _masked_attention(q_BKGSD, k_BKTD, v_BKTD, mask_BST)
    else:
        # Blocks of queries see only the keys up to their own end: the upper triangle is not computed.
        size = _query_block(S)
        blocks = []
        for start in range(0, S, size):
            rows, keys = slice(start, start + size), slice(0, start + size)
            mask_BST = jnp.arange(S)[rows, None] >= jnp.arange(S)[None, keys]
            mask_BST = jnp.broadcast_to(mask_BST, (B, *mask_BST.shape))
            if segment_ids_BS is not None:
                mask_BST &= segment_ids_BS[:, rows, None] == segment_ids_BS[:, None, keys]
            blocks.append(_masked_attention(q_BKGSD[:, :, :, rows], k_BKTD[:, :, keys], v_BKTD[:, :, keys], mask_BST))
        mixed_BKGSD = jnp.concatenate(blocks, axis=3)
    return mixed_BKGSD.transpose(0, 3, 1, 2, 4).reshape(B, S, H, D)


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
