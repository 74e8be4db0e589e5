"""Killed at any moment and started again, a run ends as if nothing had happened."""

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import micro

from demiurgic_jax.checkpoints.checkpoint import open_model
from experiments.stages.order import STAGES

# In which stage each of the ten kills strikes, at a random moment of it.
KILLS = ("seeds", "teach", "teach", "verify", "tokenizer", "shards", "shards", "train", "train", "evaluate")


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def settled_answers(workdir: Path) -> dict[str, tuple[str, int]]:
    """Key to (answer, attempts) of everything the ledger has an answer to."""
    ledger = workdir / "ledger.sqlite"
    if not ledger.exists():
        return {}
    with sqlite3.connect(ledger) as rows:
        if not rows.execute("SELECT count(*) FROM sqlite_master WHERE name = 'requests'").fetchone()[0]:
            return {}
        return {
            key: (answer, attempts)
            for key, answer, attempts in rows.execute(
                "SELECT key, answer, attempts FROM requests WHERE state = 'settled'"
            )
        }


def kill_in(stage: str, after: float, workdir: Path, gguf: Path) -> bool:
    """Starts a run and kills it `after` seconds of `stage`, or as `stage` ends if that comes first; whether it was
    still running then."""
    launched = time.time_ns()
    process = subprocess.Popen(
        micro.command(gguf, workdir), cwd=micro.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def written(name: str) -> bool:
        """Whether this process has written that file of the stage; one that was killed before may have left its own."""
        path = workdir / stage / name
        return path.exists() and path.stat().st_mtime_ns > launched

    while process.poll() is None and not written("inputs.json"):
        time.sleep(0.01)
    moment = time.monotonic() + after
    while process.poll() is None and time.monotonic() < moment and not written("manifest.json"):
        time.sleep(0.005)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def unfinished(workdir: Path, stage: str) -> str:
    """`stage`, or the first one behind it that has no manifest: a kill may have come just as it ended."""
    names = [each.name for each in STAGES if each.name != "corpus"]  # the quickstart has none
    return next(name for name in names[names.index(stage) :] if not (workdir / name / "manifest.json").exists())


@pytest.mark.slow
def test_ten_kills_change_nothing(smollm2_gguf, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    micro.run(smollm2_gguf, unbroken)

    dice = random.Random(time.time_ns())
    moments = []
    stored: dict[str, tuple[str, int]] = {}
    for planned in KILLS:
        stage = unfinished(broken, planned)
        # Compiled programs are at hand by now, so this stage may take less time than it did.
        seconds = json.loads((unbroken / stage / "manifest.json").read_text())["seconds"]
        moments.append((stage, dice.uniform(0, seconds)))
        assert kill_in(*moments[-1], broken, smollm2_gguf), f"the run had ended before {moments[-1]}"
        now = settled_answers(broken)
        assert {key: now.get(key) for key in stored} == stored, f"a stored answer was lost or asked again: {moments}"
        stored = now
    print(f"killed at {moments}")
    micro.run(smollm2_gguf, broken)

    assert {key: value for key, value in settled_answers(broken).items() if key in stored} == stored
    for split in ("train", "heldout"):
        assert files_of(broken / "shards" / split) == files_of(unbroken / "shards" / split)
    assert (broken / "verify/examples.jsonl").read_bytes() == (unbroken / "verify/examples.jsonl").read_bytes()
    mine, its = (open_model(folder / "train/checkpoints") for folder in (broken, unbroken))
    assert mine.step == its.step == micro.SIZES["train.steps"]
    jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)
    steps = [row["step"] for row in map(json.loads, (broken / "train/metrics.jsonl").read_text().splitlines())]
    assert steps == list(range(micro.SIZES["train.steps"] + 1))

    said = micro.run(smollm2_gguf, broken)
    assert said.count("already done") == 8
