"""The book of what was asked, answered and spent: one SQLite file, safe against kills at any moment."""

import contextlib
import fcntl
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demiurgic_jax.data.completer import Completion, CompletionRequest, TokenLogprob
from demiurgic_jax.distillation.ledger_schema import explained, open_rows
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.pricing import NANODOLLARS
from demiurgic_jax.distillation.request import request_key
from demiurgic_jax.errors import UserError


class BudgetSpentError(Exception):
    """The next attempt could take the sum over the budget; it was not reserved."""


@dataclass(frozen=True)
class Spend:
    """Nanodollars, and tokens of questions and answers together."""

    nanodollars: int
    tokens: int

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(self.nanodollars + other.nanodollars, self.tokens + other.tokens)

    def __sub__(self, other: "Spend") -> "Spend":
        return Spend(self.nanodollars - other.nanodollars, self.tokens - other.tokens)


NOTHING = Spend(0, 0)


@dataclass(frozen=True)
class Budget:
    """The most that all rows together may cost; None for no limit."""

    nanodollars: int | None = None
    tokens: int | None = None

    def allows(self, spend: Spend) -> bool:
        dollars_fit = self.nanodollars is None or spend.nanodollars <= self.nanodollars
        return dollars_fit and (self.tokens is None or spend.tokens <= self.tokens)

    def __str__(self) -> str:
        parts = [f"${self.nanodollars / NANODOLLARS:.4f}"] if self.nanodollars is not None else []
        return " and ".join(parts + ([f"{self.tokens:,} tokens"] if self.tokens is not None else []))


@dataclass(frozen=True)
class Entry:
    """Under which heads a request is booked."""

    task: str
    language: str
    teacher: str
    model: str


@dataclass(frozen=True)
class Answer:
    """A settled answer, whose it is, and its price in dollars, lost attempts included."""

    completion: Completion
    model: str
    cost: float


@dataclass(frozen=True)
class Verdict:
    """What verification made of an answer: why it was rejected (a few words that can be counted, and more for eyes),
    and the seconds of computing that it took."""

    kept: bool
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Summary:
    """Numbers of requests by state, their tokens, and dollars spent (`reserved` of them not yet settled)."""

    settled: int
    failed: int
    refused: int
    in_flight: int
    attempts: int
    lost_attempts: int
    doubted: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float
    reserved_dollars: float


