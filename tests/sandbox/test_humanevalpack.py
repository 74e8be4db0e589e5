"""Canonical solutions pass and buggy ones fail, in every language whose toolchain is here."""

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest

from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.toolchains import why_missing
from tests.sandbox.humanevalpack import EXCEPTIONS, FILES, checks, program, rows

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")


def wrong_rows(language, chosen):
    """Those whose canonical solution does not pass, or whose buggy one does."""

    def judge(row):
        run = functools.partial(run_tests, language, tests=checks(language, row))
        good, bad = (run(program(language, row, each)) for each in ("canonical_solution", "buggy_solution"))
        return [f"{row['task_id']}: {good.status} {good.reason}"] * (not good.passed or bad.passed)

    with ThreadPoolExecutor(2) as pool:
        return [each for found in pool.map(judge, chosen) for each in found if each.split(":")[0] not in EXCEPTIONS]


@pytest.mark.parametrize("language", FILES)
@pytest.mark.parametrize(("start", "step"), [(1, 41), pytest.param(0, 1, marks=pytest.mark.full_size)])
def test_canonical_solutions_pass_and_buggy_ones_fail(shared_data, language, start, step):
    if why_missing(language):
        pytest.skip(str(why_missing(language)))
    chosen = rows(shared_data / "humanevalpack", language)[start::step]
    assert wrong_rows(language, chosen) == []


def test_verdicts_are_the_same_each_time(shared_data):
    chosen = rows(shared_data / "humanevalpack", "python")[:40:2]
    programs = [
        (program("python", row, each), checks("python", row)) for row in chosen for each in row if "solution" in each
    ]
    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(6) as crowd:
        first, second = (
            [*each.map(lambda pair: run_tests("python", *pair).status, programs)] for each in (pool, crowd)
        )
    assert first == second
    assert set(first) >= {"passed", "failed"}
