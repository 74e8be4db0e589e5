"""What the decoder's `Layout` means on a mesh, inside of `per_device`.

Every device runs the network on its own rows (axes data, fsdp) and its own part of the sequence (context), and sees
of a weight only the part that it stores: collectives over these axes are written out, so that a gradient is
reduced and scattered in one pass over the wire, in the compute dtype, and nothing is left to a partitioner's luck.
The axis `tensor` stays with the compiler, which lays out the products inside of a layer from the constraints here.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from demiurgic_jax.model.attention import attention
from demiurgic_jax.model.attention_kernels import SPLASH_BLOCK, cudnn_attention, splash_attention
from demiurgic_jax.model.layout import ONE_DEVICE, Axes, Layout
from demiurgic_jax.sharding.rules import mesh_axes, partition_spec

# The axes whose collectives are written out.
MANUAL_AXES = ("data", "fsdp", "context")


def manual_axes(mesh: Mesh) -> set[str]:
    """With one device along `tensor` nothing is left to the compiler, and kernels need no further wrapping."""
    return {*MANUAL_AXES, "tensor"} if mesh.shape["tensor"] == 1 else set(MANUAL_AXES)


def per_device(mesh: Mesh, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`function` as one device sees it; specs are those of the whole arrays."""
    manual = manual_axes(mesh)
    in_specs, out_specs = jax.tree.map(
        partial(_only, manual), (in_specs, out_specs), is_leaf=lambda x: isinstance(x, PartitionSpec)
    )
    # Sums over devices are written out in the step; checking them by types would insert others.
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names=manual, check_vma=False
    )


def _only(kept: set[str], spec: PartitionSpec) -> PartitionSpec:
    """`spec` with all other mesh axes left out."""

    def one(entry: Any) -> Any:
        if isinstance(entry, tuple):
            return tuple(axis for axis in entry if axis in kept) or None
        return entry if entry in kept else None

    return PartitionSpec(*map(one, spec))


def layout_on(mesh: Mesh, splash_block: int = SPLASH_BLOCK) -> Layout:
    """The layout of a network that runs inside of `per_device` on `mesh`; `splash_block` is that of TPUs' attention."""
    if mesh.size == 1 and mesh.devices.flat[0].platform == "cpu":
        return ONE_DEVICE
    return Layout(
        constrain=partial(_constrain, mesh.shape["tensor"]),
        gather=partial(_gather, mesh),
        attend=partial(_attend, mesh, splash_block),
        vocabulary="tensor" if mesh.shape["tensor"] > 1 else None,
        vocabulary_rows=partial(_vocabulary_rows, mesh),
    )


def _constrain(tensor: int, x: jax.Array, axes: Axes) -> jax.Array:
    if tensor == 1:
        return x
    return jax.lax.with_sharding_constraint(x, _only({"tensor"}, partition_spec(axes)))


def _gather(mesh: Mesh, weight: jax.Array, axes: Axes) -> jax.Array:
    """The whole of a weight along the dimension that lies over `fsdp`; its gradient is summed and scattered again."""
    dimension = next((i for i, entry in enumerate(partition_spec(axes)) if "fsdp" in mesh_axes(entry)), None)
    if dimension is None or mesh.shape["fsdp"] == 1:
        return weight
    gathered = partial(_gathered, dimension=dimension, rings=_rings(mesh))
    if partition_spec(axes)[dimension] == "fsdp" or mesh.shape["tensor"] == 1:
        return gathered(weight)
    # Each device along `tensor` gathers what lies there; in the order of ids it would have to have all.
    own = PartitionSpec(*[None] * dimension, "tensor")
    return jax.shard_map(gathered, in_specs=own, out_specs=own, axis_names={"tensor"}, check_vma=False)(weight)


