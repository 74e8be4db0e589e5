"""Optimizer moments kept in fewer bits than they are computed in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# What optax calls the moments that are as large as the parameters.
MOMENTS = ("mu", "nu")


class RoundedState(NamedTuple):
    """The rounded transformation's own state, and how often it was updated (int32 scalar)."""

    count: Any
    inner: Any


def stochastic_round(x: jax.Array, key: jax.Array) -> jax.Array:
    """Float32 to bfloat16, up or down at random so that the mean is x; the same on every mesh.

    A second moment grows by (1 - β2)·(g² - nu) a step. Below half of bfloat16's spacing (1/256 to 1/512 of nu) rounding
    to nearest would drop that at every step and leave nu where it is; with β2 = 0.999 it never moves.
    """
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


def in_bfloat16(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, computed in float32, its moments (`mu`, `nu`) stored in bfloat16 between the steps."""

    def init(params: Any) -> RoundedState:
        state = _map_moments(lambda leaf, _: leaf.astype(jnp.bfloat16), inner.init(params))
        return RoundedState(jnp.zeros((), jnp.int32), state)

    def update(updates: Any, state: RoundedState, params: Any = None) -> tuple[Any, RoundedState]:
        whole = _map_moments(lambda leaf, _: leaf.astype(jnp.float32), state.inner)
        updates, whole = inner.update(updates, whole, params)
        key = jax.random.fold_in(jax.random.key(0), state.count)
        rounded = _map_moments(lambda leaf, index: stochastic_round(leaf, jax.random.fold_in(key, index)), whole)
        return updates, RoundedState(state.count + 1, rounded)

    return optax.GradientTransformation(init, update)


def _map_moments(function: Callable[[jax.Array, int], jax.Array], state: Any) -> Any:
    """`function(moment, its number)` for every moment in `state`, all else as it is."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(state)
    mapped = []
    for index, (path, leaf) in enumerate(leaves):
        is_moment = any(getattr(key, "name", None) in MOMENTS for key in path)
        mapped.append(function(leaf, index) if is_moment else leaf)
    return jax.tree.unflatten(treedef, mapped)
