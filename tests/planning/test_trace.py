"""JAX's own trace of a step tells its FLOPs and what it keeps, for every remat policy."""

import dataclasses

import pytest

from demiurgic_jax.model.config import named_config
from demiurgic_jax.model.decoder import REMAT_POLICIES
from demiurgic_jax.model.flops import attention_flops, training_flops
from demiurgic_jax.planning.trace import trace_row
from demiurgic_jax.training.config import TrainConfig

MODEL = named_config("1b")
TRAIN = TrainConfig(steps=10, batch_size=1, context=2048, compute_dtype="bfloat16", remat="none")


def test_without_recomputation_a_step_executes_what_the_model_needs():
    trace = trace_row(TRAIN, MODEL)
    attention = 3 * MODEL.num_layers * attention_flops(MODEL, TRAIN.batch_size, TRAIN.context)
    needed = training_flops(MODEL, TRAIN.batch_size, TRAIN.context)
    # Norm gains are parameters, but no matrix.
    assert trace.matmul_flops == pytest.approx(needed - attention, rel=1e-4)
    # A fused kernel computes the scores once more on its way back: 2 + 5 products instead of 2 + 4.
    assert trace.attention_flops == pytest.approx(attention * 7 / 6, rel=0.01)


def test_what_a_policy_keeps_it_need_not_compute_again():
    traces = {remat: trace_row(dataclasses.replace(TRAIN, remat=remat), MODEL) for remat in REMAT_POLICIES}
    assert traces["full"].matmul_flops > traces["dots"].matmul_flops >= traces["none"].matmul_flops
    assert traces["full"].kept_bytes < traces["dots"].kept_bytes < traces["none"].kept_bytes
    layer_inputs = MODEL.num_layers * TRAIN.batch_size * TRAIN.context * MODEL.embed_dim * 2
    assert layer_inputs < traces["full"].kept_bytes < 2 * layer_inputs
    assert traces["offload"].kept_bytes == traces["full"].kept_bytes - layer_inputs


def test_soft_targets_and_tied_embeddings_are_traced_too():
    train = dataclasses.replace(TRAIN, soft_targets=32)
    assert trace_row(train, dataclasses.replace(MODEL, tie_embeddings=True)).matmul_flops > 0
