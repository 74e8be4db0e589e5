"""A disk that takes no checkpoint is named with the mend, and what was whole stays whole."""

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
from test_checkpoint import saved

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder, open_model
from demiurgic_jax.errors import UserError

mounts = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of one's own needs a mount, which needs root")


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size={size} tmpfs {folder} 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        os.system(f"umount -l {folder}")


def save(checkpoints, *what):
    checkpoints.save(*what)
    checkpoints.wait()


@mounts
def test_a_read_only_disk_is_named(tmp_path, params, tokenizer, config):
    with disk(tmp_path / "disk", "4m") as folder:
        saved(folder / "checkpoints", params, tokenizer, config, steps=(1,))
        os.system(f"mount -o remount,ro {folder}")
        with pytest.raises(
            UserError, match=r"run/checkpoints cannot be written \(Read-only file system\): give a --work"
        ):
            CheckpointFolder(folder / "run" / "checkpoints")
        checkpoints = CheckpointFolder(folder / "checkpoints")
        with pytest.raises(UserError, match="Read-only file system"):
            save(checkpoints, 2, params, tokenizer, Card(config))
        assert open_model(folder / "checkpoints").step == 1


@mounts
def test_a_disk_without_room_for_one_is_refused_before_anything_is_written(tmp_path, params, tokenizer, config):
    with disk(tmp_path / "disk", "100k") as folder:
        checkpoints = CheckpointFolder(folder / "checkpoints")
        with pytest.raises(UserError, match=r"takes 0\.000 GB and the disk of .* has 0\.000 GB free: free some space"):
            checkpoints.require_room(params)
        assert list((folder / "checkpoints").iterdir()) == []
        checkpoints.close()


def test_a_disk_that_fills_up_during_a_save_keeps_the_one_before(tmp_path, params, tokenizer, config):
    """As the kernel reports it for a file that may not grow: the same way as for a disk or a quota."""
    saved(tmp_path, params, tokenizer, config, steps=(1,))
    largest = {name: np.zeros((512, 1024), np.float32) for name in ("a", "b")}
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    checkpoints = CheckpointFolder(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"is full, so a checkpoint could not be written: free some space"):
            save(checkpoints, 2, largest, tokenizer, Card(config))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    opened = open_model(tmp_path)
    assert opened.step == 1
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), opened.params, params)
    # With room again, the same save goes through.
    shutil.rmtree(tmp_path / "2.orbax-checkpoint-tmp", ignore_errors=True)
    saved(tmp_path, params, tokenizer, config, steps=(2,))
    assert open_model(tmp_path).step == 2
