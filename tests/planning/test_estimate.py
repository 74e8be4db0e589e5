"""From a config to what fits, what does not, and what to do about it; without any compiler for the target."""

import dataclasses

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import named_config
from demiurgic_jax.planning import estimate
from demiurgic_jax.planning.alternatives import candidates, cheapest_fit, differences
from demiurgic_jax.planning.budget import Teacher, run_dollars
from demiurgic_jax.planning.estimate import plan_step
from demiurgic_jax.planning.hardware import find_hardware
from demiurgic_jax.planning.report import as_json, describe, recommendation, verdict
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.online_teacher import TeacherConfig

SEVEN = named_config("7b")
TRAIN = TrainConfig(steps=1000, batch_size=256, context=4096, compute_dtype="bfloat16", remat="full")
NO_COMPILER = "no compiler here, so that the tests say the same everywhere"


@pytest.fixture(autouse=True)
def _without_compilers(monkeypatch):
    monkeypatch.setattr(estimate, "missing_compiler", lambda hardware: NO_COMPILER)


def test_a_7b_step_on_a_v5e_64_is_what_its_arithmetic_says():
    plan = plan_step(TRAIN, SEVEN, find_hardware("v5e-64"))
    assert plan.fits
    # float32 parameters and two moments, spread over 64 chips.
    assert plan.figures.parameter_bytes == pytest.approx(4 * SEVEN.num_parameters / 64, rel=1e-3)
    assert plan.figures.optimizer_bytes == pytest.approx(8 * SEVEN.num_parameters / 64, rel=1e-3)
    # bfloat16 weights gathered for both passes, gradients scattered once.
    assert plan.figures.wire_bytes["all-gather"] == pytest.approx(4 * SEVEN.num_parameters * 63 / 64, rel=0.05)
    assert plan.figures.wire_bytes["reduce-scatter"] == pytest.approx(2 * SEVEN.num_parameters * 63 / 64, rel=0.05)
    assert 0.3 < plan.mfu < 0.7
    assert plan.exposed_step_seconds > plan.step_seconds
    assert plan.days(2e9) == pytest.approx(2 * plan.days(1e9))


def test_a_gpu_runs_as_fast_as_published_runs_of_its_kind():
    train = dataclasses.replace(TRAIN, batch_size=32)
    plan = plan_step(train, SEVEN, find_hardware("8xA100-80GB"))
    # LLM Foundry: 3,684 tokens/s a GPU for MPT-7B at 4,096 tokens, where all of the forward pass is run again.
    assert plan.tokens_per_second / 8 == pytest.approx(3684, rel=0.12)


def test_sharing_rows_between_chips_divides_the_work():
    alone = plan_step(TRAIN, SEVEN, find_hardware("v5p-64"))
    shared = dataclasses.replace(TRAIN, mesh=MeshShape(fsdp=8, tensor=2, context=2))
    split = plan_step(shared, SEVEN, find_hardware("v5p-64"))
    assert split.figures.executed_flops == pytest.approx(alone.figures.executed_flops, rel=0.01)
    assert split.figures.kept_bytes == pytest.approx(alone.figures.kept_bytes, rel=0.01)
    assert split.figures.wire_bytes["all-reduce"] > 0


def test_what_waits_on_the_host_goes_there_and_back_and_can_bound_the_step():
    train = dataclasses.replace(TRAIN, remat="offload")
    plan = plan_step(train, SEVEN, find_hardware("v5e-64"))
    inputs = SEVEN.num_layers * 4 * TRAIN.context * SEVEN.embed_dim * 2
    assert plan.figures.host_bytes == 2 * inputs
    assert "GB to the host's memory and back" in describe("seven", plan, 1e9, None)
    assert "BOUNDS" not in describe("seven", plan, 1e9, None)
    assert as_json("seven", plan, 1e9, None)["figures"]["host_bytes"] == 2 * inputs
    slow = dataclasses.replace(plan.hardware.chip, host_bandwidth=1e9)
    bound = plan_step(train, SEVEN, dataclasses.replace(plan.hardware, chip=slow))
    assert bound.step_seconds == pytest.approx(2 * inputs / 1e9)
    assert "BOUNDS the step" in describe("seven", bound, 1e9, None)
    assert plan_step(TRAIN, SEVEN, find_hardware("v5e-64")).figures.host_bytes == 0


def test_two_slices_sum_shards_of_the_gradients_between_them():
    train = dataclasses.replace(TRAIN, batch_size=512, mesh=MeshShape(data=2))
    one, two = plan_step(TRAIN, SEVEN, find_hardware("v5e-64")), plan_step(train, SEVEN, find_hardware("2xv5e-64"))
    assert two.figures.dcn_bytes == pytest.approx(4 * SEVEN.num_parameters / 64)
    assert two.figures.wire_bytes == one.figures.wire_bytes
    assert two.figures.peak_bytes == pytest.approx(one.figures.peak_bytes)
    with pytest.raises(UserError, match="128 devices are 2 slices"):
        plan_step(dataclasses.replace(train, mesh=MeshShape()), SEVEN, find_hardware("2xv5e-64"))


