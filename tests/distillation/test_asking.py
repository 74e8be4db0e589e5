"""Asking many: everything once, within the budget, through every fault."""

import asyncio
import random
import threading

import pytest
from asking_process import PRICE, ask, numbered_requests
from faulty_server import COMPLETION_TOKENS, PROMPT_TOKENS, serving

from demiurgic_jax.data.completer import Completion
from demiurgic_jax.distillation import asking
from demiurgic_jax.distillation.asking import ask_all
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price
from demiurgic_jax.errors import UserError

ACTUAL = PRICE.cost(PROMPT_TOKENS, COMPLETION_TOKENS) / NANODOLLARS
WORST = PRICE.worst_case(numbered_requests(1)[0].request) / NANODOLLARS


def test_everything_is_asked_once_and_never_again(tmp_path):
    with serving() as server:
        first = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 30, 100.0))
        assert (first.wanted, first.answered, first.known, first.unasked) == (30, 30, 0, 0)
        second = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 40, 100.0))
        assert (second.answered, second.known) == (10, 30)
        assert sorted(int(body["prompt"]) for body in server.bodies) == list(range(40))


def test_the_budget_stops_it_cleanly_and_raising_it_goes_on(tmp_path):
    budget = 10 * ACTUAL + (WORST - ACTUAL)
    with serving(delay=0.01) as server:
        asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 30, budget))
        assert asked.answered == 10  # the room that settling frees is used
        assert asked.unasked == 20
        assert asked.stopped.startswith("stopped at the budget of $")
        assert len(server.bodies) == 10
        with Ledger(tmp_path / "l.sqlite", model="test-model") as ledger:
            assert ledger.summary().dollars <= budget
            assert ledger.summary().in_flight == 0
        asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 30, 100.0))
        assert (asked.answered, asked.known, asked.stopped) == (20, 10, None)


def test_no_more_requests_run_at_once_than_allowed(tmp_path):
    running, most, lock = 0, 0, threading.Lock()

    class Counting:
        async def complete(self, request):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            await asyncio.sleep(0.005)
            running -= 1
            return Completion("x", "stop", 1, 1)

    with Ledger(tmp_path / "l.sqlite", model="m") as ledger:
        asked = asyncio.run(ask_all(Counting(), ledger, numbered_requests(20), price=Price(), concurrency=3))
    assert (asked.answered, most) == (20, 3)


def test_progress_ends_with_the_whole(tmp_path):
    class Instant:
        async def complete(self, request):
            return Completion("x", "stop", 1, 1)

    seen = []
    with Ledger(tmp_path / "l.sqlite", model="m") as ledger:
        requests = numbered_requests(5) + numbered_requests(2)
        asyncio.run(
            ask_all(Instant(), ledger, requests, price=Price(), progress=lambda asked: seen.append(asked.answered))
        )
    assert seen == [1, 2, 3, 4, 5]


def test_a_storm_of_faults_costs_at_most_the_budget_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "_PAUSE_SECONDS", 0.01)
    rng = random.Random(2)
    faults = ["429", "500", "503", "reset", "truncated", "garbage"]
    with serving() as server:
        server.faults.extend(rng.choice(faults) for _ in range(25))
        asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 40, 100.0))
        while asked.failed:  # what used up its attempts is asked by the next run
            asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 40, 100.0))
        with Ledger(tmp_path / "l.sqlite", model="test-model") as ledger:
            summary = ledger.summary()
            lost = len(server.bodies) - 40
            assert summary.settled == 40
            assert 40 * ACTUAL - 1e-9 <= summary.dollars <= 40 * ACTUAL + lost * WORST + 1e-9


def test_refused_requests_are_not_asked_again(tmp_path):
    with serving() as server:
        server.faults.append("400")
        asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 6, 100.0))
        assert (asked.refused, asked.answered) == (1, 5)
        again = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 6, 100.0))
        assert again.known == 6
        assert len(server.bodies) == 6


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("401", "answers 401"),
        ("html", "answers with a web page"),
        ("truncated", "broke off its answer"),
        ("503", "answers 503"),
    ],
)
def test_a_teacher_that_cannot_be_used_ends_in_one_sentence_and_keeps_what_came(tmp_path, fault, sentence, monkeypatch):
    monkeypatch.setattr(asking, "_PAUSE_SECONDS", 0.01)
    with serving() as server:
        asyncio.run(ask(server.url, tmp_path / "l.sqlite", 3, 100.0))
        server.faults.extend([fault] * 500)
        with pytest.raises(UserError, match=sentence):
            asyncio.run(ask(server.url, tmp_path / "l.sqlite", 40, 100.0))
        server.faults.clear()
        asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 40, 100.0))
        assert asked.known >= 3
        assert asked.known + asked.answered == 40
