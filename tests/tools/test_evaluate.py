"""tools.evaluate: from a command line to a report, with our own engine and with our own server."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.evaluation.mini import MINI
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serving
from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from tools import evaluate

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")


@pytest.fixture(autouse=True)
def _compiled_programs_stay_where_tests_keep_them():
    """The command keeps them where a user does."""
    kept = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", kept)


@pytest.fixture(scope="module")
def parts():
    """A tokenizer, a network that has learnt nothing, and its numbers."""
    tokenizer = train_sentencepiece(["def add(a, b):\n    return a + b\nfor i in range(10):\n    print(i)\n" * 20], 400)
    model = ModelConfig(400, 32, 2, 4, 2, 8, 48, max_context=512)
    return tokenizer, model, init_params(Decoder(model), jax.random.key(0))


@pytest.fixture(scope="module")
def checkpoint(parts, tmp_path_factory):
    tokenizer, model, params = parts
    folder = tmp_path_factory.mktemp("model") / "checkpoints"
    with CheckpointFolder(folder) as checkpoints:
        checkpoints.save(1, params, tokenizer, Card(model, "none", {}))
        checkpoints.wait()
    return folder


def arguments(out, *more):
    wanted = ["--benchmarks=demiurgic-mini:python", "--limit=3", "--max-tokens=8", "--concurrency=2"]
    return [*wanted, f"--out={out}", *map(str, more)]


def test_a_checkpoint_and_a_server_of_it_get_the_same_answers_and_are_compared(parts, checkpoint, tmp_path):
    tokenizer, model, params = parts
    ours, served = tmp_path / "ours", tmp_path / "served"
    assert evaluate.main(arguments(ours, f"--checkpoint={checkpoint}")) == 0
    assert (ours / "report.html").exists()
    with (
        Engine(model, params, tokenizer, slots=2, max_context=512) as engine,
        serving(engine, model_name="untaught") as url,
    ):
        command = [sys.executable, "-m", "tools.evaluate", *arguments(served, f"--url={url}", f"--compare={ours}")]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "demiurgic-mini:python: pass@1 0.0 % (0.0 – 70.8)" in finished.stdout
    assert "McNemar p=1.0000" in finished.stdout
    answers = [
        [json.loads(line)["answer"] for line in sorted(next(folder.glob("*/answers.jsonl")).read_text().splitlines())]
        for folder in (ours, served)
    ]
    assert answers[0] == answers[1]
    settings = json.loads((served / "settings.json").read_text())
    assert (settings["temperature"], settings["limit"], settings["isolated"]) == (0.0, 3, True)


def test_the_same_command_again_asks_nothing(checkpoint, tmp_path):
    assert evaluate.main(arguments(tmp_path / "out", f"--checkpoint={checkpoint}")) == 0
    answers = next((tmp_path / "out").glob("*/answers.jsonl"))
    before = answers.stat().st_mtime_ns, answers.read_text()
    assert evaluate.main(arguments(tmp_path / "out", f"--checkpoint={checkpoint}")) == 0
    assert (answers.stat().st_mtime_ns, answers.read_text()) == before


def test_the_report_says_which_problems_the_training_shards_hold(parts, checkpoint, tmp_path):
    tokenizer, *_ = parts
    mini = [json.loads(line) for line in (MINI / "python.jsonl").read_text().splitlines()]
    copied = next(row for row in mini if row["id"] == "mini/python/generate/10")
    texts = [copied["reference"], "def other():\n    return 1\n"]
    documents = [Document(text[:9], "python", "code", np.array(tokenizer.encode(text), np.uint16)) for text in texts]
    shards = tmp_path / "shards"
    write_shards(shards, documents, tokenizer=tokenizer, num_shards=1, provenance={})
    more = f"--checkpoint={checkpoint}", f"--shards={shards}", "--limit=20"
    assert evaluate.main(arguments(tmp_path / "out", *more)) == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())["contamination"]
    assert (found["documents"], [*found["found"]]) == (2, [copied["id"]])
    assert "Contamination" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "give the model as --checkpoint=PATH or as --url=URL"),
        (["--url=http://127.0.0.1:9/v1", "--samples=3"], "would be the same answer 3 times"),
        (["--url=http://127.0.0.1:9/v1", "--shards=x"], "--shards needs the shards' tokenizer"),
        (["--url=http://127.0.0.1:9/v1", "--compare=nowhere"], "nowhere holds no evaluation"),
        (["--checkpoint=nowhere"], "does not exist"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(more, said, tmp_path, capsys):
    assert evaluate.main(arguments(tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert "Traceback" not in error


def test_help_teaches_without_waiting_for_jax():
    program = (
        "import sys; from tools.evaluate import main\ntry: main(['--help'])\nfinally: assert 'jax' not in sys.modules"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    for taught in ("--checkpoint=", "humanevalpack-fix", "OTHER_OUT", "bubblewrap", "goes on"):
        assert taught in finished.stdout
