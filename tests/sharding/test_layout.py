"""On every mesh the network computes what it computes on one device, and sends no more than it must."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from slice_device import two_slices

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import REMAT_POLICIES, Decoder, init_params
from demiurgic_jax.model.parameters import layer_specs
from demiurgic_jax.planning.hlo import count as counts_of
from demiurgic_jax.planning.hlo import parse
from demiurgic_jax.sharding.layout import layout_on, per_device
from demiurgic_jax.sharding.mesh import MESH_AXES, MeshShape, device_grid, make_mesh
from demiurgic_jax.sharding.rules import batch_sharding
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.state import abstract_state
from demiurgic_jax.training.step import make_gradients

MODEL = ModelConfig(128, 32, 2, 8, 8, 8, 64, max_context=64, qkv_bias=True, qk_norm=True)
ALONE = MeshShape(fsdp=1)
MESHES = {
    "data": MeshShape(data=8, fsdp=1),
    "fsdp": MeshShape(fsdp=8),
    "context": MeshShape(fsdp=1, context=8),
    "tensor": MeshShape(fsdp=1, tensor=8),
    "data × fsdp": MeshShape(data=2, fsdp=4),
    "data × context": MeshShape(data=2, fsdp=1, context=4),
    "data × tensor": MeshShape(data=4, fsdp=1, tensor=2),
    "fsdp × context": MeshShape(fsdp=4, context=2),
    "fsdp × tensor": MeshShape(fsdp=2, tensor=4),
    "context × tensor": MeshShape(fsdp=1, context=4, tensor=2),
    "fsdp × context × tensor": MeshShape(fsdp=2, context=2, tensor=2),
}
LOSS = LossConfig(distill_weight=0.5, z_loss=1e-3, chunk_tokens=8)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, init_params(Decoder(MODEL), jax.random.key(0)))


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Eight rows of documents of several lengths, some tokens masked, with soft targets."""
    B, S, K = 8, 64, 3
    rng = np.random.default_rng(0)
    segments = np.sort(rng.integers(1, 5, (B, S)), axis=1).astype(np.int32)
    starts = np.array([[np.flatnonzero(row == segment)[0] for segment in row] for row in segments])
    return Batch(
        tokens=rng.integers(0, 128, (B, S)).astype(np.int32),
        targets=rng.integers(0, 128, (B, S)).astype(np.int32),
        positions=(np.arange(S) - starts).astype(np.int32),
        segment_ids=segments,
        loss_weights=rng.integers(0, 2, (B, S)).astype(np.float32),
        teacher_ids=np.stack([(rng.integers(0, 128, (B, S)) + k) % 128 for k in range(K)], -1).astype(np.int32),
        teacher_logprobs=np.log(np.broadcast_to([0.5, 0.2, 0.1], (B, S, K))).astype(np.float32),
    )


def compiled(
    shape: MeshShape, params, *, model=MODEL, compute_dtype=jnp.float32, remat="full", gathered_once=1, mesh=None
):
    """The jitted gradient function and the parameters, laid out."""
    mesh = mesh or make_mesh(shape, jax.devices()[:1] if shape == ALONE else None)
    layout = layout_on(mesh)
    decoder = Decoder(model, compute_dtype=compute_dtype, remat=remat, gathered_once=gathered_once, layout=layout)
    abstract = abstract_state(model, make_optimizer(OptimizerConfig(), 1000), mesh)
    placed = jax.tree.map(lambda x, leaf: jax.device_put(x, leaf.sharding), params, abstract.params)
    gradients = make_gradients(decoder, LOSS, mesh, abstract)
    # Without a blend that changes from step to step, and without a teacher beside it.
    step = jax.jit(
        lambda params, batch: gradients(params, batch, None, None), in_shardings=(None, batch_sharding(mesh))
    )
    return step, placed


@pytest.fixture(scope="module")
def alone(params, batch):
    step, placed = compiled(ALONE, params)
    return jax.device_get(step(placed, batch))


@pytest.mark.parametrize("name", MESHES)
def test_loss_and_gradients_are_those_of_one_device(name, params, batch, alone):
    step, placed = compiled(MESHES[name], params)
    gradients, sums = jax.device_get(step(placed, batch))
    np.testing.assert_allclose(sums.loss, alone[1].loss, rtol=1e-5)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(alone[0]))

    def close(path, ours, expected):
        np.testing.assert_allclose(ours, expected, atol=1e-5 * largest, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(close, gradients, alone[0])


OTHER_FAMILIES = {
    "gemma": replace(MODEL, qk_norm=False, qkv_bias=False, norm="rms_plus_one", mlp="geglu", embedding_scale=32**0.5),
    "starcoder2": replace(MODEL, qk_norm=False, norm="layer", mlp="gelu", projection_bias=True),
}


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_what_other_families_have_instead_is_laid_out_too(family, batch):
    model = OTHER_FAMILIES[family]
    fresh = init_params(Decoder(model), jax.random.key(0))
    loud = jax.tree.map(lambda x: np.asarray(x + 0.1 * jax.random.normal(jax.random.key(1), x.shape)), fresh)
    step, placed = compiled(ALONE, loud, model=model)
    expected, alone = jax.device_get(step(placed, batch))
    step, placed = compiled(MESHES["fsdp × context × tensor"], loud, model=model)
    gradients, sums = jax.device_get(step(placed, batch))
    np.testing.assert_allclose(sums.loss, alone.loss, rtol=1e-5)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest), gradients, expected)


