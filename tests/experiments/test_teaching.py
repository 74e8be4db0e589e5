"""The teach stage as a user runs it, against a server over HTTP: priced, asked in shards, merged, looked at."""

import json
import re
import sys
from pathlib import Path

import pytest

from experiments.run import main
from tools.merge_ledgers import main as merge
from tools.show import main as show

sys.path.append(str(Path(__file__).parents[1] / "distillation"))
from batch_server import serving_batches
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
        own = ["--config.train.on_policy.fraction=0.5", "--config.train.on_policy.top_logprobs=5"]
        sizes = ["--config.train.steps=30", "--config.train.batch_size=2", "--config.train.on_policy.max_tokens=32"]
        assert main([*whole, *own, *sizes, "--dry-run"]) == 0
        # Half of the steps, two rows each; a prompt of 128 tokens and a sample of 32.
        assert re.search(r"test-model  on_policy +30 requests +4,800 tokens in +0 out", capsys.readouterr().err)
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
        (["--config.teacher.url=", "--config.teacher.batch=True"], "batch=True needs an API that has batches"),
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


def test_a_run_in_batches_is_priced_at_half_and_goes_on_with_what_is_under_way(tmp_path, monkeypatch, capsys, shown):
    monkeypatch.setenv("STORM_KEY", KEY)
    workdir = tmp_path / "run"
    paid = ["--config.teacher.dollars_per_million_input=1.0", "--config.teacher.dollars_per_million_output=10.0"]
    with serving_batches(looks=50) as server:
        whole = command(server.url, workdir, *paid, "--config.teacher.batch_poll_seconds=0.02")
        assert main([*whole, "--stages=seeds"]) == 0
        prices = []
        for batch in (False, True):
            assert main([*whole, "--dry-run", f"--config.teacher.batch={batch}"]) == 0
            prices.append(re.findall(r"\$([\d.]+) at most; nothing", capsys.readouterr().err)[0])
        assert float(prices[1]) == pytest.approx(float(prices[0]) / 2, abs=0.01)
        whole += ["--config.teacher.batch=True", "--stages=teach"]
        assert main([*whole, "--config.teacher.total_seconds=0.3"]) == 2
        assert "are in batches under way; the same command fetches them" in capsys.readouterr().err
        under_way = json.loads(shown("teacher", workdir, "--json"))["batches"]
        assert sum(batch["requests"] for batch in under_way) == 15
        assert "batch batch_0 of test-model: " in shown("teacher", workdir)
        for batch in server.batches:
            batch.looks = 2
        assert main(whole) == 0
        assert len(server.asked) == sum(server.asked.values()) == 15
        figures = json.loads(shown("teacher", workdir, "--json"))
    assert (figures["total"]["settled"], figures["batches"]) == (15, [])
    assert figures["total"]["dollars"] >= server.billed / 1e9
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
