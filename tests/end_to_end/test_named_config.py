"""A named experiment in little: another source beside the teacher's answers, a corpus where the config has one, FIM,
and two phases with mixtures."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from micro import ROOT

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.training.metrics import read_metrics


def phases(*sets: str) -> list[dict]:
    mixture = {"sets": [*sets], "weights": [1.0] * len(sets)}
    return [
        {"name": "code", "steps": 6, "mixture": mixture, "fim": {"rate": 0.5}},
        {
            **{"name": "answers", "steps": 4, "optimizer": {"learning_rate": 1e-4}},
            **{"mixture": {"sets": ["train"], "weights": [1.0]}},
        },
    ]


SIZES = {
    "init.size": "tiny",
    "tokenizer.vocab_size": 1024,
    "seeds.max_files": 30,
    "seeds.heldout_fraction": 0.2,
    "teacher.url": "",
    "teacher.api_key_env": "",
    "teacher.slots": 4,
    "teacher.max_context": 1024,
    "teacher.concurrency": 4,
    "teach.tasks.complete": 4,
    "teach.tasks.generate": 4,
    "teach.tasks.explain": 4,
    "teach.tasks.fix": 0,
    "teach.tasks.refactor": 0,
    "teach.tasks.translate": 0,
    "teach.max_tokens": 48,
    "shards.num_shards": 2,
    "shards.code_tokens": 20_000,
    "shards.heldout_code_tokens": 2000,
    "shards.max_document_tokens": 128,
    "train.batch_size": 4,
    "train.grad_accum_steps": 2,
    "train.context": 128,
    "train.mesh.fsdp": 1,
    "train.optimizer.warmup_steps": 2,
    "train.checkpoint_every": 2,
    "train.eval_every": 2,
    "evaluate.max_tokens": 8,
    "evaluate.max_context": 128,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["7b_distill", "7b_scratch"])
def test_a_named_config_runs_on_a_laptop_with_a_tiny_student(smollm2_gguf, tmp_path, name):
    notes = tmp_path / "notes.jsonl"
    library = Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text(encoding="utf-8") for path in sorted((library / "json").glob("*.py"))]
    notes.write_text("".join(json.dumps({"content": text}) + "\n" for text in texts))
    source = {"name": "notes", "path": str(notes), "text": "content", "licence": "PSF-2.0"}
    settings = [f"--config.{field}={value}" for field, value in SIZES.items()]
    settings += [f"--config.teacher.path={smollm2_gguf}", f"--config.shards.sources=({source!r},)"]
    scratch = name == "7b_scratch"
    settings += [f"--config.phases={tuple(phases('train', 'notes', *(['corpus'] if scratch else [])))!r}"]
    if scratch:
        for package in ("email", "asyncio", "html", "http"):
            shutil.copytree(library / package, tmp_path / "repositories" / package)
        code = {"folders": str(tmp_path / "repositories"), "licence": "PSF-2.0"}
        settings += [f"--config.corpus.sources=({code!r},)", "--config.corpus.parts=2"]
        settings += ["--config.corpus.heldout_fraction=0.3", "--config.corpus.sample_megabytes=1.0"]
    settings += ["--config.seeds.sources=()"]  # the standard library
    workdir = tmp_path / "run"
    finished = subprocess.run(
        [sys.executable, "-m", "experiments.run", f"--config={name}", f"--workdir={workdir}", *settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert len(ShardSet(workdir / "shards" / "sources" / "notes")) == len(texts)
    if scratch:
        assert len(ShardSet(workdir / "shards" / "corpus")) > 20
    rows = [row for row in read_metrics(workdir / "train" / "metrics.jsonl") if row["step"]]
    assert [row["phase"] for row in rows] == [1] * 6 + [2] * 4
    assert rows[-1]["heldout/cross_entropy"] < rows[0]["cross_entropy"]
    assert open_model(workdir / "train" / "checkpoints").config.num_layers == 4
    assert (workdir / "report.html").exists()
