"""Asking many: everything once, within the budget, through every fault."""

import asyncio
import random

import pytest
from asking_process import PRICE, ask, numbered_requests
from faulty_server import COMPLETION_TOKENS, PROMPT_TOKENS, serving

from demiurgic_jax.data.completer import Completion
from demiurgic_jax.distillation.asking import Pace, ask_all
from demiurgic_jax.distillation.ledger import Budget, Ledger
from demiurgic_jax.distillation.limits import Limiter
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price, tokens_at_most
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


class InProcess:
    """A teacher without a network."""

    name = model = "m"
    price, weight = Price(), 1.0

    def __init__(self, complete):
        self.limiter, self.complete = Limiter(), complete


def ask_in_process(path, complete, requests, **options):
    with Ledger(path, model="m") as ledger:
        return asyncio.run(ask_all(Panel([InProcess(complete)]), ledger, requests, **options))


def test_no_more_requests_run_at_once_than_allowed(tmp_path):
    running = most = 0

    async def complete(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return Completion("x", "stop", 1, 1)

    asked = ask_in_process(tmp_path / "l.sqlite", complete, numbered_requests(20), pace=Pace(concurrency=3))
    assert (asked.answered, most) == (20, 3)


def test_progress_ends_with_the_whole(tmp_path):
    async def complete(request):
        return Completion("x", "stop", 1, 1)

    seen = []
    requests = numbered_requests(5) + numbered_requests(2)
    ask_in_process(tmp_path / "l.sqlite", complete, requests, progress=lambda asked: seen.append(asked.answered))
    assert seen[-1] == 5
    assert seen == sorted(seen)


def test_time_that_is_over_stops_it_cleanly(tmp_path):
    async def complete(request):
        await asyncio.sleep(0.05)
        return Completion("x", "stop", 1, 1)

    requests = numbered_requests(100)
    pace = Pace(concurrency=2, total_seconds=0.3)
    asked = ask_in_process(tmp_path / "l.sqlite", complete, requests, pace=pace)
    assert asked.stopped.startswith("stopped after 0.3 s")
    assert 2 <= asked.answered == 100 - asked.unasked < 40
    with Ledger(tmp_path / "l.sqlite", model="m") as ledger:
        assert (ledger.summary().settled, ledger.summary().in_flight) == (asked.answered, 0)


def test_a_budget_below_one_request_is_refused_before_anything_is_sent(tmp_path):
    with serving() as server:
        for budget in (Budget(nanodollars=100), Budget(tokens=50)):
            with pytest.raises(UserError, match="does not allow a single request"):
                asyncio.run(ask(server.url, tmp_path / "l.sqlite", 3, None, budget=budget))
        assert server.bodies == []


def test_a_budget_in_tokens_holds_too(tmp_path):
    most = tokens_at_most(numbered_requests(1)[0].request)
    with serving(delay=0.01) as server:
        asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 30, None, budget=Budget(tokens=3 * most)))
    with Ledger(tmp_path / "l.sqlite", model="test-model") as ledger:
        assert ledger.booked.tokens <= 3 * most
    assert 3 < asked.answered < 30
    assert "tokens" in asked.stopped


def test_a_storm_of_faults_costs_at_most_the_budget_and_loses_nothing(tmp_path):
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
def test_a_teacher_that_cannot_be_used_ends_in_one_sentence_and_keeps_what_came(tmp_path, fault, sentence):
    with serving() as server:
        asyncio.run(ask(server.url, tmp_path / "l.sqlite", 3, 100.0))
        server.faults.extend([fault] * 500)
        with pytest.raises(UserError, match=sentence):
            asyncio.run(ask(server.url, tmp_path / "l.sqlite", 40, 100.0))
        server.faults.clear()
        asked = asyncio.run(ask(server.url, tmp_path / "l.sqlite", 40, 100.0))
        assert asked.known >= 3
        assert asked.known + asked.answered == 40
