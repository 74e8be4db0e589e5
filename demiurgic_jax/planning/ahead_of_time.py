"""A config's own training step, compiled for chips that are not here.

TPU targets need the package `libtpu` (it compiles on any x86 CPU), GPU targets a CUDA plugin of JAX.
"""

import importlib.util
import math
import os
import re
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental import topologies

from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.planning.cuda_target import target_config
from demiurgic_jax.planning.hardware import Hardware
from demiurgic_jax.planning.hlo import ProgramCounts, count, parse
from demiurgic_jax.sharding.mesh import make_mesh
from demiurgic_jax.sharding.rules import batch_sharding
from demiurgic_jax.training.config import TrainConfig, make_decoder
from demiurgic_jax.training.hidden_matching import hidden_matching
from demiurgic_jax.training.online_teacher import online_teacher
from demiurgic_jax.training.optimizer import make_optimizer
from demiurgic_jax.training.state import abstract_state
from demiurgic_jax.training.step import Batch, make_train_step, require_divisible

# No GPU is here to time kernels on, and without timing XLA has no setting for its Triton matmuls: cuBLAS it is.
_CUDA_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


@dataclass(frozen=True)
class CompiledStep:
    """Bytes of one chip, and what the program does in one step. `teacher_bytes` of the arguments are a teacher's
    weights. `seconds` is what compiling took."""

    argument_bytes: int
    temporary_bytes: int
    peak_bytes: int
    counts: ProgramCounts
    seconds: float
    teacher_bytes: int = 0


class DoesNotFitError(Exception):
    """The compiler refused: the program needs `needed_bytes` of a chip that has `limit_bytes`."""

    def __init__(self, needed_bytes: float, limit_bytes: float):
        super().__init__(f"the step needs {needed_bytes / 1e9:.1f} GB of {limit_bytes / 1e9:.1f} GB a chip")
        self.needed_bytes, self.limit_bytes = needed_bytes, limit_bytes


def prepare_environment() -> None:
    """JAX on this machine's CPU, and libtpu told that it is not on a TPU host. Before JAX makes its first backend."""
    jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # Otherwise one process at a time may load it, as if it held a TPU.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")


def missing_compiler(hardware: Hardware) -> str | None:
    """What has to be installed to compile for `hardware`; None when it is here."""
    if hardware.chip.platform == "tpu":
        return None if importlib.util.find_spec("libtpu") else "libtpu"
    has_plugin = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    return None if has_plugin else "jax[cuda12]"


def target_devices(hardware: Hardware) -> list[jax.Device]:
    """Descriptions of the devices, good for compiling only."""
    if hardware.chip.platform == "tpu":
        # libtpu names a device of one slice and a device of several differently: only the second knows of its slice.
        slices = {"num_slices": hardware.num_slices} if hardware.num_slices > 1 else {}
        return list(topologies.get_topology_desc(platform="tpu", topology_name=hardware.topology, **slices).devices)
    described = topologies.get_topology_desc(
        platform="cuda",
        topology_name=hardware.name,
        topology=hardware.topology,
        target_config=target_config(hardware.chip),
    )
    return list(described.devices)


def make_step(
    train: TrainConfig, model: ModelConfig, devices: list[jax.Device], teacher: ModelConfig | None = None
) -> tuple[Any, tuple[Any, ...]]:
    """The jitted step that the training loop would run on `devices`, and its arguments without values: state, batch
    and, where a `teacher` of this shape runs in the step, its weights.

    UserError when the batch does not split over them.
    """
    mesh = make_mesh(train.mesh, devices)
    require_divisible(train.batch_size, train.context, train.grad_accum_steps, mesh)
    decoder = make_decoder(train, model, mesh)
    optimizer = make_optimizer(train.optimizer, train.steps)
    online = matching = None
    if teacher is not None:
        online = online_teacher(teacher, model.vocab_size, train.teacher, decoder, mesh)
        if train.hidden.is_used:
            matching = hidden_matching(train.hidden, model, online.decoder.config, optax.adam(1.0))
    state = abstract_state(model, optimizer, mesh, matching)
    step = make_train_step(
        decoder, optimizer, train.loss, mesh, state, train.grad_accum_steps, teacher=online, matching=matching
    )
    arguments = state, abstract_batch(train, batch_sharding(mesh))
    return step, (*arguments, online.abstract) if online is not None else arguments


def abstract_batch(train: TrainConfig, sharding: Any) -> Batch:
    """Shapes of one global batch, [B, S] and [B, S, K]."""

    def array(dtype: Any, *last: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((train.batch_size, train.context, *last), dtype, sharding=sharding)

    ids, weights = array(jnp.int32), array(jnp.float32)
    if not train.soft_targets:
        return Batch(ids, ids, ids, ids, weights)
    teacher = array(jnp.int32, train.soft_targets), array(jnp.float32, train.soft_targets)
    return Batch(ids, ids, ids, ids, weights, *teacher)


def bytes_per_chip(tree: Any) -> int:
    """Bytes that one device stores of a tree of abstract arrays with shardings."""
    leaves = jax.tree.leaves(tree)
    return sum(leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)


def compile_step(
    train: TrainConfig, model: ModelConfig, hardware: Hardware, teacher: ModelConfig | None = None
) -> CompiledStep:
    """Compiles the step for `hardware`. DoesNotFitError when the compiler finds no room for it."""
    step, arguments = make_step(train, model, target_devices(hardware), teacher)
    is_cuda = hardware.chip.platform == "cuda"
    lowered = step.trace(*arguments).lower(lowering_platforms=(hardware.chip.platform,))
    started = time.monotonic()
    try:
        compiled = lowered.compile(compiler_options=_CUDA_OPTIONS if is_cuda else None)
    except jax.errors.JaxRuntimeError as error:
        refusal = out_of_memory(str(error), bytes_per_chip(arguments))
        if refusal is None:
            raise
        raise refusal from error
    seconds = time.monotonic() - started
    memory = compiled.memory_analysis()
    if memory.peak_memory_in_bytes > hardware.chip.usable_bytes:
        raise DoesNotFitError(memory.peak_memory_in_bytes, hardware.chip.usable_bytes)
    return CompiledStep(
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.peak_memory_in_bytes - memory.argument_size_in_bytes,
        peak_bytes=memory.peak_memory_in_bytes,
        counts=count(parse(compiled.as_text())),
        seconds=seconds,
        teacher_bytes=bytes_per_chip(arguments[2:]),
    )


def out_of_memory(message: str, argument_bytes: int) -> DoesNotFitError | None:
    """What libtpu's refusal says; None when the message is about something else.

    It has two ways to say it: by the whole program, or by its temporaries alone.
    """
    if whole := re.search(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm", message):
        return DoesNotFitError(_bytes(whole[1], whole[2]), _bytes(whole[3], whole[4]))
    temporaries = re.search(r"HLO temporaries \(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)", message)
    if temporaries is None:
        return None
    needed = _bytes(temporaries[1], temporaries[2]) + argument_bytes
    return DoesNotFitError(needed, _bytes(temporaries[3], temporaries[4]))


def _bytes(number: str, unit: str) -> float:
    return float(number) * 1024 ** ("KMG".index(unit) + 1)