class Ledger:
    """A ledger file for one teacher model, or for the panel of several. A context manager; opening makes the file.

    Every change is on disk when its method returns, or, inside of `transaction`, when that ends. Raises UserError for
    a file that is no ledger, or one of another version, and where the disk is full.
    """

    def __init__(self, path: str | Path, *, model: str | Panel[Any]):
        self.path = Path(path)
        self._key: Callable[[CompletionRequest], str] = (
            model.key if isinstance(model, Panel) else lambda request: request_key(model, request)
        )
        self._rows = open_rows(self.path)
        # The sum over all rows, and what of it is reserved for requests of this process; read when first needed.
        self._booked: Spend | None = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; nothing is pending."""
        self._rows.close()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Held by the one process that may ask through this ledger; it falls with that process.

        Inside, rows in state `sent` are known to be leftovers of a killed run: they stay booked. What that run had
        reserved and not yet sent is freed. Raises UserError where another process holds it.
        """
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is asking the teacher through {self.path}: wait for it, or stop it first"
                ) from None
            with self.transaction():
                self._booked = None
                self._rows.execute(
                    "UPDATE requests SET state = 'failed', reserved = 0, reserved_tokens = 0, reason = 'not sent', "
                    "error = 'the run was killed before this was sent' WHERE state = 'reserved'"
                )
            yield

    def key(self, request: CompletionRequest) -> str:
        """The row that belongs to `request`."""
        return self._key(request)

    def pending(self, requests: Iterable[CompletionRequest]) -> dict[str, CompletionRequest]:
        """Those that have neither an answer nor a refusal, by key, in order, equal ones once."""
        with explained(self.path):
            done = {
                key for (key,) in self._rows.execute("SELECT key FROM requests WHERE state IN ('settled', 'refused')")
            }
        wanted = {self.key(request): request for request in requests}
        return {key: request for key, request in wanted.items() if key not in done}

    @property
    def booked(self) -> Spend:
        """The sum over all rows of what is reserved, lost and paid."""
        if self._booked is None:
            with explained(self.path):
                self._booked = Spend(
                    *self._rows.execute(
                        "SELECT coalesce(sum(reserved + lost + cost), 0), coalesce(sum(reserved_tokens + lost_tokens + "
                        "prompt_tokens + completion_tokens), 0) FROM requests"
                    ).fetchone()
                )
        return self._booked

    def reserve(self, key: str, entry: Entry, worst: Spend, budget: Budget, *, sent: bool = False) -> None:
        """Books the worst case of one attempt, to be called before anything is sent; with `sent`, as sent at once.

        An earlier attempt that is booked as sent counts as lost. Raises BudgetSpentError, having booked nothing, if
        the sum would pass the budget.
        """
        with self.transaction():
            state, reserved = self._reservation(key)
            if state in ("settled", "refused"):
                raise RuntimeError(f"request {key} is {state}: it must not be asked again")
            freed = reserved if state == "reserved" else NOTHING
            after = self.booked - freed + worst
            if not budget.allows(after):
                raise BudgetSpentError(f"${self.booked.nanodollars / NANODOLLARS:.4f} are spent or reserved")
            self._rows.execute(
                "INSERT INTO requests (key, task, language, teacher, model, state, reserved, reserved_tokens) "
                "VALUES (?, ?, ?, ?, ?, 'reserved', ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "lost = lost + reserved * (state = 'sent'), lost_tokens = lost_tokens + reserved_tokens * (state = "
                "'sent'), lost_attempts = lost_attempts + (state = 'sent'), reserved = excluded.reserved, "
                "reserved_tokens = excluded.reserved_tokens, state = 'reserved', reason = NULL, error = NULL",
                (key, entry.task, entry.language, entry.teacher, entry.model, worst.nanodollars, worst.tokens),
            )
            self._booked = after
            if sent:
                self.sent(key)

    def sent(self, key: str) -> None:
        """From here on the attempt may be billed. To be called before anything is sent."""
        self._change(
            "UPDATE requests SET state = 'sent', attempts = attempts + 1, sent_at = ? "
            "WHERE key = ? AND state = 'reserved'",
            (time.time(), key),
        )

    def unsent(self, key: str) -> None:
        """The teacher did not take the request, and bills nothing: it is reserved as before."""
        self._change("UPDATE requests SET state = 'reserved' WHERE key = ? AND state = 'sent'", (key,))

    def settle(self, key: str, completion: Completion, cost: int, *, doubted: bool = False) -> None:
        """Stores the answer and what it cost (nanodollars) in place of the reservation. `doubted` says that the
        teacher's own figures could not be believed."""
        stored = {
            name: value for name, value in asdict(completion).items() if name != "raw" and not name.endswith("_tokens")
        }
        with self.transaction():
            before, (_, reserved) = self.booked, self._reservation(key)
            self._change(
                "UPDATE requests SET state = 'settled', answer = ?, prompt_tokens = ?, completion_tokens = ?, "
                "cost = ?, reserved = 0, reserved_tokens = 0, reason = NULL, error = NULL, doubted = ?, "
                "settled_at = ? WHERE key = ? AND state = 'sent'",
                (
                    json.dumps(stored, sort_keys=True),
                    completion.prompt_tokens,
                    completion.completion_tokens,
                    cost,
                    int(doubted),
                    time.time(),
                    key,
                ),
            )
            paid = Spend(cost, completion.prompt_tokens + completion.completion_tokens)
            self._booked = before - reserved + paid

    def fail(self, key: str, reason: str, error: str, *, billed: bool = False, for_good: bool = False) -> None:
        """Ends an attempt without an answer. Its reservation is freed, or counted as spent if it may be `billed`.
        What failed `for_good` is never asked again."""
        with self.transaction():
            before, (_, reserved) = self.booked, self._reservation(key)
            self._change(
                "UPDATE requests SET state = ?, lost = lost + ? * reserved, lost_tokens = lost_tokens + ? * "
                "reserved_tokens, lost_attempts = lost_attempts + ?, reserved = 0, reserved_tokens = 0, reason = ?, "
                "error = ? WHERE key = ? AND state IN ('reserved', 'sent')",
                ("refused" if for_good else "failed", *[int(billed)] * 3, reason, error, key),
            )
            self._booked = before - (NOTHING if billed else reserved)

    def answer(self, request: CompletionRequest) -> Answer | None:
        """The settled answer to `request`, if there is one."""
        with explained(self.path):
            row = self._rows.execute(
                "SELECT answer, prompt_tokens, completion_tokens, model, lost + cost FROM requests "
                "WHERE key = ? AND state = 'settled'",
                (self.key(request),),
            ).fetchone()
        if row is None:
            return None
        stored, prompt_tokens, completion_tokens, model, spent = row
        return Answer(_completion(json.loads(stored), prompt_tokens, completion_tokens), model, spent / NANODOLLARS)

    def error(self, request: CompletionRequest) -> str | None:
        """Why `request` has no answer, where asking it failed."""
        with explained(self.path):
            row = self._rows.execute("SELECT error FROM requests WHERE key = ?", (self.key(request),)).fetchone()
        return row[0] if row else None

    def record_plan(self, wanted: Mapping[tuple[str, str, str], int]) -> None:
        """Notes how many requests of each (task, language, model) a run wants, in place of what was noted for these
        tasks."""
        with self.transaction():
            tasks = {(task,) for task, _, _ in wanted}
            self._rows.executemany("DELETE FROM plan WHERE task = ?", tasks)
            self._rows.executemany(
                "INSERT INTO plan VALUES (?, ?, ?, ?)", [(*head, count) for head, count in wanted.items()]
            )

    def record_verdicts(self, verdicts: Mapping[str, Verdict]) -> None:
        """Stores verdicts by the key of the answer, in place of earlier ones."""
        with self.transaction():
            self._rows.executemany(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)",
                [(key, int(each.kept), each.reason, each.detail, each.seconds) for key, each in verdicts.items()],
            )

    def verdicts(self) -> dict[str, Verdict]:
        """Every stored verdict, by the key of its answer."""
        with explained(self.path):
            return {
                key: Verdict(bool(kept), reason, detail, seconds)
                for key, kept, reason, detail, seconds in self._rows.execute(
                    "SELECT key, kept, reason, detail, seconds FROM verdicts"
                )
            }

    def summary(self) -> Summary:
        """Totals over all rows."""
        with explained(self.path):
            states = dict(self._rows.execute("SELECT state, count(*) FROM requests GROUP BY state"))
            totals = self._rows.execute(
                "SELECT coalesce(sum(attempts), 0), coalesce(sum(lost_attempts), 0), coalesce(sum(doubted), 0), "
                "coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
                "coalesce(sum(reserved + lost + cost), 0), coalesce(sum(reserved), 0) FROM requests"
            ).fetchone()
        attempts, lost_attempts, doubted, prompt_tokens, completion_tokens, spent, reserved = totals
        return Summary(
            settled=states.get("settled", 0),
            failed=states.get("failed", 0),
            refused=states.get("refused", 0),
            in_flight=states.get("sent", 0) + states.get("reserved", 0),
            attempts=attempts,
            lost_attempts=lost_attempts,
            doubted=doubted,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            dollars=spent / NANODOLLARS,
            reserved_dollars=reserved / NANODOLLARS,
        )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Changes inside are on disk together when it ends, or none of them is. One inside of another is part of it."""
        if self._rows.in_transaction:
            yield
            return
        self.begin()
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def begin(self) -> None:
        """Opens a transaction that `commit` or `rollback` ends."""
        with explained(self.path):
            self._rows.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Returns when the changes are on disk. May run in another thread, while nobody uses the ledger."""
        with explained(self.path):
            self._rows.execute("COMMIT")

    def rollback(self) -> None:
        """Undoes the changes since `begin`."""
        self._booked = None
        if self._rows.in_transaction:  # a full disk rolls back by itself
            self._rows.execute("ROLLBACK")

    def execute(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """A statement of a module that keeps its own table here."""
        with explained(self.path):
            return self._rows.execute(statement, tuple(values))

    def _reservation(self, key: str) -> tuple[str | None, Spend]:
        with explained(self.path):
            row = self._rows.execute(
                "SELECT state, reserved, reserved_tokens FROM requests WHERE key = ?", (key,)
            ).fetchone()
        return (row[0], Spend(row[1], row[2])) if row else (None, NOTHING)

    def _change(self, statement: str, values: tuple[Any, ...]) -> None:
        with explained(self.path):
            changed = self._rows.execute(statement, values).rowcount
        if changed != 1:
            raise RuntimeError(f"request {values[-1]} is not in the state from which this is allowed: {statement}")


def _completion(stored: dict[str, Any], prompt_tokens: int, completion_tokens: int) -> Completion:
    logprobs = stored.pop("logprobs")
    if logprobs is not None:
        logprobs = tuple(
            TokenLogprob(entry["token"], entry["logprob"], tuple((token, value) for token, value in entry["top"]))
            for entry in logprobs
        )
    return Completion(**stored, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, logprobs=logprobs)
