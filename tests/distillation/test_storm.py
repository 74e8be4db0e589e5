"""Nothing is lost, paid twice or overspent: against a server with every fault, and through kills."""

import random
import signal
import sqlite3
import time

import pytest
from asking_process import PRICE, numbered_requests
from storm import counts, run_client, start_client, storm_server

from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.pricing import NANODOLLARS

NAMED = {
    *("rate limited", "server error", "connection broke", "too slow", "broken JSON", "web page", "another format"),
    *("unreachable", "refused", "out of time"),
}


def settled(path, count):
    """Prompt to the text of its stored answer."""
    with Ledger(path, model="test-model") as ledger:
        answers = {each.request.prompt: ledger.answer(each.request) for each in numbered_requests(count)}
    return {prompt: answer.completion.text for prompt, answer in answers.items() if answer is not None}


def check_books(path, url, count, dollars):
    """What must hold after every run, whatever has happened."""
    seen, answers = counts(url), settled(path, count)
    assert seen["billed"] <= dollars * NANODOLLARS  # it only grows: it never was more
    for prompt, text in answers.items():
        assert text.startswith(f"answer to {prompt}: ")  # each has its own, also where answers came twice
    with Ledger(path, model="test-model") as ledger:
        assert seen["billed"] <= ledger.booked.nanodollars <= dollars * NANODOLLARS
        summary = ledger.summary()
    with sqlite3.connect(path) as rows:
        reasons = {reason for (reason,) in rows.execute("SELECT reason FROM requests WHERE state = 'failed'")}
    assert reasons <= NAMED | {"not sent"}
    return seen, answers, summary


def weather(path, count, concurrency, dollars, timeout, **server):
    with storm_server(fault_rate=0.2, stall_seconds=3 * timeout, **server) as url:
        said = run_client(url, path, count=count, concurrency=concurrency, dollars=dollars, timeout=timeout)
        seen, answers, summary = check_books(path, url, count, dollars)
        assert said["answered"] + said["failed"] == count == summary.settled + summary.failed
        assert summary.in_flight == 0
        assert len(answers) == said["answered"] > 0.9 * count
        assert sum(said["reasons"].values()) == said["failed"]
        assert set(seen["faults"]) == set(storm_faults())
        again = run_client(url, path, count=count, concurrency=concurrency, dollars=dollars, timeout=timeout)
        assert again["known"] == len(answers)
        after = counts(url)
        for prompt in answers:
            assert after["asked"][prompt] == seen["asked"][prompt]
    return said, seen


def storm_faults():
    from storm_server import FAULTS

    return FAULTS


def test_a_storm_loses_nothing_and_costs_no_more_than_the_cap(tmp_path):
    weather(tmp_path / "l.sqlite", 500, 100, 0.6, timeout=2.0, latency=0.02)


def test_a_tight_cap_holds_in_a_storm(tmp_path):
    cap = 0.03
    with storm_server(fault_rate=0.2, stall_seconds=6, latency=0.02) as url:
        said = run_client(url, tmp_path / "l.sqlite", count=500, concurrency=100, dollars=cap, timeout=2.0)
        check_books(tmp_path / "l.sqlite", url, 500, cap)
        assert said["stopped"].startswith("stopped at the budget of $0.0300")
        assert said["unasked"] > 0


@pytest.mark.full_size
def test_ten_thousand_requests_a_thousand_at_once_through_a_storm(tmp_path):
    said, seen = weather(tmp_path / "l.sqlite", 10_000, 1_000, 12.0, timeout=20.0, latency=0.3)
    assert seen["most_at_once"] > 500
    assert said["cpu"] / said["attempts"] < 0.001
    print(said, {name: value for name, value in seen.items() if name not in ("asked", "answered")})


def kill_and_go_on(path, count, concurrency, kills, dollars, moments, **server):
    rng, lost_at_kills = random.Random(4), 0
    settings = {"count": count, "concurrency": concurrency, "dollars": dollars, "timeout": 10.0}
    with storm_server(fault_rate=0.1, stall_seconds=30, **server) as url:
        stored: dict[str, str] = {}
        for _ in range(kills):
            before = counts(url)
            process = start_client(url, path, **settings)
            while counts(url)["requests"] == before["requests"] and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(*moments))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            seen, answers, summary = check_books(path, url, count, dollars)
            assert stored.items() <= answers.items()  # no stored answer is lost
            assert all(seen["asked"][prompt] == before["asked"][prompt] for prompt in stored)  # or asked again
            assert summary.in_flight <= concurrency
            lost_at_kills += summary.in_flight
            stored = answers
        said = run_client(url, path, **settings)
        _, answers, summary = check_books(path, url, count, dollars)
        assert said["answered"] + said["known"] + said["failed"] == count
        assert summary.lost_attempts <= lost_at_kills + sum(said["hiccups"].values()) + seen["requests"]
    return lost_at_kills, summary


def test_kills_lose_no_answer_and_never_pass_the_cap(tmp_path):
    worst = PRICE.worst_case(numbered_requests(400)[-1].request) / NANODOLLARS
    kill_and_go_on(tmp_path / "l.sqlite", 400, 30, 4, 700 * worst, (0.0, 0.4), latency=0.03)


@pytest.mark.full_size
def test_twenty_kills_at_a_thousand_at_once(tmp_path):
    worst = PRICE.worst_case(numbered_requests(10_000)[-1].request) / NANODOLLARS
    lost, summary = kill_and_go_on(tmp_path / "l.sqlite", 10_000, 1_000, 20, 35_000 * worst, (0.0, 3.0), latency=0.1)
    print(lost, summary)


@pytest.mark.full_size
@pytest.mark.parametrize("server", [{"retry_after": True}, {}, {"stated": True}], ids=["retry-after", "bare", "stated"])
def test_what_the_server_allows_is_used(tmp_path, server):
    per_second, burst, count = 50, 5, 1500
    with storm_server(per_minute=60 * per_second, burst_seconds=burst, latency=0.02, **server) as url:
        said = run_client(url, tmp_path / "l.sqlite", count=count, concurrency=200, dollars=None, timeout=10.0)
        seen = counts(url)
    assert said["answered"] == count
    with sqlite3.connect(tmp_path / "l.sqlite") as rows:
        first, last = rows.execute("SELECT min(sent_at), max(settled_at) FROM requests").fetchone()
    used = count / (per_second * (burst + last - first))
    print(server, f"{used:.1%} of the limit used, {seen['limited'] / seen['requests']:.1%} of the requests were 429")
    assert used > 0.95


@pytest.mark.full_size
def test_memory_is_that_of_the_requests_however_many_answers_come(tmp_path):
    grown = {}
    for count in (10_000, 40_000):
        with storm_server(latency=0.05) as url:
            said = run_client(
                url, tmp_path / f"{count}.sqlite", count=count, concurrency=200, dollars=None, timeout=60.0
            )
        assert said["answered"] == count
        grown[count] = said["peak_kb"] - said["before_kb"]
        print(f"{count:,} requests: peak {said['peak_kb']:,} kB, {grown[count]:,} kB more than before asking")
    assert grown[10_000] > 1_000  # it was measured
    assert grown[40_000] - grown[10_000] < 30_000 * 0.3  # kB: a key and its places in two tables
