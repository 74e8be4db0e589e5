"""Asks a teacher many requests at once, within a budget, each answer stored the moment it comes."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from demiurgic_jax.data.completer import Completer, CompletionRequest
from demiurgic_jax.distillation.failures import AnswerLostError, RequestRefusedError, TeacherError
from demiurgic_jax.distillation.ledger import BudgetSpentError, Ledger
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.teacher import HttpTeacher
from demiurgic_jax.errors import UserError

_PAUSE_SECONDS = 0.25


@dataclass
class Asked:
    """What one call of `ask_all` did. `known` requests had their end in the ledger before; `unasked` is what the
    budget left over, with `stopped` saying so in one sentence."""

    wanted: int = 0
    known: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    unasked: int = 0
    stopped: str | None = None


async def ask_all(
    completer: Completer,
    ledger: Ledger,
    requests: Sequence[TeacherRequest],
    *,
    price: Price,
    budget_dollars: float | None = None,
    concurrency: int = 8,
    max_attempts: int = 3,
    progress: Callable[[Asked], None] | None = None,
) -> Asked:
    """Asks what has no answer yet, in order, `concurrency` at a time.

    The worst case of an attempt is reserved in the ledger before it is sent and settled after, so that the sum over
    the ledger never passes `budget_dollars`; an answer that broke off counts as billed and is asked again up to
    `max_attempts` times. Stops cleanly once the budget allows no further attempt. `progress` is called after each
    request. Raises UserError, with every answer so far stored, where the teacher cannot be used at all: wrong
    address or key, or only failures, one after the other.
    """
    with ledger.asking():
        pending = ledger.pending([request.request for request in requests])
        distinct = len({ledger.key(request.request) for request in requests})
        asked = Asked(wanted=distinct, known=distinct - len(pending), unasked=len(pending))
        asker = _Asker(completer, ledger, asked, price, budget_dollars, max_attempts, 2 * concurrency + 3, progress)
        queue = iter(pending.items())
        unusable: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(pending))):
                    group.create_task(asker.work(queue))
        except* UserError as errors:
            unusable = errors.exceptions[0]  # raised inside of except*, it would be wrapped into a group again
        if unusable is not None:
            raise unusable
        if asker.failures_in_a_row and not asked.answered + asked.known + asked.refused:
            raise asker.useless()
        return asked


@dataclass
class _Asker:
    completer: Completer
    ledger: Ledger
    asked: Asked
    price: Price
    budget_dollars: float | None
    max_attempts: int
    patience: int
    progress: Callable[[Asked], None] | None
    failures_in_a_row: int = 0
    last_failure: str = ""
    in_flight: int = 0
    freed: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, queue: Iterator[tuple[str, CompletionRequest]]) -> None:
        """Takes requests from the shared queue until it is empty or the budget is spent."""
        for key, request in queue:
            try:
                await self._ask(key, request)
            except BudgetSpentError as error:
                self.asked.stopped = (
                    f"stopped at the budget of ${self.budget_dollars:.4f}: {error}, {self.asked.unasked} requests are "
                    "not asked; raise the budget to ask them"
                )
                return
            self.asked.unasked -= 1
            if self.progress is not None:
                self.progress(self.asked)
            if self.failures_in_a_row >= self.patience:
                raise self.useless()
            if self.asked.stopped:
                return

    def useless(self) -> UserError:
        return UserError(
            f"the last {self.failures_in_a_row} requests failed, the last one because {self.last_failure}: "
            "restart the teacher or fix config.teacher.url, then run again; every answer so far is kept"
        )

    async def _ask(self, key: str, request: CompletionRequest) -> None:
        # HttpTeacher.complete would repeat attempts that may have been billed; `ask` leaves that to the ledger.
        ask = self.completer.ask if isinstance(self.completer, HttpTeacher) else self.completer.complete
        for attempt in range(1, self.max_attempts + 1):
            await self._reserve(key, request)
            self.in_flight += 1
            try:
                completion = await ask(request)
            except AnswerLostError as error:
                self.ledger.fail(key, str(error), billed=True)
                if attempt == self.max_attempts:
                    self._failed(error)
                    return
                await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
                continue
            except RequestRefusedError as error:
                self.ledger.fail(key, str(error), for_good=True)
                self.asked.refused += 1
                self.failures_in_a_row = 0
                return
            except (TeacherError, UserError) as error:
                self.ledger.fail(key, str(error))
                if isinstance(error, UserError):
                    raise
                self._failed(error)
                return
            finally:
                self.in_flight -= 1
                self.freed.set()
            self.ledger.settle(key, completion, self.price.cost(completion.prompt_tokens, completion.completion_tokens))
            self.asked.answered += 1
            self.failures_in_a_row = 0
            return

    async def _reserve(self, key: str, request: CompletionRequest) -> None:
        """Waits for running requests to settle below their worst case where the budget has no room before that."""
        budget = None if self.budget_dollars is None else int(self.budget_dollars * NANODOLLARS)
        while True:
            try:
                self.ledger.reserve(key, self.price.worst_case(request), budget)
                return
            except BudgetSpentError:
                if not self.in_flight:
                    raise
            self.freed.clear()
            await self.freed.wait()

    def _failed(self, error: Exception) -> None:
        self.asked.failed += 1
        self.failures_in_a_row += 1
        self.last_failure = str(error)
