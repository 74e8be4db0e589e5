"""All six tasks with the real teacher, in Python: asked, asked again where a task does, run, and written."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import micro

from demiurgic_jax.curation.sources import standard_library
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.distillation.example import read_examples
from demiurgic_jax.sandbox.bubblewrap import why_unavailable

TASKS = ("complete", "generate", "explain", "fix", "refactor", "translate")
# Modules of the standard library whose functions take and give plain data.
PURE = ("bisect", "colorsys", "heapq", "statistics", "textwrap", "fnmatch", "posixpath", "calendar", "base64", "random")
STYLED = [
    "--stages=seeds,teach,verify,tokenizer,shards",
    *(f"--config.teach.tasks.{task}={count}" for task, count in zip(TASKS, (4, 2, 5, 3, 3, 2), strict=True)),
    "--config.teach.prompts=styled", "--config.teach.translate_to=('javascript',)", "--config.teach.max_tokens=96",
    "--config.teacher.max_context=1024", "--config.verify.tests=behaviour", "--config.shards.soft_targets=0",
    "--config.seeds.near_duplicates.remove=True", "--config.shards.at_most=(('explain', 5),)",
    "--config.shards.max_document_tokens=512", "--config.seeds.licence=PSF-2.0",
    "--config.seeds.max_lines=12",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
def test_six_tasks_go_from_seeds_to_shards_with_a_real_teacher(smollm2_gguf, tmp_path):
    code, workdir = tmp_path / "code", tmp_path / "run"
    code.mkdir()
    for module in PURE:
        shutil.copy(standard_library()[0] / f"{module}.py", code)
    styled = [*STYLED, f"--config.seeds.sources={code}"]
    micro.run(smollm2_gguf, workdir, *styled)
    teach, verify = (
        json.loads((workdir / stage / "manifest.json").read_text())["outputs"] for stage in ("teach", "verify")
    )
    assert set(teach["asked"]) == set(TASKS)
    assert teach["unanswered"] == 0
    assert teach["follow_ups"] > 0
    conversations = sum(teach["asked"].values())
    assert sum(verify["kept"].values()) + sum(verify["rejected"].values()) == conversations

    # Every answer has its verdict beside it in the ledger, of every task.
    ledger = sqlite3.connect(workdir / "ledger.sqlite")
    judged = dict(ledger.execute("SELECT task, count(*) FROM verdicts JOIN requests USING (key) GROUP BY task"))
    assert judged == teach["asked"]
    assert ledger.execute("SELECT count(*) FROM verdicts WHERE kept = 0 AND reason = ''").fetchone() == (0,)

    examples = read_examples(workdir / "verify" / "examples.jsonl")
    assert all(each.version == f"{each.task}-styled-{each.version[-1]}" for each in examples)
    card = (workdir / "shards" / "DATA_CARD.md").read_text()
    for said in ("# Data card", "PSF-2.0", "smollm2-135m-instruct", "## Acceptance and cost", *verify["rejected"]):
        assert said in card
    written = {ShardSet(workdir / "shards" / split).read(number).key for split in ("train", "heldout")
               for number in range(len(ShardSet(workdir / "shards" / split)))}  # fmt: skip
    assert written & {each.id for each in examples}

    # Nothing is asked or paid for again.
    before = ledger.execute("SELECT sum(attempts) FROM requests").fetchone()
    (workdir / "verify" / "manifest.json").unlink()
    micro.run(smollm2_gguf, workdir, *styled)
    assert ledger.execute("SELECT sum(attempts) FROM requests").fetchone() == before
