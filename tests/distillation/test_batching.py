"""Batches at half the price: none lost, none submitted twice, whatever happens in between."""

import asyncio
import dataclasses
import signal
import time

import pytest
from asking_process import PRICE, ask, numbered_requests
from batch_server import STOPS, BatchServer, serving_batches
from storm import run_client, start_client

from demiurgic_jax.data.completer import CompletionRequest, Message
from demiurgic_jax.distillation.anthropic_batches import AnthropicBatches
from demiurgic_jax.distillation.batch_book import BatchBook
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.merging import merge_ledgers
from demiurgic_jax.distillation.openai_batches import OpenAIBatches
from demiurgic_jax.distillation.pricing import NANODOLLARS
from demiurgic_jax.errors import UserError

PROTOCOLS = ("openai", "anthropic")
QUICK = {"batch": True, "poll_seconds": 0.02, "settle_seconds": 0.3}
WORST = PRICE.worst_case(numbered_requests(1)[0].request) / NANODOLLARS


def ask_batches(server: BatchServer, path, count, dollars=100.0, **options):
    return asyncio.run(ask(server.url, path, count, dollars, **QUICK | options))


def check_books(path, server, count, dollars=100.0):
    """Every answer is that of its own request, and what the server billed was reserved before."""
    with Ledger(path, model="test-model") as ledger:
        for each in numbered_requests(count):
            if answer := ledger.answer(each.request):
                assert answer.completion.text.startswith(f"answer to {each.request.prompt}: ")
        assert server.billed <= ledger.booked.nanodollars <= dollars * NANODOLLARS
        assert BatchBook(ledger).keys() == set()
        return ledger.summary()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_everything_is_asked_once_in_batches_and_never_again(tmp_path, protocol):
    with serving_batches() as server:
        seen = []
        asked = ask_batches(
            server, tmp_path / "l.sqlite", 30, protocol=protocol, progress=lambda a: seen.append(a.batched)
        )
        assert (asked.answered, asked.failed, asked.unasked, asked.batched) == (30, 0, 0, 0)
        assert seen[0] == 30
        again = ask_batches(server, tmp_path / "l.sqlite", 40, protocol=protocol)
        assert (again.known, again.answered) == (30, 10)
        assert [len(batch.requests) for batch in server.batches] == [30, 10]
        assert server.asked == {str(n): 1 for n in range(40)}
        check_books(tmp_path / "l.sqlite", server, 40)


@pytest.mark.parametrize(("api", "protocol"), [(OpenAIBatches, "openai"), (AnthropicBatches, "anthropic")])
def test_what_is_too_much_for_one_batch_goes_into_several(tmp_path, monkeypatch, api, protocol):
    with serving_batches() as server:
        monkeypatch.setattr(api, "most_requests", 12)
        assert ask_batches(server, tmp_path / "l.sqlite", 30, protocol=protocol).answered == 30
        assert [len(batch.requests) for batch in server.batches] == [12, 12, 6]
        monkeypatch.setattr(api, "most_bytes", 1000)
        assert ask_batches(server, tmp_path / "l.sqlite", 50, protocol=protocol).answered == 20
        assert 3 <= max(len(batch.requests) for batch in server.batches[3:]) < 12
        assert max(server.asked.values()) == 1


