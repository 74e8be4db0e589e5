"""What is in the ledger stays there: answers, money, and who may write."""

import dataclasses
import sqlite3

import pytest

from demiurgic_jax.data.completer import Completion, CompletionRequest, Message, TokenLogprob
from demiurgic_jax.distillation.ledger import Budget, BudgetSpentError, Entry, Ledger, Spend
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price, prompt_tokens_at_most
from demiurgic_jax.distillation.request import request_key
from demiurgic_jax.errors import UserError

REQUEST = CompletionRequest(messages=(Message("user", "ü"),), max_tokens=10)
ENTRY = Entry("fix", "python", "m", "m")
COMPLETION = Completion("a\ud800ü", "length", 3, 4, (TokenLogprob("a", -0.25, (("a", -0.25), ("b", -2.0))),))


def test_answers_come_back_as_they_were(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        key = ledger.key(REQUEST)
        ledger.reserve(key, ENTRY, Spend(100, 1), Budget(), sent=True)
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
        ledger.reserve("a", ENTRY, Spend(60, 1), Budget(100), sent=True)
        with pytest.raises(BudgetSpentError):
            ledger.reserve("b", ENTRY, Spend(41, 1), Budget(100), sent=True)
        ledger.settle("a", COMPLETION, 10)
        ledger.reserve("b", ENTRY, Spend(41, 1), Budget(100), sent=True)
        ledger.fail("b", "server error", "broke off", billed=True)  # 51 spent
        ledger.reserve("c", ENTRY, Spend(49, 1), Budget(100), sent=True)
        ledger.fail("c", "server error", "429")  # freed
        ledger.reserve("d", ENTRY, Spend(20, 1), Budget(100), sent=True)
        # The process was killed in between: the first attempt may have been billed.
        ledger.reserve("d", ENTRY, Spend(20, 1), Budget(100), sent=True)
        with pytest.raises(BudgetSpentError):
            ledger.reserve("e", ENTRY, Spend(10, 1), Budget(100), sent=True)
        assert round(ledger.summary().dollars * NANODOLLARS) == 91
        ledger.fail("d", "server error", "400", for_good=True)
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
    with pytest.raises(UserError, match="has version 7, this program writes version 2"):
        Ledger(path, model="m")
    with pytest.raises(UserError, match="cannot be opened"):
        Ledger(tmp_path / "missing" / "ledger.sqlite", model="m")


def test_a_full_disk_is_named_and_loses_no_answer(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        ledger.reserve("a", ENTRY, Spend(1, 1), Budget(), sent=True)
        ledger.settle("a", COMPLETION, 1)
        pages = ledger._rows.execute("PRAGMA page_count").fetchone()[0]
        ledger._rows.execute(f"PRAGMA max_page_count={pages}")  # SQLite then reports a full disk, as write() would

        def fill():
            for number in range(1000):
                ledger.reserve(f"key {number}", ENTRY, Spend(1, 1), Budget(), sent=True)
                ledger.settle(f"key {number}", dataclasses.replace(COMPLETION, text="x" * 500), 1)

        with pytest.raises(UserError, match=f"the disk of {tmp_path} is full"):
            fill()
        settled = ledger.summary().settled
    with Ledger(tmp_path / "ledger.sqlite", model="m") as ledger:
        assert ledger.summary().settled == settled >= 1
