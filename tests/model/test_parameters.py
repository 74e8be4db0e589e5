"""Shapes are declared once, and everything that speaks of them agrees."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import NAMED_SIZES, ModelConfig, RopeScaling, named_config
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.model.parameters import abstract_parameters, parameter_axes

BASE = ModelConfig(512, 64, 4, 8, 2, 16, 96)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_number_of_parameters_is_the_real_count(qk_norm, qkv_bias, tied):
    config = replace(BASE, qk_norm=qk_norm, qkv_bias=qkv_bias, tie_embeddings=tied)
    params = init_params(Decoder(config), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == config.num_parameters
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract_parameters(config)
    )


@pytest.mark.parametrize("norm", ["rms", "rms_plus_one", "layer"])
@pytest.mark.parametrize("mlp", ["swiglu", "geglu", "gelu"])
@pytest.mark.parametrize("biased", [False, True])
def test_number_of_parameters_is_the_real_count_of_other_families_too(norm, mlp, biased):
    config = replace(BASE, norm=norm, mlp=mlp, projection_bias=biased)
    params = init_params(Decoder(config), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == config.num_parameters


@pytest.mark.parametrize(("name", "billions"), [("1b", 1.1), ("7b", 6.7), ("13b", 13.0), ("34b", 33.7), ("70b", 69.0)])
def test_named_sizes_are_as_large_as_their_names(name, billions):
    assert named_config(name).num_parameters / 1e9 == pytest.approx(billions, rel=0.02)
    sizes = [np.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_parameters(named_config(name)))]
    assert sum(sizes) == named_config(name).num_parameters


def test_every_dimension_has_an_axis_name():
    config = replace(BASE, qk_norm=True, qkv_bias=True)
    axes = parameter_axes(config)
    is_axes = lambda node: isinstance(node, tuple)  # noqa: E731
    for names, leaf in zip(
        jax.tree.leaves(axes, is_leaf=is_axes), jax.tree.leaves(abstract_parameters(config)), strict=True
    ):
        assert len(names) == len(leaf.shape)


def test_fresh_weights_have_variance_one_over_fan_in():
    config = replace(BASE, embed_dim=256, mlp_dim=512, num_layers=8)
    layers = init_params(Decoder(config), jax.random.key(0))["layers"]
    assert np.std(layers["wq"]) == pytest.approx(256**-0.5, rel=0.02)
    assert np.std(layers["w_gate"]) == pytest.approx(256**-0.5, rel=0.02)
    # What writes to the residual stream is smaller by sqrt(2 · layers).
    assert np.std(layers["w_down"]) == pytest.approx((512 * 16) ** -0.5, rel=0.02)
    assert np.std(layers["wo"]) == pytest.approx((8 * 16 * 16) ** -0.5, rel=0.02)
    # Keys of their own: layers differ from each other, and so do parameters of one shape.
    assert not np.allclose(layers["w_gate"][0], layers["w_gate"][1])
    assert not np.allclose(layers["w_gate"], layers["w_up"])


@pytest.mark.parametrize("name", NAMED_SIZES)
def test_config_survives_json(name):
    config = replace(NAMED_SIZES[name], rope_scaling=RopeScaling("llama3", 8.0))
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_kv_heads": 3}, "model.num_heads=8 is no multiple of model.num_kv_heads=3"),
        ({"head_dim": 7}, "model.head_dim=7 is odd"),
        ({"num_layers": 0}, "model.num_layers is 0"),
        ({"norm": "batch"}, "model.norm='batch' is unknown: choose one of rms, rms_plus_one, layer"),
        ({"mlp": "relu"}, "model.mlp='relu' is unknown"),
    ],
)
def test_impossible_shapes_are_refused_by_field(fields, said):
    with pytest.raises(UserError, match=said):
        replace(BASE, **fields)


def test_unknown_and_missing_fields_are_named():
    values = BASE.to_dict()
    with pytest.raises(UserError, match="card has the unknown field 'layers'"):
        ModelConfig.from_dict(values | {"layers": 3}, "card")
    del values["mlp_dim"]
    with pytest.raises(UserError, match=r"card is incomplete: .*'mlp_dim'"):
        ModelConfig.from_dict(values, "card")
    with pytest.raises(UserError, match="'2b' is unknown: choose one of tiny, 135m, 1b"):
        named_config("2b")
