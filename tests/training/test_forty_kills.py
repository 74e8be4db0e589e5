"""Killed again and again at random moments, by SIGKILL, a run ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from process_group import ROOT, by_hand, free_port

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.training.metrics import read_metrics

HERE = Path(__file__).parent
STEPS, KILLS = 200, 40


def newest_step(folder: Path) -> int:
    """The last step that has a row of metrics; 0 when there is none."""
    rows = read_metrics(folder / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


class Nursery:
    """Processes of one run at a time, forked from a prepared one."""

    def __init__(self, process: subprocess.Popen):
        self._process = process

    def start(self, *arguments: str, **environment: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([arguments, environment]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def status(self) -> int:
        """How the process ended, once it has."""
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def nursery() -> Iterator[Nursery]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "nursery.py")],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}", "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Nursery(process)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_forty_kills_change_not_a_bit(given, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    mesh = '{"data": 1, "fsdp": 1}'
    # Steps of this model end before a signal arrives: a pause after each makes room for it.
    often = {"CHECKPOINT_EVERY": "3", "EVAL_EVERY": "50", "PAUSE": "0.02"}
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    during_a_save, lost = 0, []
    with nursery() as children:
        began = time.monotonic()
        children.start(str(given), str(unbroken), "1", mesh, str(STEPS), **often)
        assert children.status() == 0
        whole = time.monotonic() - began
        for kill in range(KILLS):
            before = newest_step(broken)
            child = children.start(str(given), str(broken), "1", mesh, str(STEPS), **often)
            if kill % 4 == 0:  # while it starts, restores, or a little later
                time.sleep(dice.uniform(0, whole / 4))
            else:
                goal = min(before + dice.randint(1, 6), STEPS - 1)
                deadline = time.monotonic() + 120
                while newest_step(broken) < goal:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                time.sleep(dice.uniform(0, 0.05))
            os.kill(child, 9)
            assert children.status() == -9, f"the run had ended before kill {kill}"
            folder = broken / "checkpoints"
            unfinished = [path for path in folder.iterdir() if "tmp" in path.name] if folder.exists() else []
            during_a_save += bool(unfinished)
            lost.append(newest_step(broken))
        children.start(str(given), str(broken), "1", mesh, str(STEPS), **often)
        assert children.status() == 0
    print(f"killed at steps {lost}, {during_a_save} times during a save")
    assert during_a_save >= 3
    assert len(set(lost)) > 10
    mine, its = (open_model(folder / "checkpoints") for folder in (broken, unbroken))
    assert mine.step == its.step == STEPS
    # The card has the digests of parameters and optimizer moments, and the last 128 losses.
    assert mine.card == its.card
    jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)
    assert [row["step"] for row in read_metrics(broken / "metrics.jsonl")] == list(range(STEPS + 1))


@pytest.mark.slow
def test_kills_and_other_numbers_of_processes_change_no_batch(given, train_set, tmp_path):
    steps, mesh = 60, '{"data": 4, "fsdp": 1}'
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    common = {"CHECKPOINT_EVERY": "5", "EVAL_EVERY": "60", "PAUSE": "0.02", "RECORD": str(tmp_path / "batches")}

    def start(folder: Path, processes: int) -> list[subprocess.Popen]:
        port = free_port()
        arguments = [str(given), str(folder), str(4 // processes), mesh, str(steps)]
        base = os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}", "JAX_PLATFORMS": "cpu"} | common
        groups = [by_hand(processes, index, port) if processes > 1 else {} for index in range(processes)]
        program = str(HERE / "training_process.py")
        return [subprocess.Popen([sys.executable, program, *arguments], env=base | group) for group in groups]

    assert [process.wait(timeout=240) for process in start(unbroken, 1)] == [0]
    dice = random.Random(time.time_ns())
    lives = []
    for goal, processes in ((8, 1), (18, 2), (28, 4), (38, 2), (48, 1)):
        started = start(broken, processes)
        deadline = time.monotonic() + 240
        while newest_step(broken) < goal:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.2))
        for process in started:
            process.kill()
        # One that outlives another by a moment may end itself by the broken connection.
        assert {process.wait() for process in started} <= {-signal.SIGKILL, -signal.SIGABRT}
        lives.append((processes, newest_step(broken)))
    print(f"killed at {lives}")
    assert [process.wait(timeout=240) for process in start(broken, 4)] == [0] * 4

    loader = Loader(train_set, batch_size=8, row_length=32, seed=3, soft_targets=4)
    expected = {step: [zlib.crc32(row.tobytes()) for row in loader.batch(step).tokens] for step in range(steps)}
    seen: dict[int, set[int]] = {}
    for path in (tmp_path / "batches").iterdir():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                step, first, *digests = json.loads(line)
                if step < steps:
                    assert digests == expected[step][first : first + len(digests)]
                    seen.setdefault(step, set()).update(range(first, first + len(digests)))
    assert seen == {step: set(range(8)) for step in range(steps)}
    rows, its_rows = (read_metrics(folder / "metrics.jsonl") for folder in (broken, unbroken))
    assert [row["step"] for row in rows] == [row["step"] for row in its_rows] == list(range(steps + 1))
    losses = [[row["loss"] for row in each[1:]] for each in (rows, its_rows)]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
