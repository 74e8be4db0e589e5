"""What one training step takes of one chip, and the arithmetic that needs no compiler."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jax.sharding import Mesh

from demiurgic_jax.planning.hardware import Hardware
from demiurgic_jax.sharding.mesh import MESH_AXES, MeshShape, axis_sizes
from demiurgic_jax.training.config import TrainConfig

Method = Literal["compiled", "analytic"]


@dataclass(frozen=True)
class StepFigures:
    """Bytes and FLOPs of one chip for one step; `method` fields say where they are from.

    `temporary_bytes` are all but parameters, optimizer and batch at the moment of the peak: activations, gradients,
    gathered weights; `kept_bytes` is the part of them that waits for the backward pass. `teacher_bytes` are those of a
    teacher in the step: its weights, hidden states and one chunk's logits. `executed_flops` are those of matrix
    products, recomputation, attention kernels (`kernel_flops`) and the teacher's forward pass (`teacher_flops`)
    included. `wire_bytes` are sent to chips of the
    same slice, `dcn_bytes` to other TPU slices, `host_bytes` to the host's memory and back. `cycles` are the TPU
    compiler's.
    """

    memory_method: Method
    work_method: Method
    parameter_bytes: float
    optimizer_bytes: float
    batch_bytes: float
    temporary_bytes: float
    kept_bytes: float
    useful_flops: float
    executed_flops: float
    kernel_flops: float
    wire_bytes: Mapping[str, float]
    dcn_bytes: float
    host_bytes: float
    cycles: int | None = None
    compile_seconds: float | None = None
    unread_loops: int = 0
    teacher_bytes: float = 0.0
    teacher_flops: float = 0.0

    @property
    def peak_bytes(self) -> float:
        state = self.parameter_bytes + self.optimizer_bytes + self.teacher_bytes
        return state + self.batch_bytes + self.temporary_bytes

    @property
    def recomputed_flops(self) -> float:
        return self.executed_flops - self.useful_flops - self.teacher_flops


def chip_mesh(shape: MeshShape, hardware: Hardware) -> Mesh:
    """The mesh over as many placeholders as the hardware has chips. UserError when it does not cover them."""
    sizes = axis_sizes(shape, hardware.num_chips, hardware.num_slices)
    return Mesh(np.arange(hardware.num_chips).reshape(list(sizes.values())), MESH_AXES)


def rows_per_chip(train: TrainConfig, hardware: Hardware) -> int:
    """Sequences that one chip holds in one pass forward and backward."""
    mesh = chip_mesh(train.mesh, hardware)
    return train.batch_size // (mesh.shape["data"] * mesh.shape["fsdp"] * train.grad_accum_steps)
