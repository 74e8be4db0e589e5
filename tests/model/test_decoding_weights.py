"""The network as it writes text is the Decoder: every family, read in chunks and token by token."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.model.cache import copy_prefix, new_cache
from demiurgic_jax.model.config import ModelConfig, named_config
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.model.decoding import decoding_axes, decoding_weights, logits, read
from demiurgic_jax.model.quantized_weight import Int8Matrix, int8_product, quantize_rows

SMALL = dataclasses.replace(named_config("tiny"), num_layers=2, vocab_size=300, embed_dim=64, mlp_dim=96, head_dim=16)
FAMILIES = {
    "llama": SMALL,
    "qwen": dataclasses.replace(SMALL, qkv_bias=True, qk_norm=True, tie_embeddings=False),
    "gemma": dataclasses.replace(SMALL, norm="rms_plus_one", mlp="geglu", embedding_scale=8.0),
    "starcoder": dataclasses.replace(
        SMALL, norm="layer", mlp="gelu", projection_bias=True, qkv_bias=True, num_kv_heads=1
    ),
}


def network(config: ModelConfig) -> dict:
    """Parameters none of which is neutral."""
    params = init_params(Decoder(config), jax.random.key(1))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_reads_as_the_decoder_does(name: str, loop: bool):
    config, params = FAMILIES[name], network(FAMILIES[name])
    tokens = np.random.default_rng(0).integers(0, 300, (2, 300)).astype(np.int32)
    hidden, _ = Decoder(config).apply({"params": params}, tokens, jnp.broadcast_to(jnp.arange(300), (2, 300)))
    expected = Decoder(config).apply({"params": params}, hidden, method="unembed")

    weights = decoding_weights(config, params, jnp.float32)
    step = jax.jit(partial(read, config, loop=loop))
    cache, found = new_cache(config, 3, 300, jnp.float32), []
    # Slots 1 and 2: chunks that end inside of a block of keys, with padding, and single tokens across its border.
    for start, stop, width in (
        (0, 200, 256),
        (200, 254, 64),
        *((i, i + 1, 1) for i in range(254, 258)),
        (258, 300, 64),
    ):
        part = np.zeros((2, width), np.int32)
        positions = np.full((2, width), cache.length, np.int32)
        part[:, : stop - start] = tokens[:, start:stop]
        positions[:, : stop - start] = np.arange(start, stop)
        hidden, cache = step(weights, cache, 1, part, positions)
        found.append(logits(config, weights, hidden[:, : stop - start]))
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=2e-4)
    assert not np.any(cache.keys.values[:, 0])  # slot 0 is another's


def test_a_copied_prefix_is_the_prefix():
    config, params = SMALL, network(SMALL)
    weights = decoding_weights(config, params, jnp.float32)
    tokens = np.random.default_rng(0).integers(0, 300, (1, 290)).astype(np.int32)
    step = jax.jit(partial(read, config, loop=True))
    _, cache = step(weights, new_cache(config, 2, 512, jnp.float32), 1, tokens, np.arange(290)[None])
    more, where = np.array([[7, 8]], np.int32), np.array([[280, 281]], np.int32)
    expected, _ = step(weights, cache, 1, more, where)
    found, _ = step(weights, copy_prefix(cache, 1, 0, 280), 0, more, where)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_array_has_its_axes(name: str):
    config = FAMILIES[name]
    weights = decoding_weights(config, network(config), jnp.float32)
    axes = decoding_axes(config)
    ranks = jax.tree.map(lambda a: len(a), axes, is_leaf=lambda node: isinstance(node, tuple))
    assert ranks == jax.tree.map(lambda w: w.ndim, weights)


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_an_eight_bit_product_rounds_the_weights_and_nothing_else(rows: int):
    rng = np.random.default_rng(0)
    matrix = quantize_rows(jnp.asarray(rng.normal(size=(48, 130)).astype(np.float32)))
    x = rng.normal(size=(rows, 130)).astype(np.float32) * rng.choice([1e-3, 1, 50], size=(rows, 1))
    exact = x @ (np.asarray(matrix.values, np.float32) * np.asarray(matrix.scales)[:, None]).T
    found = int8_product(jnp.asarray(x), [matrix], 0)
    # Half a unit of the second digit in each of 130 summands, at worst.
    unit = np.abs(x).max(axis=1, keepdims=True) / 127 / 254
    worst = 0.51 * unit * np.abs(np.asarray(matrix.values, np.float32) * np.asarray(matrix.scales)[:, None]).sum(axis=1)
    assert np.all(np.abs(found - exact) <= worst + 1e-5)
    zeros = int8_product(jnp.zeros((rows, 130)), [Int8Matrix(*matrix)], 0)
    assert not np.any(zeros)
