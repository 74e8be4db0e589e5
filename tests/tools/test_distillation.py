"""`tools.benchmarks.distillation` from one command line to its table, with a tiny teacher."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from experiments.stages.cache import cache_folder
from tools import export_model
from tools.benchmarks.distillation import main
from tools.benchmarks.distillation_table import table

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--layers=2 --steps=3 --batch-size=2 --context=32 --file-tokens=64 --heldout-tokens=128 --pool=2 --samples=20"


@pytest.fixture(autouse=True)
def _compiled_programs_stay_where_tests_keep_them():
    """The command keeps them where a user does."""
    kept = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", kept)


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """A folder of small files, no two alike."""
    folder = tmp_path_factory.mktemp("code")
    for number in range(64):
        text = f'"""Module {number}."""\n\n\ndef total_{number}(items):\n    return sum(items) + {number}\n'
        (folder / f"module_{number}.py").write_text(text * 3)
    return folder


@pytest.fixture(scope="module")
def teacher(code, tmp_path_factory):
    """A network that has learnt nothing, as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = train_sentencepiece([path.read_text() for path in sorted(code.iterdir())], 400)
    model = ModelConfig(400, 32, 4, 4, 2, 8, 48, max_context=512)
    with CheckpointFolder(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, init_params(Decoder(model), jax.random.key(0)), tokenizer, Card(model, "none", {}))
        checkpoints.wait()
    assert export_model.main([str(folder / "checkpoints"), str(folder / "model")]) == 0
    return folder / "model"


