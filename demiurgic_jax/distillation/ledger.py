"""The book of what was asked, answered and spent: one SQLite file, safe against kills at any moment."""

import contextlib
import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demiurgic_jax.data.completer import Completion, CompletionRequest, TokenLogprob
from demiurgic_jax.distillation.pricing import NANODOLLARS
from demiurgic_jax.distillation.request import request_key
from demiurgic_jax.errors import UserError

_SCHEMA_VERSION = 1
# `reserved` is what the attempt under way can cost at most; `lost`, what attempts without a known end can have cost;
# `cost`, what the answer did cost. Their sum over all rows never passes the budget. All in nanodollars.
_SCHEMA = """
CREATE TABLE requests (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'settled', 'failed', 'refused')),
    answer TEXT,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    reserved INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT
) WITHOUT ROWID
"""


class BudgetSpentError(Exception):
    """The next attempt could take the sum over the budget; it was not reserved."""


@dataclass(frozen=True)
class Answer:
    """A settled answer and its price in dollars, lost attempts included."""

    completion: Completion
    cost: float


@dataclass(frozen=True)
class Summary:
    """Numbers of requests by state, their tokens, and dollars spent (`reserved` of them not yet settled)."""

    settled: int
    failed: int
    refused: int
    in_flight: int
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float
    reserved_dollars: float


