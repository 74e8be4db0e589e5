"""Everything that a run needs to go on: step, parameters, optimizer state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

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
    """Shapes, dtypes and shardings of the state on `mesh`. Optimizer arrays lie like the parameters that they are made
    from, also those that lack one of their dimensions (Adafactor's rows and columns)."""
    shardings = parameter_shardings(mesh, config)
    params = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_parameters(config),
        shardings,
    )
    # On a mesh of explicit axes JAX carries shardings along with shapes, through whatever `init` makes of parameters.
    explicit = AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=(AxisType.Explicit,) * len(mesh.axis_names))

    def typed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(explicit, leaf.sharding.spec))

    def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        spec = leaf.sharding.spec if leaf.sharding is not None else PartitionSpec()
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    with jax.sharding.use_abstract_mesh(explicit):
        opt_state = jax.tree.map(place, jax.eval_shape(optimizer.init, jax.tree.map(typed, params)))
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh)), params, opt_state)


def new_state(params: Any, abstract: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
    """Step 0 from `params` (host or local device arrays, the same in all processes), laid out as `abstract` says."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    # A copy, always: the step donates its state, and the caller's arrays must outlive it.
    params = jax.tree.map(lambda x, s: put_array(np.asarray(x, np.float32), s), params, shardings.params)
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(params)
    return TrainState(put_array(np.int32(0), shardings.step), params, opt_state)


class Unaveraged(NamedTuple):
    """What training goes on from besides the average that a checkpoint has as its parameters."""

    params: Any
    opt_state: Any


def to_save(state: TrainState, averaged: bool) -> Any:
    """What a checkpoint needs besides the parameters to evaluate and sample from; of an abstract state, its shape.

    Where these are an average (OptimizerConfig.evaluates_average) it is the parameters being trained too: computed
    back from the average they would not have the same bits.
    """
    return Unaveraged(state.params, state.opt_state) if averaged else state.opt_state


def restored_state(step: Any, params: Any, rest: Any) -> TrainState:
    """The state of which `params` and `rest` were saved."""
    return TrainState(step, *rest) if isinstance(rest, Unaveraged) else TrainState(step, params, rest)
