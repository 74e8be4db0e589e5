"""Host arrays onto a mesh that may reach over several processes, each of which puts only what its devices hold."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from demiurgic_jax.sharding.rules import batch_sharding, partition_spec


def put_array(x: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """A copy of the host (or local device) array `x`, the same in all processes, laid out as `sharding` says.

    `jax.device_put` would send every byte between the processes to make sure that it is the same.
    """
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: np.array(host[index]))


def row_share(mesh: Mesh) -> tuple[int, int]:
    """(index, count): the rows of a batch fall into `count` equal shares, and this process's devices hold `index`.

    Processes along `context` or `tensor` hold the same rows. Where a process's devices are no such share, it reads all.
    """
    groups = mesh.shape["data"] * mesh.shape["fsdp"]
    by_row = NamedSharding(mesh, partition_spec(("batch",)))
    spans = [index[0].indices(groups) for index in by_row.addressable_devices_indices_map((groups,)).values() if index]
    first, last = min(start for start, _, _ in spans), max(stop for _, stop, _ in spans)
    size = last - first
    return (first // size, groups // size) if groups % size == 0 and first % size == 0 else (0, 1)


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """The global batch [B, S, …] from this process's `row_share` of it, a tree of [B / count, S, …]."""
    sharding = batch_sharding(mesh)
    index, count = row_share(mesh)

    def put(x: np.ndarray) -> jax.Array:
        first, total = index * len(x), len(x) * count

        def part(where: Any) -> np.ndarray:
            start, stop, _ = where[0].indices(total)
            return x[(slice(start - first, stop - first), *where[1:])]

        return jax.make_array_from_callback((total, *x.shape[1:]), sharding, part)

    return jax.tree.map(put, batch)