def _vocabulary_rows(mesh: Mesh, ids: jax.Array, size: int) -> jax.Array:
    """Stored by `fsdp`, then `tensor`, a vocabulary that is gathered over `fsdp` lies by `tensor`, then `fsdp`."""
    fsdp, tensor = mesh.shape["fsdp"], mesh.shape["tensor"]
    own = size // (fsdp * tensor)
    block, row = ids // own, ids % own
    return (block % tensor * fsdp + block // tensor) * own + row


Rings = tuple[tuple[tuple[int, ...], ...], ...]


def _rings(mesh: Mesh) -> Rings:
    """Groups of devices along `fsdp` over which a sum is scattered, one after the other.

    On the torus of a TPU slice: rows, then columns. Asked to scatter over both at once, libtpu 0.0.46 sums over all
    devices and cuts, which is twice the bytes on the wire.
    """
    count = mesh.shape["fsdp"]
    rows = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
    if mesh.devices.flat[0].platform != "tpu" or rows == 1:
        return ((tuple(range(count)),),)
    across = tuple(tuple(range(first, count, count // rows)) for first in range(count // rows))
    along = tuple(tuple(range(first, first + count // rows)) for first in range(0, count, count // rows))
    return across, along


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(weight: jax.Array, dimension: int, rings: Rings) -> jax.Array:
    # Along the first dimension, whichever it is: pieces of less than 128 channels, a TPU's lanes, cannot be scattered
    # along the last, and a sum over all devices would be made of it.
    weight = jnp.moveaxis(weight, dimension, 0)
    for groups in reversed(rings):
        weight = jax.lax.all_gather(weight, "fsdp", tiled=True, axis_index_groups=groups)
    return jnp.moveaxis(weight, 0, dimension)


def _scattered(dimension: int, rings: Rings, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    gradient = jnp.moveaxis(gradient, dimension, 0)
    for groups in rings:
        if gradient.ndim == 2:
            # Parts in a dimension of their own: tiled, libtpu pads a matrix to its buffers and sends 4 to 8 % more.
            parts = gradient.reshape(len(groups[0]), -1, gradient.shape[1])
            gradient = jax.lax.psum_scatter(parts, "fsdp", axis_index_groups=groups)
        else:
            gradient = jax.lax.psum_scatter(gradient, "fsdp", tiled=True, axis_index_groups=groups)
    return (jnp.moveaxis(gradient, 0, dimension),)


_gathered.defvjp(lambda weight, dimension, rings: (_gathered(weight, dimension, rings), None), _scattered)


def _attend(
    mesh: Mesh, splash_block: int, q_BSHD: jax.Array, k_BSKD: jax.Array, v_BSKD: jax.Array, segment_ids_BS: jax.Array
) -> jax.Array:
    """Each device has its own queries and, gathered over `context`, the keys and values of the whole row."""
    parts = mesh.shape["context"]
    gather = partial(jax.lax.all_gather, axis_name="context", axis=1, tiled=True) if parts > 1 else lambda x: x
    keys = gather(k_BSKD), gather(v_BSKD), segment_ids_BS, gather(segment_ids_BS)
    part, S = (jax.lax.axis_index("context") if parts > 1 else 0), q_BSHD.shape[1]
    platform = mesh.devices.flat[0].platform
    # cuDNN's kernel takes 16-bit numbers only.
    if platform == "cpu" or (platform != "tpu" and q_BSHD.dtype == jnp.float32):
        return attention(q_BSHD, *keys, query_start=part * S)
    kernel = partial(splash_attention, block=splash_block) if platform == "tpu" else cudnn_attention

    def of_part(index: int) -> Callable[..., jax.Array]:
        return partial(kernel, query_start=index * S)

    def attend(q_BSHD: jax.Array, *keys: jax.Array) -> jax.Array:
        if parts == 1:
            return of_part(0)(q_BSHD, *keys)
        # A kernel's mask is fixed when it is compiled, so there is one for every part of the row.
        return jax.lax.switch(part, [of_part(index) for index in range(parts)], q_BSHD, *keys)

    if mesh.shape["tensor"] == 1:
        return attend(q_BSHD, *keys)
    heads, rows = PartitionSpec(None, None, "tensor"), PartitionSpec()
    return jax.shard_map(
        attend, in_specs=(heads, heads, heads, rows, rows), out_specs=heads, axis_names={"tensor"}, check_vma=False
    )(q_BSHD, *keys)


def finish_gradients(mesh: Mesh, gradients: Any, specs: Mapping[str, Any]) -> Any:
    """Sums each gradient over the manual axes on which its parameter is not spread: over `fsdp`, the backward pass of
    `gather` has summed the others already."""

    def one(spec: PartitionSpec, gradient: jax.Array) -> jax.Array:
        spread = {axis for entry in spec for axis in mesh_axes(entry)}
        axes = tuple(axis for axis in MANUAL_AXES if mesh.shape[axis] > 1 and axis not in spread)
        return jax.lax.psum(gradient, axes) if axes else gradient

    return jax.tree.map(one, specs, gradients, is_leaf=lambda x: isinstance(x, PartitionSpec))
