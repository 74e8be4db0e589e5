"""What a step takes without a compiler for its target.

FLOPs and what is kept for the backward pass are JAX's own (trace.py); bytes of parameters, optimizer and gradients
follow from the mesh. What a compiler adds on top (its working set) and how many cycles it needs were fitted to compiled
steps: calibration.py has these.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.flops import attention_flops, forward_flops, training_flops
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.model.quantized_weight import SUMMED
from demiurgic_jax.planning.ahead_of_time import abstract_batch
from demiurgic_jax.planning.figures import StepFigures, chip_mesh, rows_per_chip
from demiurgic_jax.planning.hardware import Hardware
from demiurgic_jax.planning.trace import trace_row, tree_bytes
from demiurgic_jax.training.config import COMPUTE_DTYPES, TrainConfig
from demiurgic_jax.training.optimizer import make_optimizer
from demiurgic_jax.training.step import require_divisible

# The compilers' working set: so many times the weights of one layer, and the MLP's activations of one layer, both in
# the compute dtype.
_WORKING_SET = {"tpu": (1.8, 6.1), "cuda": (0.0, 6.1)}
# Matmul FLOPs over peak FLOPs in the cycles that libtpu 0.0.46 estimates, at most, and the model's width at which it is
# half of that (v4: as v5p, not compiled).
_TPU_EFFICIENCY = {"v4": (0.85, 1070), "v5p": (0.85, 1070), "v5e": (0.98, 1310), "v6e": (0.86, 1310)}
# What the fit leaves, as parts of one: of the peak's bytes, of a TPU's cycles, of matmul FLOPs (a TPU's compiler sees
# that the last layer, whose backward pass comes next, need not be computed again). A test holds them to calibration.py.
MEMORY_ERROR, CYCLES_ERROR, FLOPS_ERROR = 0.09, 0.09, 0.012


def figures(
    train: TrainConfig, model: ModelConfig, hardware: Hardware, teacher: ModelConfig | None = None
) -> StepFigures:
    """The step's figures on one chip, with those of a `teacher` that runs in it. UserError when batch, context or mesh
    do not go with the hardware."""
    mesh = chip_mesh(train.mesh, hardware)
    require_divisible(train.batch_size, train.context, train.grad_accum_steps, mesh)
    rows, steps = rows_per_chip(train, hardware), train.grad_accum_steps
    # Along these two axes chips share the work on a row.
    sharers = mesh.shape["context"] * mesh.shape["tensor"]
    shards = mesh.shape["fsdp"] * mesh.shape["tensor"]
    params = abstract_parameters(model)
    optimizer = make_optimizer(train.optimizer, train.steps)
    trace = trace_row(train, model)
    per_layer, per_activation = _WORKING_SET[hardware.chip.platform]
    working_set = _itemsize(train) * (
        per_layer * _layer_parameters(model) / mesh.shape["tensor"]
        + per_activation * rows * train.context * model.mlp_dim / sharers
    )
    parameter_bytes = tree_bytes(params) / shards
    # Gradients are float32 like the parameters; adding up those of micro-batches takes them twice.
    gradients = parameter_bytes * (1 if steps == 1 else 2)
    wire = wire_bytes(train, model, mesh, rows, hardware.num_slices)
    teacher_flops = teacher_kernel_flops = 0.0
    if teacher is not None:
        teacher_flops = forward_flops(teacher, train.batch_size, train.context) / mesh.size
        teacher_kernel_flops = teacher.num_layers * attention_flops(teacher, rows, train.context) * steps / sharers
        gathered = teacher.num_parameters / mesh.shape["tensor"] * _itemsize(train) * steps
        if mesh.shape["fsdp"] > 1:
            wire["all-gather"] += gathered * (mesh.shape["fsdp"] - 1) / mesh.shape["fsdp"]
    return StepFigures(
        memory_method="analytic",
        work_method="analytic",
        parameter_bytes=parameter_bytes,
        optimizer_bytes=tree_bytes(jax.eval_shape(optimizer.init, params)) / shards,
        batch_bytes=tree_bytes(abstract_batch(train, None)) * mesh.shape["tensor"] / mesh.size,
        temporary_bytes=gradients + rows * trace.kept_bytes / sharers + working_set,
        kept_bytes=rows * trace.kept_bytes / sharers,
        useful_flops=training_flops(model, train.batch_size, train.context) / mesh.size,
        executed_flops=(trace.matmul_flops + trace.attention_flops) * rows * steps / sharers + teacher_flops,
        kernel_flops=trace.attention_flops * rows * steps / sharers + teacher_kernel_flops,
        wire_bytes=wire,
        dcn_bytes=dcn_bytes(model, mesh, hardware.num_slices),
        # There and back.
        host_bytes=2 * rows * steps * trace.host_bytes / sharers,
        teacher_bytes=teacher_bytes(train, model, mesh, rows, teacher) if teacher is not None else 0.0,
        teacher_flops=teacher_flops,
    )


def teacher_bytes(train: TrainConfig, model: ModelConfig, mesh: Mesh, rows: int, teacher: ModelConfig) -> float:
    """Bytes that one chip holds for a teacher in the step: its weights, which lie as the student's do, its hidden
    states of a pass with `rows`, those of matched layers with their gradients, and one chunk's float32 logits."""
    shapes = abstract_parameters(replace(teacher, vocab_size=model.vocab_size))
    layers = shapes.pop("layers")
    weights = sum(leaf.size for leaf in jax.tree.leaves(shapes)) * _itemsize(train)
    for name, leaf in layers.items():
        if train.teacher.weights == "int8" and name in SUMMED:
            summed = math.prod(leaf.shape[axis] for axis in SUMMED[name])
            weights += leaf.size + 4 * leaf.size // summed
        else:
            weights += leaf.size * _itemsize(train)
    tokens = rows * train.context / mesh.shape["context"]
    hidden = tokens * teacher.embed_dim * _itemsize(train)
    if train.hidden.is_used:
        pairs = len(train.hidden.layers) or 1
        hidden += pairs * tokens * _itemsize(train) * (2 * model.embed_dim + teacher.embed_dim)
    chunk = rows * min(train.loss.chunk_tokens, train.context // mesh.shape["context"])
    logits = 4 * chunk * model.vocab_size / mesh.shape["tensor"]
    return weights / (mesh.shape["fsdp"] * mesh.shape["tensor"]) + hidden + logits


def tpu_efficiency(chip: str, model: ModelConfig) -> float:
    """Matmul FLOPs over the chip's peak in the cycles of a step: wide matmuls keep its units busier than narrow."""
    most, half = _TPU_EFFICIENCY[chip]
    return most * model.embed_dim / (model.embed_dim + half)


def wire_bytes(train: TrainConfig, model: ModelConfig, mesh: Mesh, rows: int, num_slices: int) -> dict[str, float]:
    """Bytes that one chip sends inside of its slice in a step, by collective; `rows` are those of one pass.

    Along `fsdp` the weights are gathered for each pass (a layer's again for its backward pass, unless nothing is
    computed again) and their gradients scattered, in the compute dtype; along `data` the shards of them are summed.
    Along `tensor` activations are summed twice a layer and pass, along `context` keys and values gathered.
    """
    fsdp, context, tensor = (mesh.shape[axis] for axis in ("fsdp", "context", "tensor"))
    data = mesh.shape["data"] // num_slices
    passes, steps = 1 if train.remat == "none" else 2, train.grad_accum_steps
    weights = model.num_parameters / tensor * _itemsize(train)
    layers = model.num_layers * _layer_parameters(model) / tensor * _itemsize(train)
    tokens = rows * train.context / context * _itemsize(train)
    keys = model.num_layers * 2 * tokens * model.num_kv_heads * model.head_dim / tensor
    sums = 2 * (1 + passes) * model.num_layers * tokens * model.embed_dim
    sent = {
        "all-gather": steps * ((weights + (passes - 1) * layers) * (fsdp - 1) / fsdp + passes * keys * (context - 1)),
        "reduce-scatter": steps * (weights * (fsdp - 1) / fsdp + keys * (context - 1)),
        "all-reduce": 2 * weights / fsdp * (data - 1) / data + steps * 2 * sums * (tensor - 1) / tensor,
    }
    return {kind: size for kind, size in sent.items() if size}


def dcn_bytes(model: ModelConfig, mesh: Mesh, num_slices: int) -> float:
    """Bytes that one chip sends to other slices in a step: its shards of the float32 gradients, summed over them."""
    shard = 4 * model.num_parameters / (mesh.shape["fsdp"] * mesh.shape["tensor"])
    return 2 * shard * (num_slices - 1) / num_slices


def _layer_parameters(model: ModelConfig) -> float:
    tables = model.vocab_size * model.embed_dim * (1 if model.tie_embeddings else 2)
    return (model.num_parameters - tables - model.embed_dim) / model.num_layers


def _itemsize(train: TrainConfig) -> int:
    return jnp.dtype(COMPUTE_DTYPES[train.compute_dtype]).itemsize