class Ledger:
    """A ledger file for one teacher model. Every change is on disk when its method returns.

    A context manager. Opening makes the file. Raises UserError for a file that is no ledger, or one of another
    version, and where the disk is full.
    """

    def __init__(self, path: str | Path, *, model: str):
        self.path, self.model = Path(path), model
        with self._explained():
            self._rows = sqlite3.connect(self.path, isolation_level=None, timeout=60.0)
            self._rows.execute("PRAGMA journal_mode=WAL")
            self._rows.execute("PRAGMA synchronous=FULL")
            with self._transaction():
                version = self._rows.execute("PRAGMA user_version").fetchone()[0]
                empty = self._rows.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
                if version == 0 and empty:
                    self._rows.execute(_SCHEMA)
                    self._rows.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
                elif version != _SCHEMA_VERSION:
                    raise UserError(
                        f"ledger {self.path} has version {version}, this program writes version {_SCHEMA_VERSION}: "
                        "use the program that wrote it, or another workdir"
                    )

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

        Inside, rows in state `reserved` are known to be leftovers of a killed run. Raises UserError where another
        process holds it.
        """
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is asking the teacher through ledger {self.path}: wait for it or stop it"
                ) from None
            yield

    def key(self, request: CompletionRequest) -> str:
        """The row that belongs to `request`."""
        return request_key(self.model, request)

    def pending(self, requests: Iterable[CompletionRequest]) -> dict[str, CompletionRequest]:
        """Those that have neither an answer nor a refusal, by key, in order, equal ones once."""
        with self._explained():
            rows = self._rows.execute("SELECT key FROM requests WHERE state IN ('settled', 'refused')")
            done = {key for (key,) in rows}
        wanted = {self.key(request): request for request in requests}
        return {key: request for key, request in wanted.items() if key not in done}

    def reserve(self, key: str, worst_case: int, budget: int | None) -> None:
        """Books the worst case (nanodollars) of one attempt, to be called before anything is sent.

        An earlier attempt still booked for this key counts as lost. Raises BudgetSpentError, having booked nothing,
        if the sum would pass `budget` (nanodollars, None for none).
        """
        with self._explained(), self._transaction():
            spent = self._rows.execute("SELECT coalesce(sum(reserved + lost + cost), 0) FROM requests").fetchone()[0]
            if budget is not None and spent + worst_case > budget:
                raise BudgetSpentError(f"${spent / NANODOLLARS:.4f} are spent or reserved")
            self._rows.execute(
                "INSERT INTO requests (key, model, state, reserved, attempts) VALUES (?, ?, 'reserved', ?, 1) "
                "ON CONFLICT (key) DO UPDATE SET state = 'reserved', lost = lost + reserved, "
                "reserved = excluded.reserved, attempts = attempts + 1, error = NULL",
                (key, self.model, worst_case),
            )

    def settle(self, key: str, completion: Completion, cost: int) -> None:
        """Stores the answer and what it cost (nanodollars) in place of the reservation."""
        stored = {
            name: value for name, value in asdict(completion).items() if name != "raw" and not name.endswith("_tokens")
        }
        with self._explained(), self._transaction():
            self._rows.execute(
                "UPDATE requests SET state = 'settled', answer = ?, prompt_tokens = ?, completion_tokens = ?, "
                "cost = ?, reserved = 0, error = NULL WHERE key = ?",
                (
                    json.dumps(stored, sort_keys=True),
                    completion.prompt_tokens,
                    completion.completion_tokens,
                    cost,
                    key,
                ),
            )

    def fail(self, key: str, error: str, *, billed: bool = False, for_good: bool = False) -> None:
        """Ends an attempt without an answer. Its reservation is freed, or counted as spent if it may be `billed`.
        What failed `for_good` is never asked again."""
        with self._explained(), self._transaction():
            self._rows.execute(
                "UPDATE requests SET state = ?, lost = lost + ? * reserved, reserved = 0, error = ? WHERE key = ?",
                ("refused" if for_good else "failed", int(billed), error, key),
            )

    def answer(self, request: CompletionRequest) -> Answer | None:
        """The settled answer to `request`, if there is one."""
        with self._explained():
            row = self._rows.execute(
                "SELECT answer, prompt_tokens, completion_tokens, lost + cost FROM requests "
                "WHERE key = ? AND state = 'settled'",
                (self.key(request),),
            ).fetchone()
        if row is None:
            return None
        stored, prompt_tokens, completion_tokens, spent = row
        return Answer(_completion(json.loads(stored), prompt_tokens, completion_tokens), spent / NANODOLLARS)

    def error(self, request: CompletionRequest) -> str | None:
        """Why `request` has no answer, where asking it failed."""
        with self._explained():
            row = self._rows.execute("SELECT error FROM requests WHERE key = ?", (self.key(request),)).fetchone()
        return row[0] if row else None

    def summary(self) -> Summary:
        """Totals over all rows."""
        with self._explained():
            states = dict(self._rows.execute("SELECT state, count(*) FROM requests GROUP BY state"))
            totals = self._rows.execute(
                "SELECT coalesce(sum(attempts), 0), coalesce(sum(prompt_tokens), 0), "
                "coalesce(sum(completion_tokens), 0), coalesce(sum(reserved + lost + cost), 0), "
                "coalesce(sum(reserved), 0) FROM requests"
            ).fetchone()
        attempts, prompt_tokens, completion_tokens, spent, reserved = totals
        return Summary(
            settled=states.get("settled", 0),
            failed=states.get("failed", 0),
            refused=states.get("refused", 0),
            in_flight=states.get("reserved", 0),
            attempts=attempts,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            dollars=spent / NANODOLLARS,
            reserved_dollars=reserved / NANODOLLARS,
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._rows.in_transaction:  # a full disk rolls back by itself
                self._rows.execute("ROLLBACK")
            raise
        self._rows.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Says of the user's own troubles (full disk, not a ledger) what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "disk is full" in str(error):
                raise UserError(
                    f"the disk of {self.path.parent} is full: free some space and run again, no answer is lost"
                ) from error
            if "unable to open" in str(error):
                raise UserError(f"ledger {self.path} cannot be opened: check that its folder is writable") from error
            raise
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error) or "malformed" in str(error):
                raise UserError(f"{self.path} is not a ledger, or damaged ({error}): move it away") from error
            raise


def _completion(stored: dict[str, Any], prompt_tokens: int, completion_tokens: int) -> Completion:
    logprobs = stored.pop("logprobs")
    if logprobs is not None:
        logprobs = tuple(
            TokenLogprob(entry["token"], entry["logprob"], tuple((token, value) for token, value in entry["top"]))
            for entry in logprobs
        )
    return Completion(**stored, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, logprobs=logprobs)
