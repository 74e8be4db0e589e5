"""The device mesh: axes `data`, `fsdp`, `context`, `tensor`.

Where the devices are several TPU slices, joined by the data-centre network (DCN) only, `data` alone reaches over
them; the other axes, whose collectives are many, stay on the links inside of a slice (ICI).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
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
    """A mesh over `devices` (all by default). UserError when the product is not their number, or `data` no multiple
    of their slices."""
    return Mesh(device_grid(shape, jax.devices() if devices is None else devices), MESH_AXES)


def device_grid(shape: MeshShape, devices: Sequence[Any]) -> np.ndarray:
    """The devices as an array with an axis for each of MESH_AXES."""
    slices = num_slices(devices)
    sizes = axis_sizes(shape, len(devices), slices)
    if slices == 1:
        return np.asarray(devices).reshape(list(sizes.values()))
    inside = [sizes["data"] // slices, *(sizes[axis] for axis in MESH_AXES[1:])]
    return mesh_utils.create_hybrid_device_mesh(inside, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)


def num_slices(devices: Sequence[Any]) -> int:
    """TPU slices among `devices`. The nodes of GPUs count as one: NCCL's rings go through them at nearly full speed."""
    return len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"}) or 1


def axis_sizes(shape: MeshShape, num_devices: int, slices: int = 1) -> dict[str, int]:
    """Devices along each of MESH_AXES, -1 replaced. UserError as from `make_mesh`, with the nearest mend."""
    sizes = asdict(shape)
    written = " × ".join(f"{axis}={size}" for axis, size in sizes.items())
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"mesh {written}: sizes are at least 1, and at most one axis may be -1 (the remaining devices)")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if free and num_devices % fixed == 0:
        sizes[free[0]] = num_devices // fixed
    if math.prod(sizes.values()) != num_devices:
        raise UserError(
            f"mesh {written} does not cover the {_devices(num_devices)} here: {_mend(sizes, free, num_devices)}"
        )
    if sizes["data"] % slices:
        raise UserError(
            f"mesh {written}: the {_devices(num_devices)} are {slices} slices, and data={sizes['data']}, the only axis "
            f"that may reach over several, is no multiple of {slices}: set train.mesh.data={slices}, and fsdp, context "
            f"and tensor to a product of {num_devices // slices}"
        )
    return sizes


def _devices(count: int) -> str:
    return f"{count} device{'s' if count > 1 else ''}"


def _mend(sizes: dict[str, int], free: list[str], num_devices: int) -> str:
    """One axis to set otherwise, or the product to reach where no single axis would do."""
    total = math.prod(size for axis, size in sizes.items() if axis not in free)
    for axis in ("fsdp", "data", "tensor", "context"):
        others = total if axis in free else total // sizes[axis]
        if num_devices % others == 0:
            return f"set train.mesh.{axis}={num_devices // others}, or take {_devices(total)}"
    return f"make the product {num_devices}"
