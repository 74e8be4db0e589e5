"""What the engine runs on the device: few shapes, each compiled once, the cache updated in place.

Shape suffixes: B slots, C prompt chunk, T cache length, V vocab.
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, KVCache, init_cache
from demiurgic_jax.sampling.decoding import Choice, SamplingOptions, choose

SHORTEST_CACHE = 256


class DecodingSteps:
    """The steps over one network and a cache of `slots` rows.

    Layers are scanned: on CPU that decodes as fast as unrolling them (whose weight slices are copied)
    and compiles ten times faster.
    """

    def __init__(self, config: ModelConfig, params: Any, *, slots: int, max_context: int, compute_dtype: Any) -> None:
        self.slots = slots
        self.max_context = max_context
        self.params = jax.tree.map(lambda x: jnp.asarray(x, compute_dtype), params)
        self._config = config
        self._decoder = Decoder(config, compute_dtype=compute_dtype)
        self.dtype = compute_dtype

    def cache_length(self, needed: int) -> int:
        """The cache length used for rows of up to `needed` tokens: powers of two, then `max_context`.

        Attention reads the whole cache, so a short one is fast; it never changes what a row computes,
        because masked positions weigh exactly nothing.
        """
        length = SHORTEST_CACHE
        while length < needed:
            length *= 2
        return min(length, self.max_context)

    def new_cache(self, length: int) -> KVCache:
        """An empty cache [L, B, length, K, D]."""
        return init_cache(self._config, self.slots, length, self.dtype)

    def resize(self, cache: KVCache, length: int) -> KVCache:
        """The same rows in a cache of another length."""
        return _resize(cache, length)

    def prefill(
        self, cache: KVCache, slot: int, tokens: Any, positions: Any, last: int, options: SamplingOptions, want: bool
    ) -> tuple[KVCache, Choice]:
        """Writes a chunk of one prompt, int32 [1, C], into row `slot`, and chooses what follows its
        token `last`. Padding carries positions past the cache."""
        return _prefill(self._decoder, self.params, cache, slot, tokens, positions, last, options, want)

    def decode(
        self, cache: KVCache, tokens: Any, positions: Any, options: SamplingOptions, want: bool
    ) -> tuple[KVCache, Choice]:
        """One token for every row: `tokens` int32 [B] stand at `positions` int32 [B] (past the cache in
        idle rows). Always the same B, so that a row's arithmetic does not depend on how many others run."""
        return _decode(self._decoder, self.params, cache, tokens, positions, options, want)


# Jitted outside of the class: engines over networks of one shape share the compiled steps.
@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _prefill(
    decoder: Decoder,
    params: Any,
    cache: KVCache,
    slot: Any,
    tokens_1C: Any,
    positions_1C: Any,
    last: Any,
    options: SamplingOptions,
    want: Any,
) -> tuple[KVCache, Choice]:
    row = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, slot, 1, axis=1), cache)
    hidden_1CE, row = cast(Any, decoder.apply({"params": params}, tokens_1C, positions_1C, cache=row))
    cache = jax.tree.map(partial(jax.lax.dynamic_update_slice_in_dim, start_index=slot, axis=1), cache, row)
    hidden_1E = jax.lax.dynamic_index_in_dim(hidden_1CE, last, axis=1, keepdims=False)
    logits_1V: Any = decoder.apply({"params": params}, hidden_1E, method="unembed")
    position_1 = jax.lax.dynamic_index_in_dim(positions_1C, last, axis=1, keepdims=False)
    return cache, choose(logits_1V, position_1, options, want)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _decode(
    decoder: Decoder,
    params: Any,
    cache: KVCache,
    tokens_B: Any,
    positions_B: Any,
    options: SamplingOptions,
    want: Any,
) -> tuple[KVCache, Choice]:
    tokens_B1, positions_B1 = tokens_B[:, None], positions_B[:, None]
    hidden_B1E, cache = cast(Any, decoder.apply({"params": params}, tokens_B1, positions_B1, cache=cache))
    logits_BV: Any = decoder.apply({"params": params}, hidden_B1E[:, 0], method="unembed")
    return cache, choose(logits_BV, positions_B, options, want)


@partial(jax.jit, static_argnums=1)
def _resize(cache: KVCache, length: int) -> KVCache:
    def one(x: jax.Array) -> jax.Array:
        grown = max(0, length - x.shape[2])
        return jnp.pad(x[:, :, :length], ((0, 0), (0, 0), (0, grown), (0, 0), (0, 0)))

    return jax.tree.map(one, cache)
