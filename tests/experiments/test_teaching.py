"""The teach stage as a user runs it, against a server over HTTP: priced, asked in shards, merged, looked at."""

import json
import sys
from pathlib import Path

import pytest

from experiments.run import main
from tools.merge_ledgers import main as merge
from tools.show import main as show

sys.path.append(str(Path(__file__).parents[1] / "distillation"))
from storm import counts, storm_server

KEY = "sk-never-to-be-written-7f3a"
SIZES = ["--config.seeds.max_files=12", "--config.teach.max_tokens=64", "--config.teacher.timeout_seconds=20"]
SIZES += [f"--config.teach.tasks.{task}=3" for task in ("complete", "generate", "explain", "fix", "refactor")]


def command(url, workdir, *more):
    teacher = [f"--config.teacher.url={url}", "--config.teacher.model=test-model", "--config.teacher.path="]
    teacher += ["--config.teacher.api_key_env=STORM_KEY"]
    return ["--config=quickstart", f"--workdir={workdir}", *teacher, *SIZES, *more]


@pytest.fixture
def shown(capsys):
    def run(*arguments):
        capsys.readouterr()
        assert show([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run


def test_a_run_in_shards_is_priced_asked_merged_and_shown_and_no_file_holds_the_key(
    tmp_path, monkeypatch, capsys, shown
):
    monkeypatch.setenv("STORM_KEY", KEY)
    workdir = tmp_path / "run"
    paid = ["--config.teacher.dollars_per_million_input=1.0", "--config.teacher.dollars_per_million_output=10.0"]
    with storm_server(fault_rate=0.1, faults=["500", "reset", "garbage"]) as url:
        whole = command(url, workdir, *paid)
        assert main([*whole, "--dry-run"]) == 2
        assert "run the same command with --stages=seeds" in capsys.readouterr().err
        assert main([*whole, "--stages=seeds"]) == 0
        assert main([*whole, "--dry-run"]) == 0
        said = capsys.readouterr().err
        assert "test-model  explain" in said
        assert "likely" in said
        assert counts(url)["requests"] == 0
        for part in range(2):
            assert main([*whole, f"--shard={part}/2"]) == 0
        asked = counts(url)["requests"]
        assert asked >= 15
        assert merge([str(workdir)]) == 0
        assert "none was asked again" in capsys.readouterr().out
        assert main([*whole, "--stages=teach"]) == 0
        assert main([*whole, "--shard=0/3"]) == 0
        assert counts(url)["requests"] == asked
        assert counts(url)["keys"][f"Bearer {KEY}"] >= asked
        assert main([*whole, "--stages=verify"]) == 2  # nothing of this is code
        figures = json.loads(shown("teacher", workdir, "--json"))
        text = shown("teacher", workdir)
        output = capsys.readouterr()
    assert (figures["total"]["settled"], figures["left"]) == (15, 0)
    assert figures["total"]["acceptance"] == 0.0
    assert figures["projected_dollars"] == pytest.approx(figures["total"]["dollars"])
    assert set(figures["by_task"]) == {"complete", "explain", "fix", "generate", "refactor"}
    assert {"test-model"} == set(figures["by_model"])
    for word in ("task explain", "model test-model", "language python", "15 answers of 15 wanted", "0.0%"):
        assert word in text
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    assert KEY not in output.err + output.out + said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--config.teacher.url=https://api.example.com/v1"], "no price is known for the teacher 'test-model'"),
        (["--config.teacher.budget_dollars=0.00001"], "does not allow a single request"),
        (["--config.teacher.api_key_env=NOT_SET_HERE"], "the environment variable NOT_SET_HERE is not set"),
        (["--config.teacher.protocol=gopher"], "config.teacher.protocol='gopher' is not known"),
        (["--config.teacher.others=({'url': 'http://x/v1'},)"], "config.teacher.others[0] needs a url and a model"),
        (["--shard=2/2"], "--shard=2/2 is no part of a whole"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_sent(tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.setenv("STORM_KEY", KEY)
    price = [] if "example.com" in more[0] else ["--config.teacher.dollars_per_million_output=10.0"]
    price += ["--config.teacher.dollars_per_million_input=1.0"] if price else []
    with storm_server() as url:
        base = command(url, tmp_path / "run", *price)
        assert main([*base, "--stages=seeds"]) == 0
        assert main([*base, *([] if "--shard" in more[0] else ["--stages=teach"]), *more]) == 2
        assert counts(url)["requests"] == 0
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert KEY not in error
