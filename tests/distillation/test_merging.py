"""Ledgers of shards become one, once, and only if nothing was paid twice."""

import asyncio
import shutil
import sqlite3

import pytest
from asking_process import PRICE, numbered_requests
from faulty_server import serving

from demiurgic_jax.distillation.asking import ask_all
from demiurgic_jax.distillation.ledger import Budget, Entry, Ledger, Spend
from demiurgic_jax.distillation.merging import merge_ledgers
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.pricing import NANODOLLARS
from demiurgic_jax.distillation.request import in_shard
from demiurgic_jax.distillation.spending import spending
from demiurgic_jax.distillation.teacher import HttpTeacher
from demiurgic_jax.errors import UserError


@pytest.fixture
def shards(tmp_path):
    """Three ledgers that asked a third of thirty requests each."""

    async def ask(url, path, part):
        async with HttpTeacher(url, "test-model", price=PRICE) as teacher:
            with Ledger(path, model="test-model") as ledger:
                mine = [each for each in numbered_requests(30) if in_shard(ledger.key(each.request), part, 3)]
                return await ask_all(Panel([teacher]), ledger, mine)

    paths = [tmp_path / f"shard-{part}.sqlite" for part in range(3)]
    with serving() as server:
        for part, path in enumerate(paths):
            asyncio.run(ask(server.url, path, part))
        assert len(server.bodies) == 30
    return paths


def test_all_answers_and_all_money_come_together_once(shards, tmp_path):
    with Ledger(shards[0], model="test-model") as ledger:  # killed while this was in flight
        ledger.reserve("k" * 64, Entry("fix", "go", "t", "m"), Spend(1000, 5), Budget(), sent=True)
    spent = sum(spending(path)["total"]["dollars"] for path in shards)
    target = tmp_path / "ledger.sqlite"
    for _ in range(2):
        merged = merge_ledgers(target, shards)
        assert (merged.ledgers, merged.requests, merged.settled) == (3, 31, 30)
        assert merged.dollars == pytest.approx(spent)
    figures = spending(target)
    assert (figures["wanted"], figures["left"], figures["total"]["lost_attempts"]) == (30, 0, 1)
    with Ledger(target, model="test-model") as ledger:
        requests = [each.request for each in numbered_requests(30)]
        assert ledger.pending(requests) == {}
        assert all(ledger.answer(request).completion.text == "answer" for request in requests)
        assert round(spent * NANODOLLARS) == ledger.booked.nanodollars


def test_what_was_paid_twice_is_named_and_nothing_merged(shards, tmp_path):
    copy = tmp_path / "shard-9.sqlite"
    shutil.copy(shards[1], copy)
    with pytest.raises(UserError, match=r"was paid twice: .*shard-1\.sqlite and .*shard-9\.sqlite"):
        merge_ledgers(tmp_path / "ledger.sqlite", [*shards, copy])
    with sqlite3.connect(copy) as rows:
        rows.execute("UPDATE requests SET state = 'failed', answer = NULL, settled_at = NULL, sent_at = sent_at + 60")
    with pytest.raises(UserError, match=r"asked again: .*shard-9\.sqlite sent it after .*shard-1\.sqlite"):
        merge_ledgers(tmp_path / "ledger.sqlite", [*shards, copy])
    assert spending(tmp_path / "ledger.sqlite")["total"]["requests"] == 0


def test_a_shard_that_is_still_asked_is_not_merged(shards, tmp_path):
    with Ledger(shards[0], model="m") as ledger, ledger.asking(), pytest.raises(UserError, match="another process"):
        merge_ledgers(tmp_path / "ledger.sqlite", shards)
