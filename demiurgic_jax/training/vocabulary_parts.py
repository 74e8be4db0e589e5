"""What losses need of a vocabulary that may lie over a mesh axis, a part on each device.

Each device has the logits of its own rows, and what is needed of all (maxima, sums, single logits) travels. Without a
`vocabulary_axis` the whole vocabulary is here.

Shape suffixes: B batch, C chunk of the sequence, V vocab (of this device), K entries.
"""

from functools import partial

import jax
import jax.numpy as jnp


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def sum_parts(x: jax.Array, vocabulary_axis: str | None) -> jax.Array:
    """The sum of x over the parts of the vocabulary. Each part goes on to the same loss from it, so the gradient that
    comes back is the whole one everywhere; JAX's own rule would add it up once more (Shoeybi et al. 2019)."""
    return x if vocabulary_axis is None else jax.lax.psum(x, vocabulary_axis)


sum_parts.defvjp(lambda x, axis: (sum_parts(x, axis), None), lambda axis, _, gradient: (gradient,))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def to_parts(x: jax.Array, vocabulary_axis: str | None) -> jax.Array:
    """x itself, for terms of which each part of the vocabulary has its own: their gradients are added up over the
    parts. The counterpart of `sum_parts`."""
    return x


to_parts.defvjp(lambda x, axis: (x, None), lambda axis, _, gradient: (sum_parts(gradient, axis),))


def logsumexp(logits_BCV: jax.Array, vocabulary_axis: str | None) -> tuple[jax.Array, jax.Array]:
    """log Σ exp and the maximum, both [B, C], over the whole vocabulary."""
    largest = jax.lax.stop_gradient(jnp.max(logits_BCV, axis=-1))
    if vocabulary_axis is not None:
        largest = jax.lax.pmax(largest, vocabulary_axis)
    total = sum_parts(jnp.sum(jnp.exp(logits_BCV - largest[..., None]), axis=-1), vocabulary_axis)
    return largest + jnp.log(total), largest


def local_ids(ids: jax.Array, rows: int, vocabulary_axis: str | None) -> tuple[jax.Array, jax.Array]:
    """Where `ids` are among the `rows` of the vocabulary that this device has, and whether they are there at all."""
    first = 0 if vocabulary_axis is None else rows * jax.lax.axis_index(vocabulary_axis)
    local = ids - first
    return local, (local >= 0) & (local < rows)


def pick(logits_BCV: jax.Array, ids_BCK: jax.Array, vocabulary_axis: str | None) -> jax.Array:
    """The logits at `ids`, [B, C, K], whichever device has them."""
    local, here = local_ids(ids_BCK, logits_BCV.shape[-1], vocabulary_axis)
    picked = jnp.take_along_axis(logits_BCV, jnp.where(here, local, 0), axis=-1)
    return sum_parts(jnp.where(here, picked, 0), vocabulary_axis)
