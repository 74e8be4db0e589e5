"""The same completions get the same verdicts every time, on an idle machine and on one that has no processor left."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.speed import slowness
from demiurgic_jax.sandbox.verdict import Limits
from tests.sandbox.humanevalpack import checks, program, rows

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
LIMITS = Limits(cpu_seconds=2.0)
_BURN = "while True: pass"


@contextmanager
def full_load() -> Iterator[None]:
    """A busy process for each processor."""
    busy = [subprocess.Popen([sys.executable, "-c", _BURN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def completions(shared_data: Path, count: int, slow_every: int) -> list[tuple[str, str]]:
    """Candidates with their tests: right ones, wrong ones, and each `slow_every`-th one that works for a while,
    for four fifths of the limit or for five quarters of it, in turns."""
    made = []
    all_rows = rows(shared_data / "humanevalpack", "python")
    for number in range(count):
        row = all_rows[number // 2 % len(all_rows)]
        text = program("python", row, "buggy_solution" if number % 2 else "canonical_solution")
        turn, place = divmod(number, slow_every)
        if place == 0:
            seconds = LIMITS.cpu_seconds * slowness() * (0.8 if turn % 2 else 1.25)
            text += f"\nimport time\nbegun = time.process_time()\nwhile time.process_time() - begun < {seconds}: pass\n"
        made.append((text, checks("python", row)))
    return made


@pytest.mark.parametrize(
    ("count", "times", "slow_every"),
    [
        pytest.param(40, 2, 10, marks=pytest.mark.slow),
        pytest.param(200, 4, 10, marks=pytest.mark.full_size),
        pytest.param(1000, 10, 50, marks=pytest.mark.full_size),
    ],
)
def test_the_same_completions_get_the_same_verdicts_under_full_load_too(shared_data, count, times, slow_every):
    chosen = completions(shared_data, count, slow_every)

    def score(at_once: int) -> list[str]:
        began = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            verdicts = [*pool.map(lambda pair: run_tests("python", *pair, limits=LIMITS).status, chosen)]
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"at once": at_once, "seconds": seconds, "verdicts": Counter(verdicts)}), flush=True)
        return verdicts

    cores = os.cpu_count() or 1
    scores = [score(cores) for _ in range(times - times // 2)]
    with full_load():
        # Four times as many at once: each has a fifth of a core.
        scores += [score(4 * cores) for _ in range(times // 2)]
    differing = [
        [each[number] for each in scores] for number in range(count) if len({each[number] for each in scores}) > 1
    ]
    print(json.dumps({"completions": count, "times": times, "differing": differing}))
    assert differing == []
    assert set(scores[0]) >= {"passed", "failed", "timeout"}
