"""A student cut out of a teacher is those of its parts that were asked for, untouched."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.importance import measure_importance
from demiurgic_jax.interop.pruning import evenly_spaced, keep_channels, keep_heads, keep_layers, most_important
from demiurgic_jax.interop.vocabulary_trimming import trim_vocabulary
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params

CONFIG = ModelConfig(64, 32, 6, 4, 2, 8, 48)


@given(st.integers(1, 100), st.data())
def test_spaced_layers_keep_both_ends_and_differ_by_at_most_one_step(num_layers, data):
    keep = data.draw(st.integers(1, num_layers))
    layers = evenly_spaced(num_layers, keep)
    assert len(set(layers)) == keep
    assert layers == sorted(layers)
    assert layers[0] == 0
    if keep > 1:
        assert layers[-1] == num_layers - 1
        gaps = np.diff(layers)
        assert gaps.max() - gaps.min() <= 1


def test_kept_layers_are_the_teachers_own():
    params = jax.tree.map(np.asarray, init_params(Decoder(CONFIG), jax.random.key(0)))
    config, pruned = keep_layers(params, CONFIG, [0, 2, 5])
    assert config.num_layers == 3
    assert sum(x.size for x in jax.tree.leaves(pruned)) == config.num_parameters
    for name, value in pruned["layers"].items():
        np.testing.assert_array_equal(value, params["layers"][name][[0, 2, 5]])
    assert pruned["embedding"] is params["embedding"]
    tokens = np.arange(8)[None]
    hidden, _ = Decoder(config).apply({"params": pruned}, tokens, tokens)
    assert np.isfinite(hidden).all()


@pytest.mark.parametrize("layers", [[], [0, 6], [-1, 2], [2, 1], [1, 1]])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(UserError, match="from 0 to 5, ascending"):
        keep_layers({"layers": {}}, CONFIG, layers)


@pytest.mark.parametrize("keep", [0, 7])
def test_more_layers_than_there_are_is_refused(keep):
    with pytest.raises(UserError, match=f"{keep} layers cannot be kept of 6"):
        evenly_spaced(6, keep)


def hidden_states(config, params):
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, 24))
    positions = np.broadcast_to(np.arange(24), tokens.shape)
    return np.asarray(Decoder(config).apply({"params": params}, tokens, positions)[0])


def silenced(params, name, where):
    """The same model with some of its output weights zero: what they carry does nothing."""
    layers = {**params["layers"], name: params["layers"][name].copy()}
    layers[name][where] = 0
    return {**params, "layers": layers}


@pytest.fixture(scope="module")
def teacher():
    config = replace(CONFIG, qkv_bias=True)
    return config, jax.tree.map(np.asarray, init_params(Decoder(config), jax.random.key(1)))


@pytest.fixture(scope="module")
def calibration():
    return np.random.default_rng(1).integers(0, 64, (2, 32))


def test_layers_that_do_nothing_are_the_least_important(teacher, calibration):
    config, params = teacher
    idle = silenced(silenced(params, "wo", [1, 4]), "w_down", [1, 4])
    importance = measure_importance(idle, config, calibration)
    np.testing.assert_allclose(importance.layers[[1, 4]], 0, atol=1e-5)
    kept = most_important(importance.layers, 4)
    assert kept == [0, 2, 3, 5]
    small, pruned = keep_layers(idle, config, kept)
    np.testing.assert_allclose(hidden_states(small, pruned), hidden_states(config, idle), atol=1e-5)
    with pytest.raises(UserError, match="7 layers cannot be kept of 6"):
        most_important(importance.layers, 7)


def test_heads_that_add_nothing_go_first(teacher, calibration):
    """Groups are (0, 1) and (2, 3): one head of each goes."""
    config, params = teacher
    idle, keep = (1, 2), 2
    quiet = silenced(params, "wo", (slice(None), list(idle)))
    importance = measure_importance(quiet, config, calibration)
    assert (importance.heads[:, idle] < 1e-6).all()
    small, pruned = keep_heads(quiet, config, importance.heads, keep)
    assert sum(x.size for x in jax.tree.leaves(pruned)) == small.num_parameters
    np.testing.assert_allclose(hidden_states(small, pruned), hidden_states(config, quiet), atol=1e-5)


def test_whole_groups_go_where_heads_cannot_be_shared_out(calibration):
    config = replace(CONFIG, num_heads=6, num_kv_heads=3)
    params = jax.tree.map(np.asarray, init_params(Decoder(config), jax.random.key(2)))
    quiet = silenced(params, "wo", (slice(None), [2, 3]))
    small, pruned = keep_heads(quiet, config, measure_importance(quiet, config, calibration).heads, 4)
    assert (small.num_heads, small.num_kv_heads) == (4, 2)
    np.testing.assert_allclose(hidden_states(small, pruned), hidden_states(config, quiet), atol=1e-5)
    with pytest.raises(UserError, match="5 heads cannot be kept of 6 in 3 groups of 2"):
        keep_heads(params, config, np.zeros((6, 6)), 5)


def test_channels_that_add_nothing_go_first(teacher, calibration):
    config, params = teacher
    idle = np.arange(0, 48, 3)
    quiet = silenced(params, "w_down", (slice(None), idle))
    importance = measure_importance(quiet, config, calibration)
    small, pruned = keep_channels(quiet, config, importance.channels, 32)
    assert small.mlp_dim == 32
    np.testing.assert_allclose(hidden_states(small, pruned), hidden_states(config, quiet), atol=1e-5)
    with pytest.raises(UserError, match="49 MLP channels cannot be kept of 48"):
        keep_channels(params, config, importance.channels, 49)


def test_importance_is_measured_not_guessed(teacher, calibration):
    """Louder is more important, in the layer where it is louder and nowhere before."""
    config, params = teacher
    before = measure_importance(params, config, calibration)
    layers = {**params["layers"], "w_down": params["layers"]["w_down"].copy()}
    layers["w_down"][3, 7] *= 10
    after = measure_importance({**params, "layers": layers}, config, calibration)
    assert after.channels[3, 7] == pytest.approx(10 * before.channels[3, 7], rel=1e-4)
    np.testing.assert_allclose(after.channels[:3], before.channels[:3], rtol=1e-4)
    np.testing.assert_allclose(after.heads[:4], before.heads[:4], rtol=1e-4)


def test_a_students_pieces_get_the_teachers_rows():
    text = "def add(a, b):\n    return a + b\n# Grüße\n"
    big, small = train_sentencepiece([text * 30], 400), train_sentencepiece(["return number\n" * 30], 375)
    config = ModelConfig(512, 16, 1, 2, 1, 8, 24)
    params = jax.tree.map(np.asarray, init_params(Decoder(config), jax.random.key(3)))
    same, rows = trim_vocabulary(params, config, big, big, 512)
    np.testing.assert_array_equal(rows["embedding"][:400], params["embedding"][:400])
    assert same.vocab_size == 512
    trimmed, rows = trim_vocabulary(params, config, big, small, 384)
    assert trimmed.vocab_size == len(rows["embedding"]) == len(rows["unembedding"]) == 384
    pieces = {big.token_bytes(i): i for i in range(big.vocab_size - 1, -1, -1)}
    shared = [i for i in range(4, small.vocab_size) if small.token_bytes(i) in pieces]
    spelt = [i for i in range(12, small.vocab_size) if small.token_bytes(i) not in pieces]
    assert len(shared) > 100
    assert spelt
    for i in spelt:
        ids = big.encode(small.token_bytes(i).decode())
        np.testing.assert_allclose(rows["unembedding"][i], params["unembedding"][ids].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(rows["embedding"][small.special.eos], params["embedding"][big.special.eos])
    with pytest.raises(UserError, match="a vocabulary of 300 cannot hold"):
        trim_vocabulary(params, config, big, small, 300)
