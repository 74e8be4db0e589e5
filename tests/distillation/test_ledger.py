"""What is in the ledger stays there: answers, money, and who may write."""

import dataclasses
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asking_process import PRICE, numbered_requests
from faulty_server import COMPLETION_TOKENS, PROMPT_TOKENS, serving

from demiurgic_jax.data.completer import Completion, CompletionRequest, Message, TokenLogprob
from demiurgic_jax.distillation.ledger import BudgetSpentError, Ledger
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price, prompt_tokens_at_most
from demiurgic_jax.distillation.request import request_key
from demiurgic_jax.errors import UserError

REQUEST = CompletionRequest(messages=(Message("user", "ü"),), max_tokens=10)
COMPLETION = Completion("a\ud800ü", "length", 3, 4, (TokenLogprob("a", -0.25, (("a", -0.25), ("b", -2.0))),))


def test_answers_come_back_as_they_were(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        key = ledger.key(REQUEST)
        ledger.reserve(key, 100, None)
        assert ledger.answer(REQUEST) is None
        ledger.settle(key, COMPLETION, 40)
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        answer = ledger.answer(REQUEST)
        assert (answer.completion, answer.cost) == (COMPLETION, 40 / NANODOLLARS)
        assert ledger.pending([REQUEST]) == {}
        summary = ledger.summary()
        assert (summary.settled, summary.prompt_tokens, summary.completion_tokens) == (1, 3, 4)
    with Ledger(tmp_path / "ledger.sqlite", model="another") as ledger:
        assert ledger.answer(REQUEST) is None


def test_every_part_of_a_request_is_in_its_key():
    base = CompletionRequest(prompt="p", seed=1)
    others = [
        dataclasses.replace(base, **change)
        for change in (
            {"prompt": "q"}, {"suffix": "s"}, {"max_tokens": 1}, {"temperature": 0.1}, {"top_p": 0.5}, {"top_k": 2},
            {"stop": ("x",)}, {"seed": 2}, {"logprobs": 0}, {"prompt": None, "messages": (Message("user", "p"),)},
        )
    ]  # fmt: skip
    keys = {request_key("m", request) for request in [base, *others]} | {request_key("n", base)}
    assert len(keys) == len(others) + 2
    assert all(len(key) == 64 for key in keys)


def test_the_budget_holds_over_reservations_losses_and_costs(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        ledger.reserve("a", 60, 100)
        with pytest.raises(BudgetSpentError):
            ledger.reserve("b", 41, 100)
        ledger.settle("a", COMPLETION, 10)
        ledger.reserve("b", 41, 100)
        ledger.fail("b", "broke off", billed=True)  # 51 spent
        ledger.reserve("c", 49, 100)
        ledger.fail("c", "429")  # freed
        ledger.reserve("d", 20, 100)
        ledger.reserve("d", 20, 100)  # the process was killed in between: the first attempt may have been billed
        with pytest.raises(BudgetSpentError):
            ledger.reserve("e", 10, 100)
        assert round(ledger.summary().dollars * NANODOLLARS) == 91
        ledger.fail("d", "400", for_good=True)
        summary = ledger.summary()
        assert (summary.settled, summary.failed, summary.refused, summary.in_flight) == (1, 2, 1, 0)
        assert round(summary.dollars * NANODOLLARS) == 71


def test_worst_cases_are_never_below_what_is_charged():
    price = Price(3.0, 15.0)
    request = CompletionRequest(messages=(Message("system", "be brief"), Message("user", "日本語" * 5)), max_tokens=64)
    assert prompt_tokens_at_most(request) >= 8 + 45
    assert price.worst_case(request) >= price.cost(8 + 45, 64)
    assert Price(0.15, 0.6).cost(1, 1) == 750  # $0.15 and $0.60 per million tokens
    assert Price(1e-7, 0.0).cost(1, 0) == 1  # rounded up
    assert Price().worst_case(request) == 0


def test_one_process_asks_at_a_time(tmp_path):
    with Ledger(tmp_path / "l.sqlite", model="m") as one, Ledger(tmp_path / "l.sqlite", model="m") as two:
        with one.asking(), pytest.raises(UserError, match="another process is asking"), two.asking():
            pass
        with two.asking():
            pass


def test_what_is_no_ledger_is_refused_by_name(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is not a database, but it is long enough to be looked at as one" * 40)
    with pytest.raises(UserError, match=r"ledger\.sqlite is not a ledger"):
        Ledger(path, model="m")
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version=7")
    other.close()
    with pytest.raises(UserError, match="has version 7, this program writes version 1"):
        Ledger(path, model="m")
    with pytest.raises(UserError, match="cannot be opened"):
        Ledger(tmp_path / "missing" / "ledger.sqlite", model="m")


def test_a_full_disk_is_named_and_loses_no_answer(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        ledger.reserve("a", 1, None)
        ledger.settle("a", COMPLETION, 1)
        pages = ledger._rows.execute("PRAGMA page_count").fetchone()[0]
        ledger._rows.execute(f"PRAGMA max_page_count={pages}")  # SQLite then reports a full disk, as write() would

        def fill():
            for number in range(1000):
                ledger.reserve(f"key {number}", 1, None)
                ledger.settle(f"key {number}", dataclasses.replace(COMPLETION, text="x" * 500), 1)

        with pytest.raises(UserError, match=f"the disk of {tmp_path} is full"):
            fill()
        settled = ledger.summary().settled
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        assert ledger.summary().settled == settled >= 1


def test_kills_at_any_moment_lose_no_answer_ask_none_again_and_never_pass_the_budget(tmp_path):
    count, rng, path = 150, random.Random(4), tmp_path / "ledger.sqlite"
    # Each killed run loses at most 4 attempts in flight; the budget has room for that and no more.
    worst = PRICE.worst_case(numbered_requests(count)[-1].request)
    actual = PRICE.cost(PROMPT_TOKENS, COMPLETION_TOKENS)
    kills = 6
    budget = (count * actual + (4 * kills + 4) * worst) / NANODOLLARS
    with serving(lambda body: "answer " + body["prompt"], delay=0.01) as server:
        command = [sys.executable, Path(__file__).with_name("asking_process.py"), server.url, path, count, budget]
        environment = {"PYTHONPATH": ":".join(sys.path)}
        known: set[str] = set()
        killed = 0
        while True:
            asked_before = len(server.bodies)
            process = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True)
            if killed < kills:
                while len(server.bodies) == asked_before and process.poll() is None:
                    time.sleep(0.005)
                time.sleep(rng.uniform(0.0, 0.12))
                process.send_signal(signal.SIGKILL)
                killed += 1
            output = process.communicate()[0]
            assert not known & {body["prompt"] for body in server.bodies[asked_before:]}
            with Ledger(path, model="test-model") as ledger:
                answers = {each.request.prompt: ledger.answer(each.request) for each in numbered_requests(count)}
                known = {prompt for prompt, answer in answers.items() if answer is not None}
                assert ledger.summary().dollars <= budget
            assert len(server.bodies) * actual <= budget * NANODOLLARS
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL
    assert killed == kills
    assert "failed=0" in output
    assert known == {str(number) for number in range(count)}
    assert all(answer.completion.text == f"answer {prompt}" for prompt, answer in answers.items())
    assert count <= len(server.bodies) <= count + 4 * kills
