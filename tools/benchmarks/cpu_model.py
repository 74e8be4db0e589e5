"""The network that benchmarks of what surrounds a step train on a CPU: d 256 × 6 layers, rows of 512 tokens."""

from collections.abc import Callable

import jax
import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_batch
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.state import TrainState, abstract_state, new_state
from demiurgic_jax.training.step import make_train_step

CONTEXT = 512
MODEL = ModelConfig(8192, 256, 6, 4, 4, 64, 1024, max_context=CONTEXT)


def on_one_device() -> tuple[TrainState, Callable[[TrainState, Batch], TrainState]]:
    """A state, and what takes one a step further and waits until that is done."""
    mesh = make_mesh(MeshShape(fsdp=1), jax.devices()[:1])
    decoder = Decoder(MODEL, remat="none", layout=layout_on(mesh))
    optimizer = make_optimizer(OptimizerConfig(), 10_000)
    abstract = abstract_state(MODEL, optimizer, mesh)
    step = make_train_step(decoder, optimizer, LossConfig(chunk_tokens=128), mesh, abstract)

    def trained(state: TrainState, batch: Batch) -> TrainState:
        state, metrics = step(state, put_batch(batch, mesh))
        jax.device_get(metrics)
        return state

    return new_state(init_params(decoder, jax.random.key(0)), abstract, optimizer), trained


def made_up_batch(rows: int) -> Batch:
    tokens = np.random.default_rng(0).integers(0, MODEL.vocab_size, (rows, CONTEXT)).astype(np.int32)
    positions = np.tile(np.arange(CONTEXT, dtype=np.int32), (rows, 1))
    ones = np.ones((rows, CONTEXT), np.int32)
    return Batch(tokens, np.roll(tokens, -1, 1), positions, ones, ones.astype(np.float32), None, None)
