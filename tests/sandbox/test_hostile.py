"""None of the cheating and hostile programs passes, none leaves anything behind, and the harness lives on."""

import gc
import os
import resource
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.verdict import Limits, Verdict
from demiurgic_jax.sandbox.workers import workers
from tests.sandbox.conftest import here
from tests.sandbox.hostile import COMPILED, ENDED_BY, PYTHON, PYTHON_TESTS, with_port

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
LIMITS = Limits(
    cpu_seconds=1, idle_seconds=1.5, wall_seconds=60, memory_bytes=256 << 20, processes=24, disk_bytes=8 << 20,
    output_bytes=50_000,
)  # fmt: skip
MEMORY_NOISE = 16 << 20


def test_the_list_is_long_enough():
    assert len(PYTHON) + sum(len(programs) - 2 for programs in COMPILED.values()) >= 60


@contextmanager
def nothing_kept() -> Iterator[None]:
    """This process holds as many descriptors afterwards as before, and no more memory than noise explains."""
    before = used()
    yield
    descriptors, resident = used()
    assert descriptors <= before[0]
    assert resident < before[1] + MEMORY_NOISE


def used() -> tuple[int, int]:
    """Open descriptors and resident bytes, with no worker waiting."""
    workers().close()
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * resource.getpagesize()


def test_no_python_cheat_or_attack_passes_and_the_harness_lives_on(host, namespaces):
    tests = f"{PYTHON_TESTS}# {host.canary}: no candidate reads tests, its own or another's.\n"

    def run(program: str) -> Verdict:
        return run_tests("python", with_port(program, host), tests, limits=LIMITS)

    right = "def f(x):\n    return x * 2\n"
    assert run(right).passed  # what is made once for all is here before memory is measured
    with nothing_kept(), ThreadPoolExecutor(2) as pool:
        verdicts = dict(zip(PYTHON, pool.map(run, PYTHON.values()), strict=True))
    assert [name for name, verdict in verdicts.items() if verdict.passed] == []
    assert {name: verdicts[name].status for name in ENDED_BY} == ENDED_BY
    said = [text for verdict in verdicts.values() for text in (verdict.stdout, verdict.stderr, verdict.reason)]
    assert host.effects(*said) == []
    assert run(right).passed


@pytest.mark.parametrize("language", here(COMPILED))
def test_no_cheat_of_another_language_passes(language, monkeypatch, tmp_path, namespaces):
    (tmp_path / "builds").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "builds"))
    programs = dict(COMPILED[language])
    tests, right = programs.pop("tests"), programs.pop("right")
    verdict = run_tests(language, right, tests)
    assert verdict.passed, verdict.reason
    assert not run_tests(language, right.replace("2", "3"), tests).passed
    for name, program in programs.items():
        assert not run_tests(language, program, tests).passed, name
    assert list((tmp_path / "builds").iterdir()) == []
