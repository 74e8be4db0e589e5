"""A mesh that reaches over several processes trains what one process with as many devices trains."""

import json
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from process_group import Process, by_hand, free_port, run_all

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.training.metrics import read_metrics

PROGRAM = str(Path(__file__).with_name("training_process.py"))
# Processes along `data`, which read different rows; and along `context`, which read the same.
MESHES = {"rows": {"data": 2, "fsdp": 2, "tensor": 2}, "sequence": {"context": 4, "fsdp": 1, "tensor": 2}}


def train_on(given: Path, folder: Path, processes: int, mesh: str, stop_at: int = 0) -> None:
    """Trains six steps on eight devices, spread over `processes`; stops in step `stop_at` if one is given."""
    arguments = [PROGRAM, str(given), str(folder), str(8 // processes), json.dumps(MESHES[mesh]), "6"]
    common = {"FAIL_AT": str(stop_at)}
    port = free_port()
    groups = [common | by_hand(processes, index, port) for index in range(processes)] if processes > 1 else [common]
    ended = run_all(*(Process(arguments, group) for group in groups))
    assert [each.status for each in ended] == [2 if stop_at else 0] * processes, ended[-1].said[-3000:]


def assert_same_run(ours: Path, theirs: Path) -> None:
    mine, its = open_model(ours / "checkpoints"), open_model(theirs / "checkpoints")
    assert mine.step == its.step == 6
    # atol is a few units in the last place of the largest weights, of which the smallest ones are differences.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), mine.params, its.params)
    rows, its_rows = (read_metrics(folder / "metrics.jsonl") for folder in (ours, theirs))
    assert [row["step"] for row in rows] == [row["step"] for row in its_rows] == [0, 1, 2, 3, 4, 5, 6]
    for name in ("loss", "accuracy", "heldout/cross_entropy", "heldout/loss_tokens"):
        figures = [[row[name] for row in each if name in row] for each in (rows, its_rows)]
        np.testing.assert_allclose(*figures, rtol=1e-5)


@pytest.fixture(scope="module")
def one_process(given, tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a run of one process on a mesh, made once."""

    @cache
    def run(mesh: str) -> Path:
        folder = tmp_path_factory.mktemp(mesh)
        train_on(given, folder, 1, mesh)
        return folder

    return run


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_two_processes_train_what_one_does(given, one_process, tmp_path, mesh):
    train_on(given, tmp_path, 2, mesh)
    assert_same_run(tmp_path, one_process(mesh))


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(given, one_process, tmp_path, first, then):
    train_on(given, tmp_path, first, "rows", stop_at=5)
    train_on(given, tmp_path, then, "rows")
    assert_same_run(tmp_path, one_process("rows"))


@pytest.mark.slow
def test_one_that_fails_ends_the_others_with_its_sentence(given, tmp_path):
    port = free_port()
    arguments = [PROGRAM, str(given), str(tmp_path), "1", json.dumps({"data": 2}), "100000"]
    started = time.monotonic()
    first, second = by_hand(2, 0, port), by_hand(2, 1, port) | {"FAIL_AT": "4"}
    ended = run_all(Process(arguments, first), Process(arguments, second))
    assert [each.status for each in ended] == [2, 2]
    assert ended[0].said.splitlines()[-1] == "process 1: no room here"
    assert ended[1].said.splitlines()[-1] == "no room here"
    assert time.monotonic() - started < 60
