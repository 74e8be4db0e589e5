"""Whether a teacher fits beside the student that it teaches, on the devices that are here."""

import os

import jax
import jax.numpy as jnp
import optax

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.planning.ahead_of_time import abstract_batch, bytes_per_chip
from demiurgic_jax.planning.trace import trace_row
from demiurgic_jax.sharding.chips import chip_of
from demiurgic_jax.sharding.mesh import make_mesh
from demiurgic_jax.sharding.rules import batch_sharding
from demiurgic_jax.training.config import COMPUTE_DTYPES, TrainConfig, make_decoder
from demiurgic_jax.training.hidden_matching import hidden_matching
from demiurgic_jax.training.online_teacher import online_teacher
from demiurgic_jax.training.optimizer import make_optimizer
from demiurgic_jax.training.state import abstract_state


def device_bytes(device: jax.Device) -> float:
    """What a program may take of one device. CPU devices share the memory of their host."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(jax.local_devices())
    stats = device.memory_stats() or {}
    chip = chip_of(device.device_kind)
    return stats.get("bytes_limit") or (chip.usable_bytes if chip is not None else float("inf"))


def student_bytes(train: TrainConfig, student: ModelConfig) -> float:
    """At least so much of the fullest device: state, gradients, batch, what waits for the backward pass, and one
    chunk's logits with their gradient."""
    mesh = make_mesh(train.mesh)
    state = abstract_state(student, make_optimizer(train.optimizer, train.steps), mesh)
    batch = abstract_batch(train, batch_sharding(mesh))
    gradients = bytes_per_chip(state.params) * (1 if train.grad_accum_steps == 1 else 2)
    kept = (
        rows_per_device(train) * trace_row(train, student).kept_bytes / (mesh.shape["context"] * mesh.shape["tensor"])
    )
    return bytes_per_chip((state, batch)) + gradients + kept + 2 * logits_bytes(train, student)


def teacher_bytes(train: TrainConfig, student: ModelConfig, teacher: ModelConfig) -> float:
    """At least so much of the fullest device: its weights, hidden states of the batch, and one chunk's logits."""
    mesh = make_mesh(train.mesh)
    online = online_teacher(teacher, student.vocab_size, train.teacher, make_decoder(train, student, mesh), mesh)
    itemsize = jnp.dtype(COMPUTE_DTYPES[train.compute_dtype]).itemsize
    hidden = rows_per_device(train) * train.context / mesh.shape["context"] * teacher.embed_dim * itemsize
    return bytes_per_chip(online.abstract) + hidden + logits_bytes(train, student)


def hidden_bytes(train: TrainConfig, student: ModelConfig, teacher: ModelConfig) -> float:
    """What matching hidden states takes of a device: the projection with its moments and gradient, both networks'
    states of the chosen layers, and the gradients of the student's."""
    if not train.hidden.is_used:
        return 0.0
    mesh = make_mesh(train.mesh)
    optimizer = make_optimizer(train.optimizer, train.steps)
    matching = hidden_matching(train.hidden, student, teacher, optax.adam(1.0))
    projection = abstract_state(student, optimizer, mesh, matching).projection
    weights = bytes_per_chip(projection.weights) if projection else 0
    tokens = rows_per_device(train) * train.context / mesh.shape["context"]
    itemsize = jnp.dtype(COMPUTE_DTYPES[train.compute_dtype]).itemsize
    states = len(matching.student_layers) * tokens * itemsize * (2 * student.embed_dim + teacher.embed_dim)
    return bytes_per_chip(projection) + weights + states


def rows_per_device(train: TrainConfig) -> int:
    """Rows of one pass forward and backward."""
    mesh = make_mesh(train.mesh)
    return train.batch_size // (mesh.shape["data"] * mesh.shape["fsdp"] * train.grad_accum_steps)


def logits_bytes(train: TrainConfig, student: ModelConfig) -> float:
    """Float32 logits of a chunk, on one device."""
    mesh = make_mesh(train.mesh)
    tokens = min(train.loss.chunk_tokens, train.context // mesh.shape["context"])
    return 4 * rows_per_device(train) * tokens * student.vocab_size / mesh.shape["tensor"]


def require_teacher_fits(
    train: TrainConfig, student: ModelConfig, teacher: ModelConfig, limit_bytes: float | None = None
) -> None:
    """UserError that says by how much a step with this online teacher is too large for a device of `limit_bytes`, by
    default the smallest one here. Counted is what is sure, so a step that passes may still be refused by the device."""
    limit = limit_bytes if limit_bytes is not None else min(map(device_bytes, jax.local_devices()))
    student_part, teacher_part = student_bytes(train, student), teacher_bytes(train, student, teacher)
    teacher_part += hidden_bytes(train, student, teacher)
    missing = student_part + teacher_part - limit
    if missing <= 0:
        return
    mend = "spread them over more devices (train.mesh.fsdp), or score soft targets beforehand (shards.soft_targets)"
    if train.teacher.weights != "int8":
        mend = f"set train.teacher.weights=int8, {mend}"
    raise UserError(
        f"the online teacher does not fit by {missing / 1e9:,.3f} GB: of a device's {limit / 1e9:,.3f} GB the "
        f"student's step takes {student_part / 1e9:,.3f} at least and the teacher {teacher_part / 1e9:,.3f}; {mend}"
    )
