"""How requests are to be asked, and what came of it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pace:
    """How much at once, and how patiently.

    `concurrency` requests are under way at most. An attempt that may have been billed without an answer is repeated
    until there were `max_lost` of them; one that the server did not take (429, 5xx, no connection), `max_busy` times,
    429s as long as there is time. Waits are random between 0 and `backoff_seconds`, doubled each time up to
    `longest_backoff` ("full jitter"), and no shorter than Retry-After says. A request has `request_seconds` from its
    first attempt to its last; all together have `total_seconds` (None: as long as it takes).

    Batches are looked at every `poll_seconds`. One of which nobody knows whether the teacher took it is looked for in
    the teacher's list until `settle_seconds` after it was sent; what is not there by then never will be.
    """

    concurrency: int = 8
    max_lost: int = 3
    max_busy: int = 8
    backoff_seconds: float = 0.5
    longest_backoff: float = 30.0
    request_seconds: float = 1800.0
    total_seconds: float | None = None
    poll_seconds: float = 20.0
    settle_seconds: float = 120.0


@dataclass
class Asked:
    """What one call of `ask_all` did. `known` requests had their end in the ledger before; `unasked` is what the
    budget or the time left over, with `stopped` saying so in one sentence. `reasons` count failures and refusals,
    `hiccups` the attempts that were repeated. `batched` requests are in batches under way, `batched_done` of them
    answered there and not fetched yet."""

    wanted: int = 0
    known: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    unasked: int = 0
    attempts: int = 0
    batched: int = 0
    batched_done: int = 0
    dollars: float = 0.0
    stopped: str | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    hiccups: Counter[str] = field(default_factory=Counter)
