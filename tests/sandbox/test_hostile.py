"""None of the cheating and hostile programs passes, none leaves anything behind, and the harness lives on."""

import os
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.resources import ProcessTree
from demiurgic_jax.sandbox.toolchains import why_missing
from demiurgic_jax.sandbox.verdict import Limits
from demiurgic_jax.sandbox.workers import workers
from tests.sandbox.hostile import COMPILED, PYTHON, PYTHON_TESTS, with_port

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
LIMITS = Limits(
    cpu_seconds=1, idle_seconds=1.5, wall_seconds=60, memory_bytes=256 << 20, processes=24, disk_bytes=8 << 20,
    output_bytes=50_000,
)  # fmt: skip


def descendants() -> set[int]:
    return set(ProcessTree(os.getpid()).members()[1:])


@pytest.fixture
def nothing_left():
    """Afterwards no process descends from this one that did not before (another test's server may), once the workers
    that wait for a job are let go."""
    workers().close()
    before = descendants()
    yield
    workers().close()
    deadline = time.monotonic() + 10
    while descendants() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descendants() - before == set()


def test_the_list_is_long_enough():
    assert len(PYTHON) + sum(len(programs) - 2 for programs in COMPILED.values()) >= 60


def test_no_python_cheat_or_attack_passes_and_the_harness_lives_on(nothing_left):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0demiurgic-test-{os.getpid()}")
        abstract.listen()

        def run(program: str) -> bool:
            program = with_port(program, server).replace("demiurgic-test", f"demiurgic-test-{os.getpid()}")
            return run_tests("python", program, PYTHON_TESTS, limits=LIMITS).passed

        with ThreadPoolExecutor(2) as pool:
            passed = dict(zip(PYTHON, pool.map(run, PYTHON.values()), strict=True))
    assert [name for name, one in passed.items() if one] == []
    assert run_tests("python", "def f(x):\n    return x * 2\n", PYTHON_TESTS, limits=LIMITS).passed


@pytest.mark.parametrize("language", COMPILED)
def test_no_cheat_of_another_language_passes(language, monkeypatch, tmp_path, nothing_left):
    if why_missing(language):
        pytest.skip(str(why_missing(language)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    programs = dict(COMPILED[language])
    tests, right = programs.pop("tests"), programs.pop("right")
    verdict = run_tests(language, right, tests)
    assert verdict.passed, verdict.reason
    assert not run_tests(language, right.replace("2", "3"), tests).passed
    for name, program in programs.items():
        assert not run_tests(language, program, tests).passed, name
    assert list(tmp_path.iterdir()) == []
