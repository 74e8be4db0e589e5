"""A process killed while it saves leaves the checkpoint before as the newest, whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_checkpoint import saved

from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder, open_model
from demiurgic_jax.data.tokenizer import save_tokenizer
from demiurgic_jax.errors import UserError

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("saving_process.py")


def test_a_kill_during_a_save_leaves_the_one_before(tmp_path, tokenizer):
    folder = tmp_path / "checkpoints"
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    command = [sys.executable, str(PROGRAM), str(folder), str(tmp_path / "tokenizer")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n"
        _wait_for_a_second_save(folder)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (unfinished,) = (int(path.name.partition(".")[0]) for path in folder.iterdir() if "." in path.name)
    opened = open_model(folder)
    # Mostly 1; a slow machine may have finished a few more before the signal.
    assert opened.step == unfinished - 1
    assert opened.card.data_fingerprint == ("first" if opened.step == 1 else "later")
    assert all(np.isfinite(value).all() for value in opened.params["layers"].values())


def _wait_for_a_second_save(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(path.name.startswith("2.") for path in folder.iterdir()):
        assert time.monotonic() < deadline, "the second save never began"


@pytest.fixture
def finished(tmp_path, params, tokenizer, config):
    return saved(tmp_path / "checkpoints", params, tokenizer, config, steps=(1,))


@pytest.mark.parametrize("item", ["params", "card", "tokenizer"])
def test_a_checkpoint_that_lost_a_part_is_refused_by_name(finished, item):
    shutil.rmtree(finished / "1" / item)
    with pytest.raises(UserError) as refusal:
        open_model(finished)
    assert str(finished / "1") in str(refusal.value)
    assert item in str(refusal.value)


def test_cut_off_arrays_are_refused_by_name(finished):
    for path in (finished / "1" / "params").rglob("*"):
        if path.is_file() and path.stat().st_size > 10_000:
            path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(UserError) as refusal:
        open_model(finished)
    assert str(finished / "1") in str(refusal.value)


def test_what_a_kill_left_is_no_obstacle_to_the_next_save(finished, params, tokenizer, config):
    shutil.copytree(finished / "1", finished / "2.orbax-checkpoint-tmp-1")
    saved(finished, params, tokenizer, config, steps=(2,))
    with CheckpointFolder(finished) as checkpoints:
        assert checkpoints.latest_step() == 2
