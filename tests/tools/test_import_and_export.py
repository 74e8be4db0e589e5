"""`python -m tools.import_model` and `tools.export_model`: what an operator does with them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.interop.imported import import_model
from tools import export_model
from tools import import_model as import_tool

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def exported(shown_run, tmp_path_factory) -> Path:
    """The newest checkpoint of a run, taken out as a Hugging Face folder."""
    out = tmp_path_factory.mktemp("exported") / "model"
    assert export_model.main([str(shown_run), str(out), "--licence=apache-2.0"]) == 0
    return out


def test_a_run_goes_out_comes_in_and_is_the_same_model(shown_run, exported, tmp_path, capsys):
    assert import_tool.main([str(exported), str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert "a llama of" in said
    assert "licence apache-2.0; has fill-in-the-middle markers, has a chat template" in said
    trained, again = open_model(shown_run / "train" / "checkpoints"), open_model(tmp_path / "again")
    assert again.config == trained.config
    assert again.card.provenance == {"imported_from": "model", "family": "llama", "licence": "apache-2.0"}
    np.testing.assert_array_equal(again.params["layers"]["wq"], trained.params["layers"]["wq"])
    text = "total = total + 12\n"
    assert again.tokenizer.encode(text) == trained.tokenizer.encode(text)
    assert again.tokenizer.special == trained.tokenizer.special


def test_the_folder_has_all_that_its_readers_look_for(exported):
    assert {path.name for path in exported.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "README.md"),
        *("tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
    }
    generation = json.loads((exported / "generation_config.json").read_text())
    assert set(generation["eos_token_id"]) == {3, 8}
    card = (exported / "README.md").read_text()
    assert card.startswith('---\nlicense: "apache-2.0"\n')
    assert "| experiment | " in card
    assert "## Scores" in card
    assert "| heldout/cross_entropy | " in card or "| cross_entropy | " in card


def test_a_report_beside_the_checkpoints_makes_the_data_card(shown_run, tmp_path):
    report = {
        "shards": {
            "documents": {"train": 203},
            "tokens": {"train": 53_901},
            "tasks": {"train": {"code": 172}},
            "licences": {"train": {"PSF-2.0": 203}},
        },
        "teacher": {"asked": 50, "kept": 34},
        "student": {"tokens": 43_008},
        "everyday": {"prompts": 10, "student_begins_program": 8},
    }
    path = shown_run / "report.json"
    path.write_text(json.dumps(report))
    try:
        assert export_model.main([str(shown_run), str(tmp_path / "out"), "--name=Mine"]) == 0
    finally:
        path.unlink()
    card = (tmp_path / "out" / "README.md").read_text()
    for row in ("# Mine", "| train tokens | 53,901 |", "| PSF-2.0 | 203 documents |", "kept | 34 of 50 |", "| 0.8 |"):
        assert row in card


def test_gguf_is_written_in_the_kind_asked_for(shown_run, tmp_path, capsys):
    sizes = {}
    for kind in ("float32", "q8_0"):
        out = tmp_path / f"{kind}.gguf"
        assert export_model.main([str(shown_run), str(out), "--format=gguf", f"--dtype={kind}"]) == 0
        sizes[kind] = out.stat().st_size
        import_model(out)
    assert "no licence is known" in capsys.readouterr().err
    assert sizes["q8_0"] < sizes["float32"] / 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "{tmp}"], "exists: remove it"),
        (["{run}", "{tmp}/out", "--dtype=q8_0"], "--format=hf has no --dtype=q8_0"),
        (["{run}", "{tmp}/out", "--format=gguf", "--dtype=q4"], "choose auto, float32, bfloat16, q8_0"),
        (["{tmp}/nowhere", "{tmp}/out"], "does not exist"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_status_two(arguments, said, shown_run, tmp_path, capsys):
    given = [text.format(run=shown_run, tmp=tmp_path) for text in arguments]
    assert export_model.main(given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_refused(tmp_path, capsys):
    assert import_tool.main([str(tmp_path / "absent"), str(tmp_path / "out")]) == 2
    assert "does not exist: give a .gguf file, or a Hugging Face folder" in capsys.readouterr().err


@pytest.mark.parametrize("tool", [import_tool, export_model])
def test_help_teaches(tool, capsys):
    with pytest.raises(SystemExit) as leaving:
        tool.main(["--help"])
    assert leaving.value.code == 0
    said = capsys.readouterr().out
    assert f"python -m {tool.__name__}" in said
    assert "default" in said


def written(folder) -> int:
    """Bytes of its files, which come and go."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*"))
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_nothing_and_the_next_attempt_succeeds(smollm2_gguf, tmp_path):
    """A real process, killed before it writes, and with a part of the parameters on disk."""
    out, unfinished = tmp_path / "out", tmp_path / "out.tmp"
    command = [sys.executable, "-m", "tools.import_model", str(smollm2_gguf), str(out)]
    for moment in ("before", "while writing"):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ)
        if moment == "before":
            time.sleep(1)
        else:
            while written(unfinished) < 1e6:
                assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
        assert moment == "before" or unfinished.exists()
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert open_model(out).config.num_layers == 30
    assert not unfinished.exists()
