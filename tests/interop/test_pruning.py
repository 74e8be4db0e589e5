"""A student cut out of a teacher is those of its layers that were asked for, untouched."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.pruning import evenly_spaced, keep_layers
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
