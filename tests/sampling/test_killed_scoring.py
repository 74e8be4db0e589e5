"""A scoring job that is killed, again and again, ends with the bytes of one that was not."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.tokenizer import save_tokenizer

PROGRAM = Path(__file__).with_name("scoring_process.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def given(config, params, tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(1)
    documents = [
        Document(str(i), "python", "code", random.integers(config.vocab_size, size=int(random.integers(5, 200))))
        for i in range(120)
    ]
    write_shards(folder / "source", documents, tokenizer=tokenizer, num_shards=3, provenance={"from": "tests"})
    save_tokenizer(tokenizer, folder / "tokenizer")
    (folder / "model.json").write_text(json.dumps(config.to_dict()))
    flat = {name: value for name, value in params.items() if name != "layers"}
    np.savez(folder / "params.npz", **flat, **{f"layers.{name}": value for name, value in params["layers"].items()})
    return folder


def start(given: Path, folder: Path, index: int = 0, count: int = 1) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(given), str(folder), str(index), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def killed(given: Path, folder: Path, lines: int) -> int:
    """Kills a run once it has said so many lines; the tokens that it found done already, or did."""
    process = start(given, folder)
    heard = [int(line) for line in itertools.islice(process.stdout, lines)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    return sum(heard)


def finish(given: Path, folder: Path) -> str:
    process = start(given, folder)
    process.communicate()
    assert process.returncode == 0
    scored = ShardSet(folder)
    scored.verify()
    return scored.fingerprint


def test_three_kills_leave_the_bytes_of_an_unbroken_run(given, tmp_path):
    whole = finish(given, tmp_path / "whole")
    reached = [killed(given, tmp_path / "broken", lines) for lines in (4, 9, 6)]
    assert reached[-1] > reached[0]
    assert finish(given, tmp_path / "broken") == whole


@pytest.mark.slow
def test_twenty_kills_and_two_processes_leave_them_too(given, tmp_path):
    whole = finish(given, tmp_path / "whole")
    random = np.random.default_rng(2)
    for _ in range(20):
        killed(given, tmp_path / "broken", int(random.integers(1, 8)))
    assert finish(given, tmp_path / "broken") == whole
    together = [start(given, tmp_path / "together", index, 2) for index in range(2)]
    time.sleep(1)
    for process in together:
        process.communicate()
        assert process.returncode == 0
    assert ShardSet(tmp_path / "together").fingerprint == whole