def test_two_slices_give_the_gradients_of_one_device_and_sum_between_them_once(params, batch, alone):
    devices = two_slices()
    grid = device_grid(MeshShape(data=2), devices)
    slice_of = {device.device.id: device.slice_index for device in devices}
    mesh = Mesh(np.vectorize(lambda each: each.device, otypes=[object])(grid), MESH_AXES)
    step, placed = compiled(MeshShape(data=2), params, mesh=mesh)
    gradients, sums = jax.device_get(step(placed, batch))
    np.testing.assert_allclose(sums.loss, alone[1].loss, rtol=1e-5)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(alone[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest), gradients, alone[0])

    # A replica's number in a group is its place in the mesh. What goes between slices is sums of shards, nothing else.
    places = [slice_of[device.id] for device in mesh.devices.flat]
    assert places == [0] * 4 + [1] * 4 or places == [1] * 4 + [0] * 4
    program = step.lower(placed, batch).compile().as_text()
    gathers = [line for line in program.splitlines() if re.search(r" (all-gather|reduce-scatter)\(", line)]
    assert gathers
    inside = "replica_groups={{0,1,2,3},{4,5,6,7}}", "replica_groups=[2,4]<=[8]"
    assert all(any(groups in line for groups in inside) for line in gathers)


def test_gradients_are_scattered_not_summed_everywhere(params, batch):
    """Over `fsdp` no gradient of a matrix is all-reduced: that is twice the bytes of a reduce-scatter."""
    step, placed = compiled(MeshShape(fsdp=8), params)
    program = step.lower(placed, batch).compile().as_text()
    assert "reduce-scatter" in program
    reduced = re.findall(r"= \(?((?:f32|bf16)\[[\d,]*\]).* all-reduce\(", program)
    sizes = [np.prod([int(n) for n in re.findall(r"\d+", shape.split("[")[1])] or [1]) for shape in reduced]
    assert max(sizes) <= MODEL.num_layers * max(MODEL.embed_dim, MODEL.num_heads * MODEL.head_dim)


@pytest.mark.parametrize("remat", [name for name in REMAT_POLICIES if name != "full"])
def test_what_is_computed_again_changes_nothing(remat, params, batch, alone):
    step, placed = compiled(MeshShape(data=2, fsdp=4), params, remat=remat)
    gradients, _ = jax.device_get(step(placed, batch))
    largest = max(np.abs(x).max() for x in jax.tree.leaves(alone[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest), gradients, alone[0])


def test_layers_whose_weights_stay_gathered_change_the_wire_alone(batch):
    model = replace(MODEL, num_layers=5)
    params = jax.tree.map(np.asarray, init_params(Decoder(model), jax.random.key(0)))
    sent, gradients = [], []
    for count in (0, 1, 3):
        step, placed = compiled(MeshShape(fsdp=8), params, model=model, gathered_once=count)
        program = step.lower(placed, batch).compile()
        sent.append(counts_of(parse(program.as_text())).wire_bytes["all-gather"])
        gradients.append(jax.device_get(program(placed, batch))[0])
    largest = max(np.abs(x).max() for x in jax.tree.leaves(gradients[0]))
    for others in gradients[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * largest), gradients[0], others)
    matrices = [name for name, spec in layer_specs(model).items() if "embed" in spec.axes]
    one_layer = sum(params["layers"][name][0].nbytes for name in matrices) * 7 / 8
    assert sent[0] - sent[1] == pytest.approx(one_layer)
    assert sent[1] - sent[2] == pytest.approx(2 * one_layer)


def test_a_device_sees_its_part():
    mesh = make_mesh(MeshShape(data=2, fsdp=2, context=2))
    rows = batch_sharding(mesh)
    x = jax.device_put(np.arange(32).reshape(4, 8), rows)
    shapes = []

    def look(x):
        shapes.append(x.shape)
        return x

    again = jax.jit(per_device(mesh, look, rows.spec, rows.spec))(x)
    assert shapes == [(1, 4)]
    np.testing.assert_array_equal(again, x)
    assert again.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(("data", "fsdp"), "context")), 2)
