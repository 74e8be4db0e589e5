"""One step is the same step however its batch is cut and whatever mesh it runs on."""

import jax
import numpy as np
import pytest

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_batch
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.state import abstract_state, new_state
from demiurgic_jax.training.step import make_train_step, require_divisible

STEPS = 20
LOSS = LossConfig(distill_weight=0.5, temperature=2.0, z_loss=1e-4, chunk_tokens=16)
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, warmup_steps=4)
ALONE = MeshShape(fsdp=1)


@pytest.fixture(scope="module")
def batches(train_set):
    loader = Loader(train_set, batch_size=8, row_length=32, seed=0, soft_targets=4)
    return [loader.batch(step) for step in range(STEPS)]


def run(model, params, batches, shape, *, grad_accum_steps=1, optimizer=OPTIMIZER):
    """The metrics of each step, and the parameters at the end."""
    devices = jax.devices()[:1] if shape == ALONE else None
    mesh = make_mesh(shape, devices)
    decoder = Decoder(model, layout=layout_on(mesh), remat="full")
    transformation = make_optimizer(optimizer, STEPS)
    abstract = abstract_state(model, transformation, mesh)
    step = make_train_step(decoder, transformation, LOSS, mesh, abstract, grad_accum_steps)
    state = new_state(params, abstract, transformation)
    history = []
    for batch in batches:
        state, metrics = step(state, put_batch(batch, mesh))
        history.append(jax.device_get(metrics))
    assert int(state.step) == len(batches)
    return history, jax.device_get(state.params)


@pytest.fixture(scope="module")
def alone(model, params, batches):
    return run(model, params, batches, ALONE)


MESHES = {
    "8×1 data": MeshShape(data=8, fsdp=1),
    "4×2 data × fsdp": MeshShape(data=4, fsdp=2),
    "4×2 fsdp × tensor": MeshShape(fsdp=4, tensor=2),
    "2×2×2 data × fsdp × tensor": MeshShape(data=2, fsdp=2, tensor=2),
    "2×2×2 fsdp × context × tensor": MeshShape(fsdp=2, context=2, tensor=2),
}


@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_gives_the_losses_of_a_single_device(name, model, params, batches, alone):
    history, _ = run(model, params, batches, MESHES[name])
    for metric in ("loss", "cross_entropy", "kl", "grad_norm"):
        ours = [float(row[metric]) for row in history]
        np.testing.assert_allclose(ours, [float(row[metric]) for row in alone[0]], rtol=1e-4, err_msg=metric)


def test_the_model_learns(alone):
    losses = [float(row["loss"]) for row in alone[0]]
    assert losses[-1] < 0.85 * losses[0]


def test_accumulated_micro_batches_are_the_large_batch(model, params, batches):
    """Masks are uneven: one row keeps a single token, another none."""
    uneven = []
    for batch in batches[:3]:
        weights = batch.loss_weights.copy()
        weights[0] = 0
        weights[1, 1:] = 0
        uneven.append(batch._replace(loss_weights=weights))
    whole, whole_params = run(model, params, uneven, ALONE)
    for shape, parts in ((ALONE, 4), (ALONE, 8), (MeshShape(data=2, fsdp=2, tensor=2), 2)):
        history, parts_params = run(model, params, uneven, shape, grad_accum_steps=parts)
        for ours, expected in zip(history, whole, strict=True):
            assert float(ours["loss_tokens"]) == float(expected["loss_tokens"])
            for metric in ("loss", "cross_entropy", "kl", "z_loss", "accuracy", "grad_norm"):
                assert float(ours[metric]) == pytest.approx(float(expected[metric]), rel=1e-5)
        for ours, expected in zip(jax.tree.leaves(parts_params), jax.tree.leaves(whole_params), strict=True):
            np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_a_batch_without_a_loss_token_moves_nothing_but_decay(model, params, batches):
    silent = batches[0]._replace(loss_weights=np.zeros_like(batches[0].loss_weights))
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.0)
    history, after = run(model, params, [silent], ALONE, optimizer=optimizer)
    assert float(history[0]["loss"]) == 0
    jax.tree.map(np.testing.assert_array_equal, after, params)


def test_the_callers_parameters_outlive_the_donated_state(model, params, batches):
    before = jax.tree.map(jax.numpy.asarray, params)
    run(model, before, batches[:1], ALONE)
    jax.tree.map(np.testing.assert_array_equal, before, params)


@pytest.mark.parametrize(
    ("arguments", "shape", "said"),
    [
        ((12, 32, 1), MeshShape(), "train.batch_size=12 does not split into grad_accum_steps=1 × data·fsdp=8"),
        ((8, 32, 2), MeshShape(), "make it a multiple of 16"),
        ((8, 33, 1), MeshShape(fsdp=4, context=2), "train.context=33 is no multiple of the mesh's context=2"),
    ],
)
def test_a_batch_that_does_not_split_is_refused(arguments, shape, said):
    with pytest.raises(UserError) as refusal:
        require_divisible(*arguments, make_mesh(shape))
    assert said in str(refusal.value)


def test_batches_are_what_the_step_was_tested_with(batches):
    """Prompts, padding and positions without a teacher are all among them."""
    batch: Batch = batches[0]
    assert (batch.segment_ids == 0).any()
    assert ((batch.segment_ids > 0) & (batch.loss_weights == 0)).any()
    has_teacher = np.isfinite(batch.teacher_logprobs[..., 0])
    assert has_teacher.any()
    assert (~has_teacher & (batch.loss_weights > 0)).any()