def compare(teacher, code, workdir, *more):
    """The command, on one device, as on a laptop."""
    command = [sys.executable, "-m", "tools.benchmarks.distillation", str(teacher), f"--code={code}"]
    environment = {**os.environ, "DEMIURGIC_CACHE": str(cache_folder() / "test-distillation")}
    return subprocess.run(
        [*command, f"--workdir={workdir}", *SMALL.split(), *more],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_ways_are_compared_and_what_is_finished_is_kept(teacher, code, tmp_path):
    told = compare(teacher, code, tmp_path, "--ways=text,online", "--seeds=0")
    assert told.returncode == 0, told.stderr
    rows = [line.split(" | ") for line in told.stdout.splitlines() if line.startswith("|")]
    assert [row[0].strip("| ") for row in rows[2:]] == [
        *("the student, untrained", "the teacher", "text", "online", "online against text"),
    ]
    fixed = json.loads((tmp_path / "fixed.json").read_text())
    # Against itself, in the same rows and the same float32, the teacher is nothing off.
    assert fixed["rows"]["the teacher"]["code/kl"] == pytest.approx(0, abs=1e-5)
    assert fixed["rows"]["the student, untrained"]["code/kl"] > 1e-3
    assert "text-0, run 1 of 2: step 3 of 3" in told.stderr
    assert (tmp_path / "table.md").read_text() == told.stdout
    assert (tmp_path / "table.svg").read_text().startswith("<?xml")
    results = {path.parent.name: path.read_text() for path in (tmp_path / "runs").glob("*/result.json")}
    assert len(set(results.values())) == 2  # each way gave something else
    assert not list((tmp_path / "runs").glob("*/checkpoints"))

    # Another way joins; what is there is not made again.
    told = compare(teacher, code, tmp_path, "--ways=text,online,soft", "--seeds=0")
    assert told.returncode == 0, told.stderr
    assert "soft-0, run 1 of 1" in told.stderr
    assert "| soft against online | " in told.stdout
    assert "bytes of sampled targets a token" in told.stdout
    for name, text in results.items():
        assert (tmp_path / "runs" / name / "result.json").read_text() == text

    # One table is of one comparison.
    told = compare(teacher, code, tmp_path, "--learning-rate=0.1")
    assert told.returncode == 2
    assert "holds runs with --learning-rate 0.0004, not 0.1" in told.stderr


def test_a_student_of_the_teachers_own_text(teacher, code, tmp_path):
    told = compare(
        teacher,
        code,
        tmp_path,
        "--study=imitation",
        "--ways=soft,on_policy",
        "--seeds=0",
        "--steps=6",
        "--prefix=8",
        "--keep-checkpoints",
    )
    assert told.returncode == 0, told.stderr
    assert "demiurgic-mini: cross-entropy" in told.stdout
    assert "the teacher's text: KL to the teacher" in told.stdout
    assert (tmp_path / "runs" / "soft-0" / "checkpoints" / "6").is_dir()
    steps = [
        json.loads(line) for line in (tmp_path / "runs" / "on_policy-0" / "metrics.jsonl").read_text().splitlines()
    ]
    assert any(step.get("on_policy") for step in steps)
    said = ShardSet(tmp_path / "shards" / "sampled").read(0)
    # What the teacher was given is not learnt, and has no targets.
    assert said.loss_mask[:8].sum() == 0
    assert said.loss_mask[8:].all()
    assert said.soft_targets.counts[:7].sum() == 0

    # Another comparison begins where a student of this one ended.
    trained = tmp_path / "runs" / "soft-0" / "checkpoints"
    later = tmp_path / "later"
    told = compare(teacher, code, later, f"--start={trained}", "--ways=text", "--seeds=0")
    assert told.returncode == 0, told.stderr
    began = json.loads((later / "fixed.json").read_text())["rows"]["the student, untrained"]
    ended = json.loads((tmp_path / "runs" / "soft-0" / "result.json").read_text())
    assert began["code/cross_entropy"] == pytest.approx(ended["code/cross_entropy"])
    told = compare(teacher, code, tmp_path / "other", f"--start={trained}", "--study=tokenizer", "--vocab-size=380")
    assert told.returncode == 2
    assert "has another tokenizer than this study" in told.stderr


def test_a_student_with_a_tokenizer_of_its_own(teacher, code, tmp_path):
    told = compare(
        teacher, code, tmp_path, "--study=tokenizer", "--ways=soft,soft_top_p", "--seeds=0", "--vocab-size=380"
    )
    assert told.returncode == 0, told.stderr
    assert "code: bits per byte" in told.stdout
    assert "| the teacher |" not in told.stdout  # it has no figure in the student's tokens
    told_apart = {kind: ShardSet(tmp_path / "shards" / kind) for kind in ("sampled", "top_p")}
    assert all(shards.manifest["soft_target_positions"] > 0 for shards in told_apart.values())
    assert {kind: shards.read(0).soft_targets.samples for kind, shards in told_apart.items()} == {
        "sampled": 20,
        "top_p": 0,
    }


def test_the_table_has_means_deviations_and_paired_differences():
    fixed = {
        "rows": {"the student, untrained": {"code/cross_entropy": 5.0}},
        "heldout": {"code": {"tokens": 1234, "bytes": 4321}},
        "tokens_of_a_run": 2000,
    }
    data = {"tokens": 3000, "soft_target_bytes": {"sampled": 31.94}}
    results = {
        (way, seed): {"code/cross_entropy": value}
        for way, values in {"text": [4.0, 4.2], "soft": [3.6, 3.99]}.items()
        for seed, value in enumerate(values)
    }
    assert table(fixed, data, results).splitlines() == [
        "| | seeds | code: cross-entropy |",
        "|---|---|---|",
        "| the student, untrained | | 5.0000 |",
        "| text | 2 | 4.1000 ± 0.1414 |",
        "| soft | 2 | 3.7950 ± 0.2758 |",
        "| soft against text | | -7.50 ± 3.54 % |",
        "",
        "2,000 tokens a run out of 3,000; 31.9 bytes of sampled targets a token; measured on 1,234 tokens (code)",
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--ways=text,sofd", "the way 'sofd' is unknown"),
        ("--study=tokenizer --ways=online", "the way online needs one tokenizer"),
        ("--code=nowhere", "nowhere has 0 Python files of code"),
        ("--steps=4000", "tokens short: take fewer steps"),
    ],
)
def test_mistakes_are_named(teacher, code, tmp_path, capsys, more, said):
    assert main([str(teacher), f"--code={code}", f"--workdir={tmp_path}", *SMALL.split(), *more.split()]) == 2
    assert said in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert "studies: targets" in told
    assert "goes on where it was" in told