def test_a_config_that_does_not_fit_is_said_with_by_how_much_and_what_does():
    hardware = find_hardware("v5e-16")
    plan = plan_step(TRAIN, SEVEN, hardware)
    assert not plan.fits
    assert "DOES NOT FIT, by" in verdict(plan)
    fit = cheapest_fit(plan)
    assert fit is not None
    assert fit.fits
    assert fit.hardware == hardware
    assert "grad_accum_steps=" in differences(plan, fit)
    others = [other for other in candidates(plan) if other.hardware == hardware]
    assert fit.chip_seconds_per_token == min(other.chip_seconds_per_token for other in others)


def test_what_no_batch_makes_fit_needs_more_chips():
    plan = plan_step(dataclasses.replace(TRAIN, batch_size=256), named_config("70b"), find_hardware("v5e-64"))
    assert not plan.fits
    assert cheapest_fit(plan, same_hardware=True) is None
    fit = cheapest_fit(plan)
    assert fit is not None
    assert "--hardware=v5e-128" in differences(plan, fit)


def test_a_batch_that_does_not_split_over_the_chips_is_refused_by_name():
    with pytest.raises(UserError, match="batch_size=10"):
        plan_step(dataclasses.replace(TRAIN, batch_size=10), SEVEN, find_hardware("v5e-64"))


def test_an_estimate_is_named_as_such_and_its_prices_are_dated():
    plan = plan_step(TRAIN, SEVEN, find_hardware("v5e-64"))
    teacher = Teacher(1000, 400, 200, 0.4, 1.6)
    text = describe("seven", plan, 1e9, teacher)
    assert "ESTIMATE" in text
    assert f"ANALYTIC MODEL, because {NO_COMPILER}" not in text, "the report asks what is really installed"
    assert "ANALYTIC MODEL" in text
    assert all(price.as_of in text for price, _ in run_dollars(plan, 1e9))
    assert teacher.dollars == pytest.approx(0.48)
    assert "$0.48" in text
    values = as_json("seven", plan, 1e9, teacher)
    assert values["figures"]["memory_method"] == "analytic"
    assert values["estimate"]["days"] == pytest.approx(plan.days(1e9))


def test_the_cheapest_that_fits_is_recommended():
    train = dataclasses.replace(TRAIN, grad_accum_steps=4)
    plans = [plan_step(train, SEVEN, find_hardware(name)) for name in ("v5e-64", "v6e-64", "v5e-16")]
    text = recommendation(plans, 1e10)
    fitting = [plan for plan in plans if plan.fits]
    cheapest = min(fitting, key=lambda plan: run_dollars(plan, 1e10)[0][1])
    assert text.startswith(f"Take {cheapest.hardware.name}:")
    assert "would cost" in text


def test_a_teacher_in_the_step_is_counted():
    """Its weights in the compute dtype or in eight bits, spread as the student's; its forward pass, a third of a step's
    FLOPs; and it may be what does not fit."""
    hardware, teacher = find_hardware("v5e-64"), dataclasses.replace(named_config("13b"), vocab_size=SEVEN.vocab_size)
    beside = dataclasses.replace(TRAIN, teacher=TeacherConfig(online=True), loss=LossConfig(1.0))
    alone, plan = plan_step(TRAIN, SEVEN, hardware), plan_step(beside, SEVEN, hardware, teacher=teacher)
    eight = plan_step(
        dataclasses.replace(beside, teacher=TeacherConfig(True, "int8")), SEVEN, hardware, teacher=teacher
    )
    weights = 2 * teacher.num_parameters / 64
    states = 4 * 4096 * teacher.embed_dim * 2 + 4 * 4 * 512 * SEVEN.vocab_size
    assert plan.figures.teacher_bytes == pytest.approx(weights + states, rel=1e-3)
    assert plan.figures.peak_bytes - alone.figures.peak_bytes == pytest.approx(plan.figures.teacher_bytes, rel=0.05)
    assert weights / 2 < plan.figures.teacher_bytes - eight.figures.teacher_bytes + weights * 0.1 < weights
    more = plan.figures.executed_flops - alone.figures.executed_flops
    assert more == pytest.approx(2 * teacher.num_parameters * 256 * 4096 / 64, rel=0.1)
    assert plan.figures.recomputed_flops == pytest.approx(alone.figures.recomputed_flops, rel=0.01)
    assert "the teacher in the step" in describe("seven", plan, 1e9, None)
    assert "the teacher in the step" not in describe("seven", alone, 1e9, None)
    assert all(candidate.teacher == teacher for candidate in candidates(plan))
    with pytest.raises(UserError, match="plan it with the teacher's shape"):
        plan_step(beside, SEVEN, hardware)
