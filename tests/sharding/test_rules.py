"""One table says where every axis lies; what it cannot do it refuses by both names."""

from dataclasses import replace

import jax
import pytest
from jax.sharding import PartitionSpec

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.rules import RULES, parameter_shardings, partition_spec

CONFIG = ModelConfig(64, 32, 2, 4, 2, 8, 48, qk_norm=True, qkv_bias=True)


def test_logical_axes_become_mesh_axes():
    assert partition_spec(("layers", "embed", "heads", "head_dim")) == PartitionSpec(None, "fsdp", "tensor", None)
    assert partition_spec(("batch", "sequence", "act_embed")) == PartitionSpec(("data", "fsdp"), "context", None)


def test_two_axes_of_one_array_on_one_mesh_axis_are_refused_by_both_names():
    with pytest.raises(UserError, match="'heads' and 'mlp' of one array both map to mesh axis 'tensor'"):
        partition_spec(("heads", "mlp"))
    with pytest.raises(UserError, match="'batch' and 'embed' of one array both map to mesh axis 'fsdp'"):
        partition_spec(("batch", "embed"))
    with pytest.raises(UserError, match="'heads' and 'head_dim'"):
        partition_spec(("heads", "head_dim"), {**RULES, "head_dim": "tensor"})


def test_an_axis_without_a_rule_is_named():
    with pytest.raises(UserError, match="logical axis 'experts' has no rule: known are layers, vocab, "):
        partition_spec(("experts", "embed"))


def test_every_parameter_lies_as_the_rules_say_and_memory_is_shared_out():
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    shardings = parameter_shardings(mesh, CONFIG)
    params = init_params(Decoder(CONFIG), jax.random.key(0))
    placed = jax.tree.map(jax.device_put, params, shardings)
    local = jax.tree.map(lambda x: x.addressable_shards[0].data.shape, placed)
    assert local["embedding"] == (16, 32)
    assert local["unembedding"] == (16, 32)
    assert local["final_norm"] == (32,)
    assert local["layers"]["wq"] == (2, 16, 2, 8)
    assert local["layers"]["wk"] == (2, 16, 1, 8)
    assert local["layers"]["wo"] == (2, 2, 8, 16)
    assert local["layers"]["bq"] == (2, 2, 8)
    assert local["layers"]["w_gate"] == (2, 16, 24)
    assert local["layers"]["w_down"] == (2, 24, 16)
    assert local["layers"]["q_norm"] == (2, 8)
    assert jax.tree.structure(placed) == jax.tree.structure(params)


@pytest.mark.parametrize(
    ("change", "shape", "said"),
    [
        ({}, MeshShape(fsdp=1, data=2, tensor=4), "'tensor' of 4 devices does not divide the 2 kv_heads of parameter"),
        (
            {"vocab_size": 63},
            MeshShape(data=4, fsdp=1, tensor=2),
            "'fsdp × tensor' of 2 devices does not divide the 63 vocab",
        ),
        (
            {"embed_dim": 36},
            MeshShape(),
            "'fsdp' of 8 devices does not divide the 36 embed of parameter",
        ),
    ],
)
def test_a_mesh_that_does_not_divide_a_parameter_is_refused_by_name(change, shape, said):
    with pytest.raises(UserError) as refusal:
        parameter_shardings(make_mesh(shape), replace(CONFIG, **change))
    assert said in str(refusal.value)
