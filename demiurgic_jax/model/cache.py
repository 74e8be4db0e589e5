"""Keys and values of the tokens that were read already, and attention over them.

Shape suffixes: L layers, N slots, B rows, S tokens of a row, T cache length, t tokens of a block,
H query heads, K key-value heads, G = H / K, M = G · S, D head dim.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from demiurgic_jax.model.config import ModelConfig

# Keys that are looked at together. Caches are as long as a multiple of it.
KEY_BLOCK = 256
# On a CPU rows of so few queries look at so few keys that these stay in its cache.
CPU_FEW_QUERIES, CPU_KEY_BLOCK = 16, 64


class Kept(NamedTuple):
    """Keys or values of every layer; column t of slot n is the token at position t. In eight bits each head of each
    token has a scale, and a value is values · scales."""

    values: Any  # [L, N, K, T, D], of the compute dtype or int8
    scales: Any = None  # float32 [L, N, K, T], with int8 values

    def write(self, layer: Any, slots_B1: jax.Array, positions_BS: jax.Array, new_BSKD: jax.Array) -> "Kept":
        """With `new` in the columns `positions` of the rows' slots; positions at or past T are dropped."""
        where = (layer, slots_B1, slice(None), positions_BS)
        if self.scales is None:
            return Kept(self.values.at[where].set(new_BSKD.astype(self.values.dtype), mode="drop"))
        new_BSKD = new_BSKD.astype(jnp.float32)
        largest_BSK = jnp.max(jnp.abs(new_BSKD), axis=-1)
        scales_BSK = jnp.where(largest_BSK > 0, largest_BSK / 127, 1)
        rounded_BSKD = jnp.rint(new_BSKD / scales_BSK[..., None]).astype(jnp.int8)
        return Kept(
            self.values.at[where].set(rounded_BSKD, mode="drop"), self.scales.at[where].set(scales_BSK, mode="drop")
        )

    def block(self, layer: Any, slot: Any, rows: int, index: jax.Array, keys: int, dtype: Any) -> jax.Array:
        """Block `index` of `keys` tokens of the `rows` slots from `slot` on, [B, K, t, D]."""

        def cut(x: jax.Array) -> jax.Array:
            start: tuple[Any, ...] = (layer, slot, 0, index * keys, *[0] * (x.ndim - 4))
            return jax.lax.dynamic_slice(x, start, (1, rows, x.shape[2], keys, *x.shape[4:]))[0]

        values_BKtD = cut(self.values)
        if self.scales is None:
            return values_BKtD.astype(dtype)
        return (values_BKtD.astype(jnp.float32) * cut(self.scales)[..., None]).astype(dtype)


class SlotCache(NamedTuple):
    """Keys and values of the tokens that each slot has read."""

    keys: Kept
    values: Kept

    @property
    def length(self) -> int:
        """T: the position that stands for nowhere."""
        return self.keys.values.shape[3]


def new_cache(config: ModelConfig, slots: int, length: int, dtype: Any, *, int8: bool = False) -> SlotCache:
    """An empty cache of `slots` rows for at least `length` tokens each."""
    length = -(-length // KEY_BLOCK) * KEY_BLOCK
    shape = (config.num_layers, slots, config.num_kv_heads, length, config.head_dim)

    def empty() -> Kept:
        if int8:
            return Kept(jnp.zeros(shape, jnp.int8), jnp.ones(shape[:-1], jnp.float32))
        return Kept(jnp.zeros(shape, dtype))

    return SlotCache(empty(), empty())


def copy_prefix(cache: SlotCache, source: jax.Array, target: jax.Array, length: jax.Array) -> SlotCache:
    """The first `length` tokens of slot `source` also in slot `target`; whole blocks are copied, so that some tokens
    past them are overwritten too."""

    def one(x: jax.Array) -> jax.Array:
        shape = (x.shape[0], 1, x.shape[2], KEY_BLOCK, *x.shape[4:])

        def copy(index: jax.Array, x: jax.Array) -> jax.Array:
            rest: tuple[Any, ...] = (0, index * KEY_BLOCK, *[0] * (x.ndim - 4))
            block = jax.lax.dynamic_slice(x, (0, source, *rest), shape)
            return jax.lax.dynamic_update_slice(x, block, (0, target, *rest))

        return jax.lax.fori_loop(0, -(-length // KEY_BLOCK), copy, x)

    return jax.tree.map(one, cache)


def attend(
    q_BSHD: jax.Array,
    cache: SlotCache,
    layer: Any,
    slot: Any,
    positions_BS: jax.Array,
    last: jax.Array,
    *,
    on_cpu: bool,
) -> jax.Array:
    """Softmax attention of row b over what slot `slot` + b holds in `layer`; a query at position p sees keys up to
    there, none is past `last`. Returns [B, S, H, D].

    Goes over the blocks of keys up to `last` with a running maximum and sum (Milakov & Gimelshein 2018,
    arXiv:1805.02867), so that a step costs what the longest row needs, in one program for all lengths. A block that a
    row does not see leaves its numbers as they are, bit for bit.
    """
    B, S, H, D = q_BSHD.shape
    keys = CPU_KEY_BLOCK if on_cpu and S <= CPU_FEW_QUERIES else KEY_BLOCK
    K = cache.keys.values.shape[2]
    G = H // K
    q_BKMD = (q_BSHD * D**-0.5).reshape(B, S, K, G, D).transpose(0, 2, 3, 1, 4).reshape(B, K, G * S, D)
    limit_BM = jnp.tile(positions_BS, (1, G))
    lowest = jnp.finfo(jnp.float32).min

    def block(index: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        max_BKM, sum_BKM, mixed_BKMD = carry
        k_BKtD = cache.keys.block(layer, slot, B, index, keys, q_BKMD.dtype)
        v_BKtD = cache.values.block(layer, slot, B, index, keys, q_BKMD.dtype)
        scores_BKMt = jnp.einsum("bkmd,bktd->bkmt", q_BKMD, k_BKtD, preferred_element_type=jnp.float32)
        seen_BMt = index * keys + jnp.arange(keys) <= limit_BM[:, :, None]
        scores_BKMt = jnp.where(seen_BMt[:, None], scores_BKMt, lowest)
        new_max_BKM = jnp.maximum(max_BKM, jnp.max(scores_BKMt, axis=-1))
        probs_BKMt = jnp.exp(scores_BKMt - new_max_BKM[..., None])
        kept_BKM = jnp.exp(max_BKM - new_max_BKM)
        mixed_BKMD = mixed_BKMD * kept_BKM[..., None] + jnp.einsum(
            "bkmt,bktd->bkmd", probs_BKMt.astype(v_BKtD.dtype), v_BKtD, preferred_element_type=jnp.float32
        )
        return new_max_BKM, sum_BKM * kept_BKM + jnp.sum(probs_BKMt, axis=-1), mixed_BKMD

    start = (
        jnp.full((B, K, G * S), lowest, jnp.float32),
        jnp.zeros((B, K, G * S), jnp.float32),
        jnp.zeros((B, K, G * S, D), jnp.float32),
    )
    _, sum_BKM, mixed_BKMD = jax.lax.fori_loop(0, last // keys + 1, block, start)
    mixed_BKGSD = (mixed_BKMD / sum_BKM[..., None]).reshape(B, K, G, S, D)
    return mixed_BKGSD.transpose(0, 3, 1, 2, 4).reshape(B, S, H, D).astype(q_BSHD.dtype)
