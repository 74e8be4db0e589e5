"""The main job as several processes: one command started twice, one workdir, one end."""

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import micro
from process_group import Ended, Process, by_hand, free_port, run_all

from demiurgic_jax.training.metrics import read_metrics
from experiments.stages.order import STAGES

MADE = [stage.name for stage in STAGES if stage.name != "corpus"]  # the quickstart has none


def run_two(
    first: Sequence[str], second: Sequence[str], folders: Sequence[Path] = (micro.ROOT, micro.ROOT)
) -> list[Ended]:
    """The command lines `first` and `second` as processes 0 and 1 of one run, each started in its folder."""
    port = free_port()
    processes = (
        Process(command[1:], by_hand(2, index, port), folder)
        for index, (command, folder) in enumerate(zip((first, second), folders, strict=True))
    )
    return run_all(*processes, timeout=400)


def command_line(workdir: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "experiments.run", "--config=quickstart", f"--workdir={workdir}", *more]


def last_line(ended: Ended) -> str:
    return ended.said.splitlines()[-1]


def test_what_stops_the_first_process_stops_the_waiting_one(tmp_path):
    command = command_line(tmp_path / "run", "--stages=train")
    started = time.monotonic()
    ended = run_two(command, command)
    assert [each.status for each in ended] == [2, 2]
    said = "error: stage train needs stage shards: add it to --stages"
    assert (last_line(ended[0]), last_line(ended[1])) == (said, f"process 0: {said}")
    assert time.monotonic() - started < 60


def test_processes_of_two_commands_do_not_run_together(tmp_path):
    ended = run_two(*(command_line(tmp_path / "run", f"--config.train.seed={seed}") for seed in (1, 2)))
    assert [each.status for each in ended] == [2, 2]
    said = (
        r"error: process 0 was started with `.*seed=1` and process 1 with `.*seed=2`: start all with the same command\n"
    )
    assert all(re.fullmatch(said, each.said) for each in ended)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished(smollm2_gguf, tmp_path_factory) -> Path:
    """The workdir of a whole run of two processes; its teacher lies in its parent folder."""
    folder = tmp_path_factory.mktemp("together")
    os.symlink(smollm2_gguf, folder / "teacher.gguf")
    command = micro.command(Path("teacher.gguf"), folder / "run")
    first, second = run_two(command, command, (folder, folder))
    assert (first.status, second.status) == (0, 0), first.said[-3000:] + second.said[-3000:]
    assert "[train] 10 steps" in first.said
    assert "\n[" not in second.said.replace("\n[Gloo]", "")
    return folder / "run"


@pytest.mark.slow
def test_all_stages_are_finished_by_two_processes(finished):
    assert all((finished / stage / "manifest.json").exists() for stage in MADE)
    assert (finished / "report.html").exists()
    assert [row["step"] for row in read_metrics(finished / "train" / "metrics.jsonl")] == list(range(11))


@pytest.mark.slow
def test_a_finished_run_is_skipped_by_both(finished):
    command = micro.command(Path("teacher.gguf"), finished)
    ended = run_two(command, command, (finished.parent, finished.parent))
    assert [each.status for each in ended] == [0, 0]
    assert ended[0].said.count("already done") == len(MADE)


@pytest.mark.slow
def test_what_stops_the_second_process_stops_the_first_one_in_the_train_stage(finished, tmp_path):
    """The second one does not find the teacher, from which the student begins; the first one does."""
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "train")
    command = micro.command(Path("teacher.gguf"), tmp_path / "run", "--stages=train")
    started = time.monotonic()
    ended = run_two(command, command, (finished.parent, tmp_path))
    assert [each.status for each in ended] == [2, 2]
    assert last_line(ended[1]).startswith("error: ")
    assert "teacher.gguf does not exist" in last_line(ended[1])
    assert last_line(ended[0]) == f"process 1: {last_line(ended[1])}"
    assert time.monotonic() - started < 120
