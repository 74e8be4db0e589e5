"""Everything that a run needs to go on: step, parameters, optimizer state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.sharding.placement import put_array
from demiurgic_jax.sharding.rules import parameter_shardings, replicated


class TrainState(NamedTuple):
    """A pytree. `step` counts the optimizer updates made so far (int32 scalar)."""

    step: Any
    params: Any
    opt_state: Any


def abstract_state(config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state on `mesh`; optimizer moments lie like their parameters."""
    shardings = parameter_shardings(mesh, config)
    params = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_parameters(config),
        shardings,
    )
    everywhere = replicated(mesh)

    def place(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    opt_state = optax.tree.map_params(
        optimizer,
        place,
        jax.eval_shape(optimizer.init, params),
        shardings,
        transform_non_params=lambda leaf: place(leaf, everywhere),
    )
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere), params, opt_state)


def new_state(params: Any, abstract: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
    """Step 0 from `params` (host or local device arrays, the same in all processes), laid out as `abstract` says."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    # A copy, always: the step donates its state, and the caller's arrays must outlive it.
    params = jax.tree.map(lambda x, s: put_array(np.asarray(x, np.float32), s), params, shardings.params)
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(params)
    return TrainState(put_array(np.int32(0), shardings.step), params, opt_state)
