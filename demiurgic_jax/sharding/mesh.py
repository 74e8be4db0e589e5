"""The device mesh: axes `data`, `fsdp`, `context`, `tensor`."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from demiurgic_jax.errors import UserError

MESH_AXES = ("data", "fsdp", "context", "tensor")


@dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; one of them may be -1 and takes what the others leave."""

    data: int = 1
    fsdp: int = -1
    context: int = 1
    tensor: int = 1


def make_mesh(shape: MeshShape, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (all by default). UserError when the product is not their number."""
    devices = jax.devices() if devices is None else devices
    sizes = asdict(shape)
    written = " × ".join(f"{axis}={size}" for axis, size in sizes.items())
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"mesh {written}: sizes are at least 1, and at most one axis may be -1 (the remaining devices)")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if free and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    if math.prod(sizes.values()) != len(devices):
        raise UserError(
            f"mesh {written} does not cover the {len(devices)} devices here: make the product {len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape([sizes[axis] for axis in MESH_AXES]), MESH_AXES)
