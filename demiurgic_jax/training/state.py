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
from demiurgic_jax.sharding.rules import parameter_shardings, partition_spec, replicated
from demiurgic_jax.training.hidden_matching import HiddenMatching, Projection

# [P, E, T]: spread like the student's own matrices along its width.
PROJECTION_AXES = ("layers", "embed", "channels")


class TrainState(NamedTuple):
    """A pytree. `step` counts the optimizer updates made so far (int32 scalar). `projection` is trained beside the
    student where its hidden states are matched (training/hidden_matching.py), else ()."""

    step: Any
    params: Any
    opt_state: Any
    projection: Any = ()


def abstract_state(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    matching: HiddenMatching | None = None,
) -> TrainState:
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

    def moments(of: optax.GradientTransformation, params: Any) -> Any:
        with jax.sharding.use_abstract_mesh(explicit):
            return jax.tree.map(place, jax.eval_shape(of.init, jax.tree.map(typed, params)))

    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))
    state = TrainState(step, params, moments(optimizer, params))
    if matching is None or not matching.projects:
        return state
    lies = NamedSharding(mesh, partition_spec(PROJECTION_AXES))
    weights = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies),
        jax.eval_shape(matching.initial_weights, jax.random.key(0)),
    )
    return state._replace(projection=Projection(weights, moments(matching.optimizer, weights)))


def new_state(
    params: Any,
    abstract: TrainState,
    optimizer: optax.GradientTransformation,
    matching: HiddenMatching | None = None,
    seed: int = 0,
) -> TrainState:
    """Step 0 from `params` (host or local device arrays, the same in all processes), laid out as `abstract` says. A
    projection begins as `seed` says."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    # A copy, always: the step donates its state, and the caller's arrays must outlive it.
    params = jax.tree.map(lambda x, s: put_array(np.asarray(x, np.float32), s), params, shardings.params)
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(params)
    state = TrainState(put_array(np.int32(0), shardings.step), params, opt_state)
    if matching is None or not matching.projects:
        return state
    weights = put_array(matching.initial_weights(jax.random.key(seed)), shardings.projection.weights)
    moments = jax.jit(matching.optimizer.init, out_shardings=shardings.projection.moments)(weights)
    return state._replace(projection=Projection(weights, moments))


class Projecting(NamedTuple):
    """What training goes on from besides the parameters, where there is a projection."""

    rest: Any
    projection: Any


class Unaveraged(NamedTuple):
    """What training goes on from besides the average that a checkpoint has as its parameters."""

    params: Any
    opt_state: Any


def to_save(state: TrainState, averaged: bool) -> Any:
    """What a checkpoint needs besides the parameters to evaluate and sample from; of an abstract state, its shape.

    Where these are an average (OptimizerConfig.evaluates_average) it is the parameters being trained too: computed
    back from the average they would not have the same bits.
    """
    rest = Unaveraged(state.params, state.opt_state) if averaged else state.opt_state
    return Projecting(rest, state.projection) if isinstance(state.projection, Projection) else rest


def restored_state(step: Any, params: Any, rest: Any) -> TrainState:
    """The state of which `params` and `rest` were saved."""
    if isinstance(rest, Projecting):
        return restored_state(step, params, rest.rest)._replace(projection=rest.projection)
    return TrainState(step, *rest) if isinstance(rest, Unaveraged) else TrainState(step, params, rest)
