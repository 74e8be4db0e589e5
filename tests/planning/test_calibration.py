"""The analytic model is as near to compiled steps as it says."""

import pytest

from demiurgic_jax.planning import analytic
from demiurgic_jax.planning.ahead_of_time import compile_step, missing_compiler
from demiurgic_jax.planning.calibration import COMPILED


@pytest.mark.parametrize("row", COMPILED, ids=lambda row: f"{row.size}-{row.hardware}-{row.remat}-{row.rows}")
def test_the_analytic_error_is_what_it_says(row):
    train, model, hardware = row.step()
    figures = analytic.figures(train, model, hardware)
    assert figures.peak_bytes == pytest.approx(row.peak_bytes, rel=analytic.MEMORY_ERROR)
    assert figures.executed_flops - figures.kernel_flops == pytest.approx(row.matmul_flops, rel=analytic.FLOPS_ERROR)
    if row.estimated_cycles is not None:
        seconds = row.matmul_flops / (hardware.chip.peak_flops * analytic.tpu_efficiency(hardware.chip.name, model))
        assert seconds * hardware.chip.clock_hz == pytest.approx(row.estimated_cycles, rel=analytic.CYCLES_ERROR)


@pytest.mark.slow
def test_the_table_is_what_the_compiler_says_today():
    row = next(row for row in COMPILED if row.hardware.startswith("v5e") and row.size == "1b")
    train, model, hardware = row.step()
    if package := missing_compiler(hardware):
        pytest.skip(f"{package} is not installed")
    compiled = compile_step(train, model, hardware)
    assert compiled.peak_bytes == pytest.approx(row.peak_bytes, rel=0.05)
    assert compiled.counts.matmul_flops == pytest.approx(row.matmul_flops, rel=0.01)
