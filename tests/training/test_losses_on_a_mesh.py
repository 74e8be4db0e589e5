"""With the vocabulary spread over devices the losses are the dense ones, and no device has the whole of it."""

import re
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from test_losses import assert_dense, random_case, random_teacher

from demiurgic_jax.sharding.layout import MANUAL_AXES, layout_on, per_device
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.rules import batch_sharding, partition_spec, replicated
from demiurgic_jax.training.losses import LossConfig, TeacherStates
from demiurgic_jax.training.step import hidden_loss

MESHES = {
    "fsdp": MeshShape(fsdp=8),
    "fsdp × tensor": MeshShape(fsdp=4, tensor=2),
    "fsdp × tensor, more": MeshShape(fsdp=2, tensor=4),
    "context × tensor": MeshShape(fsdp=1, context=2, tensor=4),
    "data × tensor": MeshShape(data=4, fsdp=1, tensor=2),
}


@cache
def on_mesh(name, config):
    """The jitted (hidden, unembedding, batch, teacher) → (gradients, sums), and how the arguments lie."""
    mesh = make_mesh(MESHES[name])
    layout = layout_on(mesh)
    rows, vocabulary = batch_sharding(mesh), NamedSharding(mesh, partition_spec(("vocab", "channels")))

    def compute(hidden, stored, batch, teacher):
        if teacher is not None:
            whole = layout.gather(teacher.unembedding, ("vocab", "channels"))
            real = layout.gather(teacher.real, ("vocab",))
            teacher = teacher._replace(unembedding=whole, real=real)

        def objective(hidden, stored):
            sums = hidden_loss(layout, hidden, stored, batch, config, teacher=teacher)
            return sums.loss, sums

        (d_hidden, d_stored), sums = jax.grad(objective, argnums=(0, 1), has_aux=True)(hidden, stored)
        return (d_hidden, jax.lax.psum(d_stored, ("data", "context"))), jax.lax.psum(sums, MANUAL_AXES)

    outputs = ((rows.spec, vocabulary.spec), replicated(mesh).spec)

    def run(hidden, stored, batch, teacher=None):
        beside = (
            rows
            if teacher is None
            else TeacherStates(rows, vocabulary, NamedSharding(mesh, partition_spec(("vocab",))))
        )
        lie = (rows, vocabulary, rows, beside)
        specs = jax.tree.map(lambda sharding: sharding.spec, lie)
        return jax.jit(per_device(mesh, compute, specs, outputs), in_shardings=lie)

    return run


CONFIGS = [
    LossConfig(0.3, 2.0, 1e-3, chunk_tokens=4),
    LossConfig(1.0, chunk_tokens=12),
    LossConfig(0.5, 2.0, chunk_tokens=4, divergence="jsd", jsd_beta=0.3),
    LossConfig(1.0, 1.5, chunk_tokens=6, divergence="reverse_kl"),
]


@settings(max_examples=16, derandomize=True)
@given(
    name=st.sampled_from(list(MESHES)),
    seed=st.integers(0, 10**6),
    S=st.sampled_from([2, 12]),
    K=st.sampled_from([0, 3]),
    config=st.sampled_from(CONFIGS),
    online=st.booleans(),
)
def test_every_sharding_gives_the_dense_losses_and_gradients(name, seed, S, K, config, online):
    case = random_case(seed, B=8, S=S, V=32, E=4, K=K or 1, teacher=bool(K))
    teacher = random_teacher(seed, *case[:2]) if online else None
    states = teacher and TeacherStates(*teacher)
    gradients, sums = jax.device_get(on_mesh(name, config)(*case, states)(*case, states))
    assert_dense(*case, config, (sums, gradients), teacher, tolerance=1e-5)


@pytest.mark.parametrize(("K", "online"), [(0, False), (3, False), (0, True)])
def test_no_device_has_logits_or_unembedding_of_the_whole_vocabulary(K, online):
    """Of 1,024 ids each of the four devices along `tensor` has 256, also while it computes."""
    case = random_case(0, B=4, S=12, V=1024, E=24, K=K or 1, teacher=bool(K))
    states = TeacherStates(*random_teacher(0, *case[:2], E=24)) if online else None
    step = on_mesh("fsdp × tensor, more", LossConfig(0.5, chunk_tokens=6))(*case, states)
    program = step.lower(*case, states).compile().as_text()
    shapes = {tuple(int(n) for n in re.findall(r"\d+", dims)) for dims in re.findall(r"\bf32\[([\d,]+)\]", program)}
    assert (2, 6, 256) in shapes
    assert (256, 24) in shapes
    assert not [shape for shape in shapes if 1024 in shape]
    assert max(np.prod(shape) for shape in shapes) < min(1024 * 24, 2 * 6 * 1024)
