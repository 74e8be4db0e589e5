"""Ledgers of several shards made one, with the proof that nothing was paid twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.ledger_schema import open_rows
from demiurgic_jax.errors import UserError

_SPENT = ("lost", "lost_tokens", "attempts", "lost_attempts")
_ANSWER = (
    "answer",
    "prompt_tokens",
    "completion_tokens",
    "cost",
    "doubted",
    "sent_at",
    "settled_at",
    "reason",
    "error",
)


@dataclass(frozen=True)
class Merged:
    """`requests` came from `ledgers`; `settled` answers and `dollars` are those of the whole."""

    ledgers: int
    requests: int
    settled: int
    dollars: float


def ended_keys(path: Path) -> set[str]:
    """What a ledger has an answer to, or a refusal of."""
    rows = open_rows(path)
    try:
        return {key for (key,) in rows.execute("SELECT key FROM requests WHERE state IN ('settled', 'refused')")}
    finally:
        rows.close()


def merge_ledgers(target: Path, shards: Sequence[Path]) -> Merged:
    """Brings what `shards` hold into `target`, in one transaction; they stay as they are, and a second time changes
    nothing.

    First it proves of every request with an answer that no ledger sent it after that answer had come. Raises UserError
    naming ledgers and request where one did, with nothing merged, and where a ledger is still in use.
    """
    with Ledger(target, model="") as ledger, ledger.asking():
        read = {shard: _read(shard) for shard in shards}
        _prove(ledger, target, read)
        with ledger.transaction():
            for shard, (requests, plan, verdicts) in read.items():
                for row in requests:
                    _bring(ledger, shard.name, row)
                for task, language, model, wanted in plan:
                    # Every shard notes the plan of its own part.
                    ledger.execute(
                        "INSERT OR REPLACE INTO merged_plan VALUES (?, ?, ?, ?, ?)",
                        (shard.name, task, language, model, wanted),
                    )
                for verdict in verdicts:
                    ledger.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)", verdict)
            ledger.execute(
                "INSERT OR REPLACE INTO plan SELECT task, language, model, sum(wanted) FROM merged_plan "
                "GROUP BY task, language, model"
            )
        summary = ledger.summary()
    return Merged(len(shards), sum(len(rows) for rows, _, _ in read.values()), summary.settled, summary.dollars)


def _read(shard: Path) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    with Ledger(shard, model="") as ledger, ledger.asking():
        cursor = ledger.execute("SELECT * FROM requests")
        names = [column[0] for column in cursor.description]
        requests = [dict(zip(names, row, strict=True)) for row in cursor]
        plan, verdicts = ledger.execute("SELECT * FROM plan"), ledger.execute("SELECT * FROM verdicts")
        return requests, plan.fetchall(), verdicts.fetchall()


def _prove(ledger: Ledger, target: Path, read: Mapping[Path, tuple[list[dict[str, Any]], Any, Any]]) -> None:
    from_shards = dict(ledger.execute("SELECT key, shard FROM merged WHERE settled"))
    own = ledger.execute("SELECT key, state, sent_at, settled_at FROM requests WHERE sent_at IS NOT NULL")
    sent = [(target, *row) for row in own if row[0] not in from_shards]
    for shard, (requests, _, _) in read.items():
        sent += [
            (shard, row["key"], row["state"], row["sent_at"], row["settled_at"]) for row in requests if row["sent_at"]
        ]
    answered: dict[str, tuple[Path, float]] = {}
    for path, key, state, _, settled_at in sent:
        if state == "settled":
            if key in answered:
                raise UserError(
                    f"request {key} was paid twice: {answered[key][0]} and {path} both hold an answer to it; nothing "
                    "is merged, move one of them away"
                )
            answered[key] = (path, settled_at)
    for path, key, _, sent_at, _ in sent:
        where, settled_at = answered.get(key, (path, 0.0))
        if where != path and sent_at > settled_at:
            raise UserError(
                f"request {key} was asked again: {path} sent it after {where} had its answer; nothing is merged"
            )


def _bring(ledger: Ledger, shard: str, row: Mapping[str, Any]) -> None:
    """Adds what is new of one row since the last merge."""
    # What a killed shard left in flight may have been billed.
    open_end = row["state"] == "sent"
    spent = {name: row[name] for name in _SPENT}
    if open_end:
        spent["lost"] += row["reserved"]
        spent["lost_tokens"] += row["reserved_tokens"]
        spent["lost_attempts"] += 1
    settled = row["state"] == "settled"
    old = ledger.execute(
        f"SELECT {', '.join(_SPENT)} FROM merged WHERE shard = ? AND key = ?", (shard, row["key"])
    ).fetchone() or (0,) * len(_SPENT)
    state = "failed" if row["state"] in ("sent", "reserved") else row["state"]
    ledger.execute(
        "INSERT INTO requests (key, task, language, teacher, model, state, reason) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (*(row[name] for name in ("key", "task", "language", "teacher", "model")), state, row["reason"] or "not sent"),
    )
    added = ", ".join(f"{name} = {name} + ?" for name in _SPENT)
    ledger.execute(
        f"UPDATE requests SET {added} WHERE key = ?",
        (*(spent[name] - before for name, before in zip(_SPENT, old, strict=True)), row["key"]),
    )
    if settled or row["state"] == "refused":
        values = ", ".join(f"{name} = ?" for name in _ANSWER)
        ledger.execute(
            f"UPDATE requests SET state = ?, {values} WHERE key = ?",
            (row["state"], *(row[name] for name in _ANSWER), row["key"]),
        )
    ledger.execute(
        "INSERT OR REPLACE INTO merged VALUES (?, ?, ?, ?, ?, ?, ?)",
        (shard, row["key"], int(settled), *(spent[name] for name in _SPENT)),
    )
