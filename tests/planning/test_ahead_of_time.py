"""The training step compiles for chips that are not here, where their compilers are installed."""

import dataclasses

import pytest

from demiurgic_jax.model.config import named_config
from demiurgic_jax.planning.ahead_of_time import compile_step, missing_compiler, out_of_memory, prepare_environment
from demiurgic_jax.planning.estimate import plan_step
from demiurgic_jax.planning.hardware import find_hardware
from demiurgic_jax.planning.trace import trace_row
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.online_teacher import TeacherConfig

MODEL = dataclasses.replace(named_config("tiny"), vocab_size=4096, head_dim=128, embed_dim=512, mlp_dim=1024)


@pytest.mark.parametrize("name", ["v5e-4", "8xA100-80GB"])
def test_a_small_step_compiles_and_does_the_work_that_its_trace_tells(name):
    hardware = find_hardware(name)
    if package := missing_compiler(hardware):
        pytest.skip(f"{package} is not installed")
    prepare_environment()
    chips = hardware.num_chips
    train = TrainConfig(steps=1000, batch_size=2 * chips, context=1024, compute_dtype="bfloat16", remat="full")
    compiled = compile_step(train, MODEL, hardware)
    assert compiled.counts.matmul_flops == pytest.approx(2 * trace_row(train, MODEL).matmul_flops, rel=0.02)
    assert compiled.counts.kernels
    assert compiled.counts.unread_loops == []
    assert {"all-gather", "reduce-scatter"} <= set(compiled.counts.wire_bytes)
    plan = plan_step(train, MODEL, hardware)
    assert plan.figures.work_method == "compiled"
    assert plan.figures.peak_bytes == pytest.approx(compiled.peak_bytes, rel=0.01)


def test_both_refusals_of_libtpu_are_understood():
    whole = out_of_memory("RESOURCE_EXHAUSTED: ... Used 20.31G of 15.75G hbm. Exceeded hbm capacity by 4.56G.", 5)
    assert (whole.needed_bytes, whole.limit_bytes) == (20.31 * 2**30, 15.75 * 2**30)
    message = (
        "the total memory required for HLO temporaries (32.13G) exceeds available HBM (15.75G). HLO module: jit_step."
    )
    assert out_of_memory(message, 2**30).needed_bytes == pytest.approx(33.13 * 2**30)
    assert out_of_memory("INTERNAL: something else", 0) is None


def test_a_teacher_compiles_into_the_step():
    hardware = find_hardware("v5e-4")
    if package := missing_compiler(hardware):
        pytest.skip(f"{package} is not installed")
    prepare_environment()
    train = TrainConfig(steps=1000, batch_size=8, context=1024, compute_dtype="bfloat16", remat="full")
    beside = dataclasses.replace(train, teacher=TeacherConfig(online=True), loss=LossConfig(1.0))
    teacher = dataclasses.replace(MODEL, num_layers=2 * MODEL.num_layers)
    alone, plan = plan_step(train, MODEL, hardware), plan_step(beside, MODEL, hardware, teacher=teacher)
    assert plan.figures.work_method == "compiled"
    assert plan.figures.teacher_bytes == pytest.approx(2 * teacher.num_parameters / 4, rel=0.01)
    assert plan.figures.batch_bytes == pytest.approx(alone.figures.batch_bytes, rel=0.05)
    assert plan.figures.executed_flops > 1.2 * alone.figures.executed_flops
