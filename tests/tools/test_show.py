"""`python -m tools.show` as a user types it, on a run that was really made."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.training.metrics import read_metrics
from tools.show import main


@pytest.fixture
def shown(capsys):
    """What a command prints; with --json, what it means."""

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def other_run(shown_run, tmp_path) -> Path:
    """The same run under another learning rate's name."""
    folder = tmp_path / "other"
    shutil.copytree(shown_run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["config"]["train"]["optimizer"]["learning_rate"] = 1e-3
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_run_is_shown_with_its_figures(shown, shown_run):
    rows = read_metrics(shown_run / "train" / "metrics.jsonl")
    (run,) = json.loads(shown("runs", shown_run, "--json"))["runs"]
    assert (run["step"], run["steps"], run["attempts"]) == (4, 4, 1)
    assert run["loss"] == pytest.approx(np.mean([row["loss"] for row in rows[1:]]))
    assert run["heldout"][""]["cross_entropy"] == rows[-1]["heldout/cross_entropy"]
    assert run["heldout"]["language/rust"]["perplexity"] == rows[-1]["heldout/language/rust/perplexity"]
    assert run["dollars"] == pytest.approx(run["machine_seconds"] / 100, rel=0.05)  # 36 dollars an hour
    text = shown("runs", shown_run)
    for said in ("4 of 4", "goodput", "waiting for data", "task/explain", "language/rust", "dollars", "once"):
        assert said in text
    assert "\x1b" not in text


def test_runs_are_compared_by_what_differs_and_as_a_picture(shown, shown_run, other_run, tmp_path):
    picture = tmp_path / "losses.png"
    figures = json.loads(shown("runs", shown_run, other_run, f"--plot={picture}", "--json"))
    assert figures["differences"] == {"train.optimizer.learning_rate": [2e-3, 1e-3]}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(picture.read_bytes()) > 10_000
    assert "train.optimizer.learning_rate" in shown("runs", shown_run, other_run)


def test_shards_are_shown_with_what_is_in_them(shown, shown_run):
    sets = json.loads(shown("shards", shown_run, "--context=64", "--verify", "--json"))["shard_sets"]
    assert [Path(each["folder"]).name for each in sets] == ["heldout", "train"]
    train, shard_set = sets[1], ShardSet(shown_run / "shards" / "train")
    assert train["documents"] == 80 == sum(bucket["documents"] for bucket in train["length_histogram"])
    for bucket in train["length_histogram"]:
        inside = (shard_set.lengths >= bucket["least"]) & (shard_set.lengths <= bucket["most"])
        assert np.count_nonzero(inside) == bucket["documents"]
    assert train["languages"] == {"python": 40, "rust": 40}
    assert train["licences"] == {"MIT": 40, "Apache-2.0": 40}
    assert 0.5 < train["packing"]["filled"] <= 1
    text = shown("shards", shown_run / "shards" / "train")
    for said in ("python 40, rust 40", "MIT 40", "explain 40", '"a": 1', "█", train["fingerprint"]):
        assert said in text


def test_a_checkpoint_is_shown_without_reading_its_arrays(shown, shown_run):
    figures = json.loads(shown("checkpoint", shown_run, "--json"))
    opened = open_model(shown_run / "train" / "checkpoints")
    assert figures["steps"] == [2, 4]
    assert figures["step"] == opened.step == 4
    assert figures["parameters"] == opened.config.num_parameters
    assert figures["shapes"]["layers/w_down"] == [[2, 48, 32], "float32"]
    assert figures["tokenizer"]["fingerprint"] == opened.tokenizer.fingerprint
    assert figures["card"]["data_fingerprint"] == ShardSet(shown_run / "shards" / "train").fingerprint
    # AdamW has two moments of every parameter, in float32.
    assert 8 * figures["parameters"] <= figures["optimizer_bytes"] < 8 * figures["parameters"] + 100
    text = shown("checkpoint", shown_run / "train" / "checkpoints" / "2")
    for said in ("checkpoints/2", "2, 4", "embed_dim 32", "layers/w_down", 'experiment "shown"'):
        assert said in text


def test_a_batch_is_the_one_that_the_step_learnt_from(shown, shown_run):
    tokenizer = load_tokenizer(shown_run / "tokenizer" / "files")
    loader = Loader(ShardSet(shown_run / "shards" / "train"), batch_size=8, row_length=64, seed=0)
    batch = loader.batch(2)
    rows = json.loads(shown("batch", shown_run, "--step=3", "--json"))["rows"]
    assert [[document["key"] for document in row["documents"]] for row in rows] == loader.rows_in(2)
    for b, row in enumerate(rows):
        text = "".join(span["text"] for document in row["documents"] for span in document["spans"])
        real = batch.tokens[b][batch.segment_ids[b] > 0]
        assert text.encode() == b"".join(tokenizer.token_bytes(int(token)) for token in real)
        assert row["tokens"]["trained"] == np.count_nonzero(batch.loss_weights[b])
        assert row["tokens"]["padding"] == np.count_nonzero(batch.segment_ids[b] == 0)
        for document in row["documents"]:
            if document["key"].startswith("answer"):
                assert [span["kind"] for span in document["spans"]] == ["prompt", "trained"]
                assert document["spans"][0]["text"].startswith("Add ")


def test_masks_are_colours_on_a_terminal_and_marks_in_a_pipe(shown, shown_run):
    plain = shown("batch", shown_run, "--step=1")
    assert "\x1b" not in plain
    assert "«total = total + " in plain
    assert "document 1: " in plain
    coloured = shown("batch", shown_run, "--step=1", "--color")
    assert "\x1b[32mtotal = total + " in coloured
    assert "«" not in coloured
    assert "\x1b[3" not in shown("batch", shown_run, "--no-color")


def test_a_shard_set_by_itself_is_decoded_with_its_tokenizer(shown, shown_run):
    shards, tokenizer = shown_run / "shards" / "train", shown_run / "tokenizer" / "files"
    by_run = json.loads(shown("batch", shown_run, "--step=2", "--json"))
    options = ("--step=2", "--batch-size=8", "--context=64", f"--tokenizer={tokenizer}", "--json")
    assert json.loads(shown("batch", shards, *options))["rows"] == by_run["rows"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs", "{run}/shards"], "holds no train/metrics.jsonl: give the --workdir of a run"),
        (["runs", "{run}", "--plot={run}/x.png", "--metrics=lost"], "the runs have no such metric, but accuracy,"),
        (["runs", "{run}", "--plot={run}/nowhere/x.png"], "cannot be written"),
        (["shards", "{run}/train"], "make the shards first"),
        (["checkpoint", "{run}/nowhere"], "does not exist: give a run's folder"),
        (["checkpoint", "{run}/tokenizer"], "holds no finished checkpoint"),
        (["checkpoint", "{run}", "--step=3"], "has no checkpoint of step 3: it has those of 2, 4"),
        (["batch", "{run}", "--step=0"], "--step=0: the first step is 1"),
        (["batch", "{run}", "--row=8"], "--row=8: the batch has the rows 0 to 7"),
        (["batch", "{run}/shards/train"], "has no tokenizer inside: give its folder as --tokenizer=DIR"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(capsys, shown_run, arguments, said):
    assert main([argument.format(run=shown_run) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize("command", ["runs", "shards", "checkpoint", "batch"])
def test_help_says_what_a_command_is_for(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert len(capsys.readouterr().out.splitlines()) > 12
