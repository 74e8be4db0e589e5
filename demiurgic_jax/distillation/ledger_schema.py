"""The tables of a ledger, their version, and how a file becomes one or is refused."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from demiurgic_jax.errors import UserError

VERSION = 2

# requests: `reserved` is what the attempt under way can cost at most; `lost`, what attempts without a known end can
# have cost; `cost`, what the answer did cost; all in nanodollars, and the same in tokens. Their sum over all rows never
# passes the budget. States: reserved (booked, not sent), sent (on its way, may be billed), settled (answered, never
# asked again), failed (for `reason`, may be asked again), refused (for `reason`, never asked again).
# verdicts: what verification made of an answer, and the `seconds` of computing it took.
# plan: how many requests a run wants, for forecasts.
# merged, merged_plan: what came from the ledgers of shards, so that a second merge adds nothing.
_SCHEMA = """
CREATE TABLE requests (
    key TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    language TEXT NOT NULL,
    teacher TEXT NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'sent', 'settled', 'failed', 'refused')),
    answer TEXT,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    reserved INTEGER NOT NULL DEFAULT 0,
    reserved_tokens INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    lost_tokens INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    lost_attempts INTEGER NOT NULL DEFAULT 0,
    doubted INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    error TEXT,
    sent_at REAL,
    settled_at REAL
) WITHOUT ROWID;
CREATE TABLE verdicts (
    key TEXT PRIMARY KEY REFERENCES requests (key),
    kept INTEGER NOT NULL CHECK (kept IN (0, 1)),
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE plan (
    task TEXT NOT NULL,
    language TEXT NOT NULL,
    model TEXT NOT NULL,
    wanted INTEGER NOT NULL,
    PRIMARY KEY (task, language, model)
) WITHOUT ROWID;
CREATE TABLE merged (
    shard TEXT NOT NULL,
    key TEXT NOT NULL,
    settled INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    lost_tokens INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    lost_attempts INTEGER NOT NULL,
    PRIMARY KEY (shard, key)
) WITHOUT ROWID;
CREATE TABLE merged_plan (
    shard TEXT NOT NULL,
    task TEXT NOT NULL,
    language TEXT NOT NULL,
    model TEXT NOT NULL,
    wanted INTEGER NOT NULL,
    PRIMARY KEY (shard, task, language, model)
) WITHOUT ROWID
"""


def open_rows(path: Path) -> sqlite3.Connection:
    """The database of a ledger, made where there is none. Transactions are the caller's; committed means on disk.

    Raises UserError for a file that is no ledger or one of another version.
    """
    with explained(path):
        # Statements run in the thread of the event loop, commits beside it; never both at once.
        rows = sqlite3.connect(path, isolation_level=None, timeout=60.0, check_same_thread=False)
        rows.execute("PRAGMA journal_mode=WAL")
        rows.execute("PRAGMA synchronous=FULL")
        rows.execute("BEGIN IMMEDIATE")
        try:
            version = rows.execute("PRAGMA user_version").fetchone()[0]
            empty = rows.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if version == 0 and empty:
                for statement in _SCHEMA.split(";\n"):
                    rows.execute(statement)
                rows.execute(f"PRAGMA user_version={VERSION}")
            elif version != VERSION:
                raise UserError(
                    f"ledger {path} has version {version}, this program writes version {VERSION}: "
                    "use the program that wrote it, or another workdir"
                )
        except BaseException:
            rows.execute("ROLLBACK")
            rows.close()
            raise
        rows.execute("COMMIT")
        return rows


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Says of the user's own troubles (full disk, not a ledger) what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "disk is full" in str(error):
            raise UserError(
                f"the disk of {path.parent} is full: free some space and run again, no answer is lost"
            ) from error
        if "unable to open" in str(error):
            raise UserError(f"ledger {path} cannot be opened: check that its folder is writable") from error
        raise
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error) or "malformed" in str(error):
            raise UserError(f"{path} is not a ledger, or damaged ({error}): move it away") from error
        raise
