"""From a config and a piece of hardware to memory, FLOPs, bytes on the wire, seconds, days and dollars.

Memory, FLOPs and wire bytes of a compiled step are the compiler's own. Seconds are an ESTIMATE: no chip was asked.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Literal

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.flops import attention_flops
from demiurgic_jax.planning import analytic
from demiurgic_jax.planning.ahead_of_time import DoesNotFitError, compile_step, missing_compiler
from demiurgic_jax.planning.figures import StepFigures, chip_mesh, rows_per_chip
from demiurgic_jax.planning.hardware import Hardware
from demiurgic_jax.planning.hlo import ProgramCounts
from demiurgic_jax.training.config import TrainConfig

# Of a chip's peak FLOP/s, in kernels whose inside the TPU compiler does not time (assumed; not measured here).
TPU_KERNEL_EFFICIENCY = 0.5
# Of a chip's peak FLOP/s, recomputation and attention's causal half counted: from the throughput that LLM Foundry
# measured (scripts/train/benchmarking) with fully sharded data parallelism and activation checkpointing. A100: 69% for
# 7B on 8 GPUs at 4,096 tokens, 73% 13B, 66% 30B, 70% 70B on 64. H100: 51%, 53%, 46%, 56%. An H200 computes alike.
GPU_EFFICIENCY = {"A100-80GB": 0.69, "H100": 0.51, "H200": 0.51}


@dataclass(frozen=True)
class Plan:
    """One training step of a config on `hardware`. Bytes and FLOPs are those of one chip.

    `limit_bytes`: what a program may take of the chip. `step_seconds` (ESTIMATE): every transfer hidden behind work;
    `exposed_step_seconds`: none hidden. `teacher`: the one that runs in the step, if any.
    """

    hardware: Hardware
    train: TrainConfig
    model: ModelConfig
    figures: StepFigures
    limit_bytes: float
    step_seconds: float
    exposed_step_seconds: float
    teacher: ModelConfig | None = None

    @property
    def fits(self) -> bool:
        return self.figures.peak_bytes <= self.limit_bytes

    @property
    def tokens_per_step(self) -> int:
        return self.train.batch_size * self.train.context

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.step_seconds

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: useful FLOPs (attention's causal half, no recomputation) over the peak's."""
        return self.figures.useful_flops / (self.hardware.chip.peak_flops * self.step_seconds)

    @property
    def chip_seconds_per_token(self) -> float:
        return self.hardware.num_chips / self.tokens_per_second

    def chip_hours(self, tokens: float) -> float:
        return tokens / self.tokens_per_second / 3600 * self.hardware.num_chips

    def days(self, tokens: float) -> float:
        return tokens / self.tokens_per_second / 86_400


def plan_step(
    train: TrainConfig,
    model: ModelConfig,
    hardware: Hardware,
    method: Literal["auto", "analytic"] = "auto",
    teacher: ModelConfig | None = None,
) -> Plan:
    """Compiles the step where the compiler is installed, else estimates it; a step that does not fit has a Plan too.

    `teacher` is the shape of the one that runs in the step. UserError where `train` has one and none is given, and when
    batch, context or mesh do not go with the hardware.
    """
    if train.teacher.online and teacher is None:
        raise UserError("train.teacher.online puts a teacher into the step: plan it with the teacher's shape")
    teacher = teacher if train.teacher.online else None
    planned = partial(_plan, train, model, hardware, teacher)
    estimated = analytic.figures(train, model, hardware, teacher)
    if method == "analytic" or missing_compiler(hardware):
        return planned(estimated, hardware.chip.usable_bytes)
    try:
        compiled = compile_step(train, model, hardware, teacher)
    except DoesNotFitError as refused:
        # The compiler says how much it would need, and nothing else of a program that it did not finish.
        state = estimated.peak_bytes - estimated.temporary_bytes
        figures = dataclasses.replace(estimated, temporary_bytes=refused.needed_bytes - state, memory_method="compiled")
        return planned(figures, refused.limit_bytes)
    kernel_flops = _kernel_flops(compiled.counts, train, model, hardware)
    state = estimated.parameter_bytes + estimated.optimizer_bytes
    # The rest of what a teacher takes is among the compiler's temporaries.
    weights = compiled.teacher_bytes
    figures = StepFigures(
        memory_method="compiled",
        work_method="compiled",
        parameter_bytes=estimated.parameter_bytes,
        optimizer_bytes=estimated.optimizer_bytes,
        batch_bytes=compiled.argument_bytes - state - weights,
        temporary_bytes=compiled.temporary_bytes,
        kept_bytes=estimated.kept_bytes,
        useful_flops=estimated.useful_flops,
        executed_flops=compiled.counts.matmul_flops + kernel_flops,
        kernel_flops=kernel_flops,
        wire_bytes=compiled.counts.wire_bytes,
        dcn_bytes=compiled.counts.dcn_bytes,
        host_bytes=compiled.counts.host_bytes,
        cycles=compiled.counts.estimated_cycles,
        compile_seconds=compiled.seconds,
        unread_loops=len(compiled.counts.unread_loops),
        teacher_bytes=weights,
        teacher_flops=estimated.teacher_flops,
    )
    return planned(figures, hardware.chip.usable_bytes)


def _plan(
    train: TrainConfig,
    model: ModelConfig,
    hardware: Hardware,
    teacher: ModelConfig | None,
    figures: StepFigures,
    limit: float,
) -> Plan:
    busy = _busy_seconds(figures, model, hardware)
    chip = hardware.chip
    transfers = [sum(figures.wire_bytes.values()) / hardware.send_bandwidth, figures.host_bytes / chip.host_bandwidth]
    if chip.dcn_bandwidth:
        transfers.append(figures.dcn_bytes / chip.dcn_bandwidth)
    step = max(busy, *transfers)
    if hardware.chip.platform == "cuda":
        # The measured efficiency has waiting in it already.
        return Plan(hardware, train, model, figures, limit, step, step, teacher)
    return Plan(hardware, train, model, figures, limit, step, busy + sum(transfers), teacher)


def _busy_seconds(figures: StepFigures, model: ModelConfig, hardware: Hardware) -> float:
    chip = hardware.chip
    if chip.platform == "cuda":
        return figures.executed_flops / (chip.peak_flops * GPU_EFFICIENCY[chip.name])
    kernels = figures.kernel_flops / (chip.peak_flops * TPU_KERNEL_EFFICIENCY)
    if figures.cycles is not None:
        return figures.cycles / chip.clock_hz + kernels
    matmuls = figures.executed_flops - figures.kernel_flops
    return matmuls / (chip.peak_flops * analytic.tpu_efficiency(chip.name, model)) + kernels


def _kernel_flops(counts: ProgramCounts, train: TrainConfig, model: ModelConfig, hardware: Hardware) -> int:
    """FLOPs of attention kernels by how often they ran: two matmuls forward, five in a fused backward pass
    (Dao 2023, arXiv:2307.08691). Other kernels count what they declare."""
    mesh = chip_mesh(train.mesh, hardware)
    sharers = mesh.shape["context"] * mesh.shape["tensor"]
    forward = attention_flops(model, rows_per_chip(train, hardware), train.context) // sharers
    runs = {True: 0, False: 0}
    for name, times in counts.kernels.items():
        runs[any(word in name for word in ("bwd", "dkv", "Backward"))] += times
    return counts.kernel_flops or runs[False] * forward + runs[True] * forward * 5 // 2
