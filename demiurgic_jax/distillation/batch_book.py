"""The ledger's pages on batches: which requests are in which, and how far each batch has come.

planned (reserved, nothing billable sent) → submitting (on its way: the teacher may have it) → open (its id is known) →
ended. Each step is on disk before the next one begins, so that after a kill at any moment it is known what to do:
planned batches are forgotten, submitting ones are looked for at the teacher, open ones are fetched.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.failures import AnswerLostError, RequestRefusedError, TeacherError
from demiurgic_jax.distillation.ledger import Budget, Entry, Ledger, Spend
from demiurgic_jax.distillation.pricing import Price, credible


@dataclass(frozen=True)
class Batch:
    """A batch under way. `provider_id` is None until the teacher has told it."""

    tag: str
    teacher: str
    model: str
    provider_id: str | None
    price: Price
    submitted_at: float


class BatchBook:
    """Books batches in `ledger`. Every change is on disk when its method returns."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger

    def plan(
        self,
        batch: Batch,
        requests: Mapping[str, tuple[Entry, CompletionRequest]],
        worst: Mapping[str, Spend],
        budget: Budget,
    ) -> None:
        """Reserves the worst case of every request, all or none. Raises BudgetSpentError."""
        with self._ledger.transaction():
            for key, (entry, _) in requests.items():
                self._ledger.reserve(key, entry, worst[key], budget)
            self._ledger.execute(
                "INSERT INTO batches VALUES (?, ?, ?, 'planned', NULL, ?, ?, ?, ?)",
                (
                    *(batch.tag, batch.teacher, batch.model, batch.price.input_per_million),
                    *(batch.price.output_per_million, len(requests), batch.submitted_at),
                ),
            )
            for key, (_, request) in requests.items():
                # Of the answer one day all is here, whatever the config says by then.
                stored = json.dumps(request.to_dict())
                self._ledger.execute("INSERT INTO batched VALUES (?, ?, ?)", (key, batch.tag, stored))

    def submitting(self, batch: Batch) -> None:
        """From here on the teacher may have the batch. To be called before it is sent."""
        with self._ledger.transaction():
            for (key,) in self._ledger.execute("SELECT key FROM batched WHERE tag = ?", (batch.tag,)).fetchall():
                self._ledger.sent(key)
            self._step(batch, "submitting", "submitted_at = ?", time.time())

    def opened(self, batch: Batch, provider_id: str) -> None:
        """The teacher has the batch, under this id."""
        with self._ledger.transaction():
            self._step(batch, "open", "provider_id = ?", provider_id)

    def not_taken(self, batch: Batch, reason: str, error: str) -> None:
        """The teacher took none of it and bills nothing."""
        with self._ledger.transaction():
            for (key,) in self._ledger.execute("SELECT key FROM batched WHERE tag = ?", (batch.tag,)).fetchall():
                self._ledger.fail(key, reason, error)
            self.ended(batch)

    def store(self, batch: Batch, outcomes: Sequence[tuple[str, CompletionRequest, Completion | TeacherError]]) -> None:
        """Answers and failures of requests of the batch, each once."""
        with self._ledger.transaction():
            for key, request, outcome in outcomes:
                if isinstance(outcome, TeacherError):
                    lost, refused = (isinstance(outcome, kind) for kind in (AnswerLostError, RequestRefusedError))
                    self._ledger.fail(key, outcome.reason, str(outcome), billed=lost, for_good=refused)
                else:
                    booked, believed = credible(request, outcome)
                    cost = batch.price.cost(booked.prompt_tokens, booked.completion_tokens)
                    self._ledger.settle(key, booked, cost, doubted=not believed)
                self._ledger.execute("DELETE FROM batched WHERE key = ?", (key,))

    def ended(self, batch: Batch) -> None:
        """Nothing is to be fetched any more."""
        with self._ledger.transaction():
            self._ledger.execute("DELETE FROM batched WHERE tag = ?", (batch.tag,))
            self._step(batch, "ended", "provider_id = ?", batch.provider_id)

    def under_way(self) -> list[Batch]:
        """Batches that the teachers have or may have, oldest first."""
        return [
            Batch(tag, teacher, model, provider_id, Price(price_in, price_out), submitted_at)
            for tag, teacher, model, provider_id, price_in, price_out, submitted_at in self._ledger.execute(
                "SELECT tag, teacher, model, provider_id, input_per_million, output_per_million, submitted_at "
                "FROM batches WHERE state IN ('submitting', 'open') ORDER BY submitted_at"
            )
        ]

    def requests(self, batch: Batch) -> dict[str, CompletionRequest]:
        """Those of the batch that have no end yet, by key."""
        return {
            key: CompletionRequest.from_dict(json.loads(stored))
            for key, stored in self._ledger.execute("SELECT key, request FROM batched WHERE tag = ?", (batch.tag,))
        }

    def keys(self) -> set[str]:
        """Requests in batches under way, which must not be asked beside them."""
        return {key for (key,) in self._ledger.execute("SELECT key FROM batched")}

    def known_ids(self) -> set[str]:
        """Ids of batches that are told apart already."""
        return {each for (each,) in self._ledger.execute("SELECT provider_id FROM batches WHERE provider_id NOT NULL")}

    def _step(self, batch: Batch, state: str, change: str, value: object) -> None:
        self._ledger.execute(f"UPDATE batches SET state = ?, {change} WHERE tag = ?", (state, value, batch.tag))
