"""A run told to leave saves the step that it is in, ends with a status of its own, and loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from process_group import ROOT, by_hand, free_port

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.training.metrics import read_metrics

PROGRAM = str(Path(__file__).with_name("training_process.py"))


def start(given: Path, folder: Path, steps: int, processes: int = 1, **more: str) -> list[subprocess.Popen]:
    """A run of `steps` steps with a checkpoint at its end only, on one device a process."""
    port = free_port()
    common = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "CHECKPOINT_EVERY": "1000000"} | more
    mesh = f'{{"data": {processes}, "fsdp": 1}}'
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(given), str(folder), "1", mesh, str(steps)],
            env=common | (by_hand(processes, index, port) if processes > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 240
    while not any(row["step"] >= step for row in read_metrics(folder / "metrics.jsonl")):
        assert time.monotonic() < deadline, "the run never came so far"
        time.sleep(0.02)


def test_sigterm_saves_the_current_step_and_exits_within_thirty_seconds(given, tmp_path):
    folder = tmp_path / "run"
    (process,) = start(given, folder, 100_000)
    wait_for_step(folder, 3)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1]
    assert time.monotonic() - told < 30
    assert process.returncode == 75, said
    saved = open_model(folder / "checkpoints")
    assert f"step {saved.step} is saved" in said
    # The step it was in: the last one with metrics, not one that was saved before.
    assert saved.step == read_metrics(folder / "metrics.jsonl")[-1]["step"] >= 3
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [str(saved.step)]


@pytest.mark.slow
def test_a_run_told_to_leave_goes_on_to_the_same_bits(given, tmp_path):
    for folder, interrupted in ((tmp_path / "unbroken", False), (tmp_path / "broken", True)):
        (process,) = start(given, folder, 60)
        if interrupted:
            wait_for_step(folder, 5)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            assert process.returncode == 75
            (process,) = start(given, folder, 60)
        assert process.wait(timeout=240) == 0
    mine, its = (open_model(tmp_path / name / "checkpoints") for name in ("broken", "unbroken"))
    assert mine.step == its.step == 60
    jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)


@pytest.mark.slow
def test_when_one_process_is_told_all_save_the_same_step(given, tmp_path):
    folder = tmp_path / "run"
    processes = start(given, folder, 100_000, 2)
    wait_for_step(folder, 4)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], said
    saved = open_model(folder / "checkpoints")
    assert saved.step == read_metrics(folder / "metrics.jsonl")[-1]["step"]
    assert any(f"step {saved.step} is saved" in text for text in said)
    # With one process more or less it goes on.
    (process,) = start(given, folder, saved.step + 3)
    assert process.wait(timeout=120) == 0
    assert open_model(folder / "checkpoints").step == saved.step + 3


def test_a_hung_step_ends_the_run_with_every_threads_stack(given, tmp_path):
    (process,) = start(given, tmp_path / "run", 100_000, HANG_AT="4", HANG_SECONDS="2")
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 124, said
    assert "no step has ended for 2 s (train.hang_seconds)" in said
    assert "in on_step" in said  # where it hangs
    assert said.count("Thread 0x") >= 2
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 4
