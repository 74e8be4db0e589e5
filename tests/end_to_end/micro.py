"""The quickstart in little: the real teacher and real code, every stage, in less than a minute."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SIZES = {
    "seeds.max_files": 40,
    "teacher.slots": 4,
    "teacher.max_context": 512,
    "teacher.concurrency": 4,
    "teach.tasks.complete": 4,
    "teach.tasks.generate": 6,
    "teach.tasks.explain": 6,
    "teach.tasks.fix": 1,
    "teach.tasks.refactor": 1,
    "teach.max_tokens": 64,
    "shards.code_tokens": 3000,
    "shards.heldout_code_tokens": 600,
    "shards.max_document_tokens": 128,
    "init.layers": 3,
    "train.steps": 10,
    "train.batch_size": 2,
    "train.context": 128,
    "train.checkpoint_every": 2,
    "train.eval_every": 5,
    "evaluate.max_tokens": 8,
    "evaluate.max_context": 256,
}


def command(gguf: Path, workdir: Path, *more: str) -> list[str]:
    """The command line of a micro run on the teacher in `gguf`."""
    sizes = [f"--config.{name}={value}" for name, value in SIZES.items()]
    return [
        *(sys.executable, "-m", "experiments.run", "--config=quickstart"),
        *(f"--workdir={workdir}", f"--config.teacher.path={gguf}", *sizes, *more),
    ]


def run(gguf: Path, workdir: Path, *more: str, status: int = 0) -> str:
    """Runs it to its end; returns what it said."""
    finished = subprocess.run(command(gguf, workdir, *more), cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == status, finished.stderr[-4000:]
    return finished.stderr