def test_the_kinds_of_one_api_go_into_batches_of_their_own(tmp_path):
    with serving_batches() as server:
        chat = CompletionRequest(messages=(Message("user", "hi"),), max_tokens=30)
        more = [dataclasses.replace(numbered_requests(1)[0], request=chat)]
        assert ask_batches(server, tmp_path / "l.sqlite", 5, more=more).answered == 6
        urls = [{each["url"] for each in batch.requests} for batch in server.batches]
        assert urls == [{"/v1/completions"}, {"/v1/chat/completions"}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_fails_inside_of_a_batch_has_a_name_and_may_be_asked_again(tmp_path, protocol):
    kinds = {0: "expired", 1: "cancelled", 2: "500", 3: "400", 4: "missing", 5: "broken line", 6: "twice"}
    with serving_batches(lambda prompt: kinds.get(int(prompt), "answer")) as server:
        asked = ask_batches(server, tmp_path / "l.sqlite", 20, protocol=protocol)
        assert asked.reasons == {"expired": 1, "cancelled": 1, "server error": 1, "refused": 1, "no result": 2}
        assert (asked.answered, asked.failed, asked.refused) == (14, 5, 1)
        summary = check_books(tmp_path / "l.sqlite", server, 20)
        assert summary.lost_attempts == 2  # what has no result may have been billed
        kinds.clear()
        again = ask_batches(server, tmp_path / "l.sqlite", 20, protocol=protocol)
        assert (again.known, again.answered) == (15, 5)
        assert server.asked["3"] == 1


def test_a_batch_that_expires_keeps_what_it_has(tmp_path):
    with serving_batches(lambda prompt: "answer" if int(prompt) < 8 else "missing") as server:
        server.ending = "expired"
        asked = ask_batches(server, tmp_path / "l.sqlite", 20)
        assert (asked.answered, asked.reasons) == (8, {"expired": 12})
        server.ending, server.outcome = "completed", lambda prompt: "answer"
        assert ask_batches(server, tmp_path / "l.sqlite", 20).answered == 12


def test_the_budget_is_reserved_before_a_batch_is_sent_and_freed_room_is_used(tmp_path):
    dollars = 10.5 * WORST
    with serving_batches() as server:
        asked = ask_batches(server, tmp_path / "l.sqlite", 400, dollars)
        assert len(server.batches[0].requests) == 10
        assert asked.answered > 10
        assert asked.unasked == 400 - asked.answered > 0
        assert asked.stopped.startswith("stopped at the budget of $")
        check_books(tmp_path / "l.sqlite", server, 400, dollars)
        assert ask_batches(server, tmp_path / "l.sqlite", 400).answered == 400 - asked.answered


@pytest.mark.parametrize(("protocol", "stop"), [(name, stop) for name in PROTOCOLS for stop in STOPS[name]])
def test_a_kill_at_any_moment_loses_no_batch_and_submits_none_twice(tmp_path, protocol, stop):
    settings = QUICK | {"count": 25, "dollars": 100.0, "protocol": protocol}
    with serving_batches(lambda prompt: "500" if prompt == "7" else "answer") as server:
        server.stop_at = stop
        process = start_client(server.url, tmp_path / "l.sqlite", **settings)
        assert server.reached.wait(30)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.drop = stop == "before create"  # the request broke off before the server had it
        server.going_on.set()
        time.sleep(0.05)
        server.stop_at, server.drop = "", False
        said = run_client(server.url, tmp_path / "l.sqlite", **settings)
        assert (said["answered"], said["failed"]) == (24, 1)
        assert server.asked == {str(n): 1 for n in range(25)}
        check_books(tmp_path / "l.sqlite", server, 25)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_that_appears_late_is_not_submitted_again(tmp_path, protocol):
    settings = QUICK | {"count": 25, "dollars": 100.0, "protocol": protocol, "settle_seconds": 4.0}
    with serving_batches() as server:
        server.stop_at = "before create"
        process = start_client(server.url, tmp_path / "l.sqlite", **settings)
        assert server.reached.wait(30)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.stop_at = ""
        other = start_client(server.url, tmp_path / "l.sqlite", **settings)
        time.sleep(1.0)
        assert not server.batches
        server.going_on.set()  # the server takes its time, and then has the batch of a dead client
        other.communicate()
        assert other.returncode == 0
        assert len(server.batches) == 1
        assert check_books(tmp_path / "l.sqlite", server, 25).settled == 25


@pytest.mark.parametrize("fault", ["500", "504", "429"])
def test_a_lost_answer_to_a_submission_is_looked_for(tmp_path, fault):
    with serving_batches() as server:
        server.faults.extend(["503", fault])  # of the upload, and of it or of the batch
        asked = ask_batches(server, tmp_path / "l.sqlite", 10, max_busy=5)
        assert asked.answered == 10
        assert max(server.asked.values()) == 1


def test_a_full_queue_at_the_teacher_makes_batches_smaller(tmp_path):
    with serving_batches() as server:
        server.most_queued = 6
        assert ask_batches(server, tmp_path / "l.sqlite", 20).answered == 20
        taken = [len(batch.requests) for batch in server.batches if not batch.refused]
        assert sum(taken) == 20
        assert max(taken) <= 6
        assert len(server.batches) < 20  # not by ever smaller ones


def test_a_teacher_that_takes_no_batches_is_named_and_nothing_is_booked(tmp_path):
    with serving_batches() as server:
        server.faults.append("404")
        with pytest.raises(UserError, match=r"takes no batch: .*404.*without config\.teacher\.batch"):
            ask_batches(server, tmp_path / "l.sqlite", 5)
        server.refusals.append({"code": "model_not_found", "message": "this model has no batches"})
        with pytest.raises(UserError, match="refused the batch batch_0: this model has no batches"):
            ask_batches(server, tmp_path / "l.sqlite", 5)
        assert check_books(tmp_path / "l.sqlite", server, 5).dollars == 0


def test_time_that_is_over_leaves_batches_to_the_next_run_whatever_it_wants(tmp_path):
    with serving_batches(looks=100) as server:
        asked = ask_batches(server, tmp_path / "l.sqlite", 10, total_seconds=0.2)
        assert asked.stopped == (
            "stopped after 0.2 s: 10 requests are in batches under way; the same command fetches them"
        )
        with pytest.raises(UserError, match="batches under way: run that shard again"):
            merge_ledgers(tmp_path / "whole.sqlite", [tmp_path / "l.sqlite"])
        server.batches[0].looks = 1
        # Another config: fewer requests, and one by one. What is paid is fetched all the same, at the price it had.
        other = ask_batches(
            server, tmp_path / "l.sqlite", 4, batch=False, price=dataclasses.replace(PRICE, input_per_million=9e9)
        )
        assert (other.answered, other.known) == (4, 0)
        assert server.asked == {str(n): 1 for n in range(10)}
        assert check_books(tmp_path / "l.sqlite", server, 10).settled == 10


def test_a_teacher_that_is_away_while_a_batch_runs_is_waited_for(tmp_path):
    with serving_batches(looks=3) as server:
        seen = []

        def away(asked):
            if not seen:
                server.faults.extend(["503"] * 5 + ["504"] * 5)
            seen.append(asked.batched_done)

        assert ask_batches(server, tmp_path / "l.sqlite", 10, progress=away).answered == 10
        assert not server.faults


def test_a_batch_that_is_gone_counts_as_spent_once_nobody_can_fetch_it(tmp_path):
    with serving_batches(looks=100) as server:
        ask_batches(server, tmp_path / "l.sqlite", 5, total_seconds=0.1)
        server.batches[0].id = "another"
        with pytest.raises(UserError, match=r"knows no batch batch_0 .*use the key"):
            ask_batches(server, tmp_path / "l.sqlite", 5)
        with Ledger(tmp_path / "l.sqlite", model="test-model") as ledger:
            ledger.execute("UPDATE batches SET submitted_at = submitted_at - 30 * 86400")
        asked = ask_batches(server, tmp_path / "l.sqlite", 5)
        assert asked.reasons == {"no result": 5}
        assert check_books(tmp_path / "l.sqlite", server, 5).lost_attempts == 5
