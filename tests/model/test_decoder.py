"""The decoder computes one function, whichever way it is asked for it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig, RopeScaling
from demiurgic_jax.model.decoder import Decoder, init_cache, init_params

BASE = ModelConfig(97, 32, 3, 4, 2, 8, 48, max_context=64)
VARIANTS = {
    "plain": BASE,
    "tied": replace(BASE, tie_embeddings=True),
    "qk_norm": replace(BASE, qk_norm=True),
    "qkv_bias": replace(BASE, qkv_bias=True),
    "gemma": replace(BASE, norm="rms_plus_one", mlp="geglu", embedding_scale=32**0.5, tie_embeddings=True),
    "starcoder2": replace(BASE, norm="layer", mlp="gelu", qkv_bias=True, projection_bias=True),
    "llama3_rope": replace(BASE, rope_scaling=RopeScaling("llama3", 4.0, 16)),
}


def loud_params(config, seed=0):
    """Random everywhere: gains of one and biases of zero would hide a mistake."""
    params = init_params(Decoder(config), jax.random.key(seed))
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(treedef, noisy)


def random_tokens(rows, length, seed=2):
    return jax.random.randint(jax.random.key(seed), (rows, length), 0, BASE.vocab_size)


def positions_of(tokens):
    return jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_decoding_is_the_full_forward_pass(variant):
    """A prefill of rows of different lengths, then a token at a time, each row at its own position."""
    config = VARIANTS[variant]
    decoder, params = Decoder(config), loud_params(config)
    tokens = random_tokens(2, 12)
    full, _ = jax.jit(decoder.apply)({"params": params}, tokens, positions_of(tokens))

    step = jax.jit(lambda tokens, positions, cache: decoder.apply({"params": params}, tokens, positions, cache=cache))
    prefilled = np.array([5, 3])
    length, cache_length = 6, 12
    columns = np.broadcast_to(np.arange(length), (2, length))
    # Padding is sent past the cache's end, where it is dropped.
    positions = np.where(columns < prefilled[:, None], columns, cache_length)
    hidden, cache = step(tokens[:, :length], positions, init_cache(config, 2, cache_length))
    for row, count in enumerate(prefilled):
        np.testing.assert_allclose(hidden[row, :count], full[row, :count], atol=2e-5)
    for offset in range(6):
        at = prefilled + offset
        hidden, cache = step(tokens[np.arange(2), at][:, None], at[:, None], cache)
        np.testing.assert_allclose(hidden[:, 0], full[np.arange(2), at], atol=2e-5)


def test_documents_in_one_row_do_not_see_each_other():
    decoder, params = Decoder(BASE), loud_params(BASE)
    first, second = random_tokens(1, 7, seed=3), random_tokens(1, 5, seed=4)
    padding = jnp.zeros((1, 4), jnp.int32)
    packed = jnp.concatenate([first, second, padding], axis=1)
    positions = jnp.concatenate([positions_of(first), positions_of(second), padding], axis=1)
    segments = jnp.array([[1] * 7 + [2] * 5 + [0] * 4])
    together, _ = decoder.apply({"params": params}, packed, positions, segments)
    for tokens, part in ((first, together[:, :7]), (second, together[:, 7:12])):
        alone, _ = decoder.apply({"params": params}, tokens, positions_of(tokens))
        np.testing.assert_allclose(part, alone, atol=1e-5)
    assert np.isfinite(together).all()


def test_no_position_sees_what_follows():
    decoder, params = Decoder(BASE), loud_params(BASE)
    tokens = random_tokens(1, 9)
    before, _ = decoder.apply({"params": params}, tokens, positions_of(tokens))
    after, _ = decoder.apply({"params": params}, tokens.at[0, 6:].add(1) % BASE.vocab_size, positions_of(tokens))
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert not np.allclose(before[:, 6:], after[:, 6:])


@pytest.fixture(scope="module")
def plain_gradients():
    return _value_and_gradients(remat="none", scan_layers=True)


def _value_and_gradients(*, remat, scan_layers):
    decoder, params = Decoder(BASE, remat=remat, scan_layers=scan_layers), loud_params(BASE)
    tokens = random_tokens(2, 8)

    def objective(params):
        hidden, _ = decoder.apply({"params": params}, tokens, positions_of(tokens), jnp.ones_like(tokens))
        return jnp.sum(jnp.sin(decoder.apply({"params": params}, hidden, method="unembed")))

    return jax.jit(jax.value_and_grad(objective))(params)


@pytest.mark.parametrize(
    ("remat", "scan_layers"), [("none", False), ("full", True), ("full", False), ("dots", True), ("dots", False)]
)
def test_scan_and_remat_change_memory_and_nothing_else(remat, scan_layers, plain_gradients):
    value, gradients = _value_and_gradients(remat=remat, scan_layers=scan_layers)
    np.testing.assert_allclose(value, plain_gradients[0], rtol=1e-5)
    for ours, plain in zip(jax.tree.leaves(gradients), jax.tree.leaves(plain_gradients[1]), strict=True):
        np.testing.assert_allclose(ours, plain, atol=2e-5 * np.abs(plain).max())


def test_linen_init_makes_the_same_tree():
    decoder = Decoder(BASE)
    tokens = random_tokens(1, 4)
    params = decoder.init(jax.random.key(0), tokens, positions_of(tokens))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, init_params(decoder, jax.random.key(0)))


def test_unknown_remat_policy_lists_the_known():
    tokens = random_tokens(1, 4)
    with pytest.raises(UserError, match=r"remat 'some' is unknown: choose one of none, dots, .*, full, offload"):
        Decoder(BASE, remat="some").init(jax.random.key(0), tokens, positions_of(tokens))
