"""A teacher behind an API, of which nothing is here: what it tells of each token becomes soft targets, of its answers
in the shards and of the student's own samples while it trains."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serving
from demiurgic_jax.training.metrics import read_metrics

ROOT = Path(__file__).parents[2]

SMALL = [
    *("--config.teacher.path=", "--config.teacher.model=smollm2", "--config.seeds.max_files=40"),
    *("--config.teach.logprobs=10", "--config.teach.max_tokens=32", "--config.seeds.max_lines=12"),
    *(f"--config.teach.tasks.{task}={count}" for task, count in {"complete": 8, "generate": 2, "explain": 2}.items()),
    *(f"--config.teach.tasks.{task}=0" for task in ("fix", "refactor")),
    *("--config.shards.soft_targets=10", "--config.shards.code_tokens=6000", "--config.shards.heldout_code_tokens=500"),
    *("--config.tokenizer.vocab_size=800", "--config.train.soft_targets=10", "--config.train.loss.distill_weight=0.7"),
    *("--config.train.steps=4", "--config.train.batch_size=2", "--config.train.context=128"),
    *("--config.train.checkpoint_every=2", "--config.train.eval_every=4", "--config.train.optimizer.warmup_steps=1"),
    *("--config.train.on_policy.fraction=0.6", "--config.train.on_policy.top_logprobs=10"),
    *("--config.train.on_policy.max_tokens=8", "--config.train.on_policy.prompt_tokens=32"),
    "--stages=seeds,teach,verify,tokenizer,shards,train",
]  # fmt: skip


def run(*arguments: str, status: int = 0) -> str:
    """Runs it to its end; returns what it said."""
    program = [sys.executable, "-m", "experiments.run", "--config=quickstart_scratch", *arguments]
    finished = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == status, finished.stderr[-4000:]
    return finished.stderr


@pytest.mark.slow
def test_what_an_api_tells_of_each_token_is_learnt(smollm2_gguf, tmp_path):
    model = import_model(smollm2_gguf)
    workdir = tmp_path / "run"
    with (
        Engine(model.config, model.params, model.tokenizer, slots=8, max_context=512) as engine,
        serving(engine, "smollm2") as url,
    ):
        command = [f"--workdir={workdir}", f"--config.teacher.url={url}", *SMALL]
        assert "--config.teach.logprobs=20" in run(*command, "--config.teach.logprobs=0", status=2)
        silent = run(*command, "--config.teacher.protocol=anthropic", status=2)
        assert "Anthropic's API tells no log-probabilities" in silent
        run(*command)
        # Samples of a step that is made again are the same, and were judged already.
        ledger = sqlite3.connect(workdir / "ledger.sqlite")
        attempts = ledger.execute("SELECT sum(attempts) FROM requests").fetchone()
        (workdir / "train" / "manifest.json").unlink()
        (workdir / "train" / "checkpoints" / "4").rename(tmp_path / "gone")
        run(*command)
        assert ledger.execute("SELECT sum(attempts) FROM requests").fetchone() == attempts

    shards = ShardSet(workdir / "shards" / "train")
    manifest = shards.manifest
    assert 0 < manifest["soft_target_cap"] <= 10
    assert manifest["soft_target_samples"] == 0
    assert manifest["provenance"]["soft_targets"] == {"told_by": "smollm2", "top_k": 10}
    taught = [each for each in map(shards.read, range(len(shards))) if each.soft_targets is not None]
    assert taught
    for document in taught:
        soft, learnt = document.soft_targets, document.loss_mask
        assert not soft.counts[:-1][learnt[1:] == 0].any()  # nothing of the question
        ids, logprobs = soft.dense(10)
        assert (logprobs.astype(float).clip(max=0) <= 0).all()
        # The teacher wrote this text: mostly its likeliest token is the one that came.
        places = soft.counts[:-1] > 0
        assert (ids[:-1, 0] == document.tokens[1:])[places].mean() > 0.4
    rows = [row for row in read_metrics(workdir / "train" / "metrics.jsonl") if "loss" in row]
    judged = [row["on_policy_judged"] for row in rows if row["on_policy"]]
    assert judged
    assert all(0 < share <= 1 for share in judged)
