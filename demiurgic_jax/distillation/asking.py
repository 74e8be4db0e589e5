"""Asks teachers many requests at once, within a budget, each answer stored the moment it comes."""

import asyncio
import functools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from demiurgic_jax.data.completer import Completion
from demiurgic_jax.distillation.failures import AnswerLostError, BusyError, RequestRefusedError, TeacherError
from demiurgic_jax.distillation.group_commit import GroupCommit
from demiurgic_jax.distillation.ledger import Budget, BudgetSpentError, Entry, Ledger, Spend
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.pricing import NANODOLLARS, credible, prompt_tokens_likely, tokens_at_most
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.teacher import Teacher
from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class Pace:
    """How much at once, and how patiently.

    `concurrency` requests are under way at most. An attempt that may have been billed without an answer is repeated
    until there were `max_lost` of them; one that the server did not take (429, 5xx, no connection), `max_busy` times,
    429s as long as there is time. Waits are random between 0 and `backoff_seconds`, doubled each time up to
    `longest_backoff` ("full jitter"), and no shorter than Retry-After says. A request has `request_seconds` from its
    first attempt to its last; all together have `total_seconds` (None: as long as it takes).
    """

    concurrency: int = 8
    max_lost: int = 3
    max_busy: int = 8
    backoff_seconds: float = 0.5
    longest_backoff: float = 30.0
    request_seconds: float = 1800.0
    total_seconds: float | None = None


@dataclass
class Asked:
    """What one call of `ask_all` did. `known` requests had their end in the ledger before; `unasked` is what the
    budget or the time left over, with `stopped` saying so in one sentence. `reasons` count failures and refusals,
    `hiccups` the attempts that were repeated."""

    wanted: int = 0
    known: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    unasked: int = 0
    attempts: int = 0
    dollars: float = 0.0
    stopped: str | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    hiccups: Counter[str] = field(default_factory=Counter)


class _OutOfTimeError(Exception):
    """The time for everything is over; the request is not asked any more."""


async def ask_all(
    panel: Panel[Teacher],
    ledger: Ledger,
    requests: Sequence[TeacherRequest],
    *,
    budget: Budget = Budget(),  # noqa: B008 (frozen)
    pace: Pace = Pace(),
    progress: Callable[[Asked], None] | None = None,
) -> Asked:
    """Asks what has no answer yet, in order.

    The worst case of an attempt is reserved in the ledger, on disk, before it is sent, and settled after, so that the
    sum over the ledger never passes `budget`. Stops cleanly once the budget allows no further attempt. `progress` is
    called after each request. Raises UserError, with every answer so far stored, where a teacher cannot be used at
    all: wrong address or key, or only failures, one after the other; and where the budget is too small for even one
    request.
    """
    with ledger.asking():
        by_key = {ledger.key(request.request): request for request in requests}
        pending = ledger.pending([request.request for request in by_key.values()])
        ledger.record_plan(_plan(panel, by_key))
        asked = Asked(wanted=len(by_key), known=len(by_key) - len(pending), unasked=len(pending))
        todo = {key: by_key[key] for key in pending}
        _check_budget(panel, todo, budget)
        async with GroupCommit(ledger) as commits:
            asker = _Asker(panel, ledger, commits, asked, budget, pace, progress)
            queue = iter(todo.items())
            async with asyncio.TaskGroup() as group:
                for _ in range(min(pace.concurrency, len(todo))):
                    group.create_task(asker.work(queue))
        asked.dollars = ledger.booked.nanodollars / NANODOLLARS
        if asker.unusable is not None:
            raise asker.unusable
        if asker.failures_in_a_row and not asked.answered + asked.known + asked.refused:
            raise asker.useless()
        return asked


def _plan(panel: Panel[Teacher], by_key: Mapping[str, TeacherRequest]) -> Counter[tuple[str, str, str]]:
    return Counter((each.task, each.language, panel.teacher_of(each.request).model) for each in by_key.values())


def worst_case(teacher: Teacher, request: TeacherRequest) -> Spend:
    """What asking once can take at most."""
    return Spend(teacher.price.worst_case(request.request), tokens_at_most(request.request))


def _check_budget(panel: Panel[Teacher], todo: Mapping[str, TeacherRequest], budget: Budget) -> None:
    if not todo:
        return
    least = min(
        (worst_case(panel.teacher_of(each.request), each) for each in todo.values()),
        key=lambda spend: (spend.nanodollars, spend.tokens),
    )
    if not budget.allows(least):
        raise UserError(
            f"a budget of {budget} does not allow a single request, which can cost "
            f"${least.nanodollars / NANODOLLARS:.4f} and {least.tokens:,} tokens: raise "
            "config.teacher.budget_dollars or budget_tokens, or lower config.teach.max_tokens"
        )


@dataclass
class _Asker:
    panel: Panel[Teacher]
    ledger: Ledger
    commits: GroupCommit
    asked: Asked
    budget: Budget
    pace: Pace
    progress: Callable[[Asked], None] | None
    failures_in_a_row: int = 0
    last_failure: str = ""
    unusable: UserError | None = None
    holding: set[str] = field(default_factory=set)  # what has a reservation that will end, or is about to
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Lock = field(default_factory=asyncio.Lock)
    jitter: random.Random = field(default_factory=random.Random)
    started: float = field(default_factory=time.monotonic)

    async def work(self, queue: Iterator[tuple[str, TeacherRequest]]) -> None:
        """Takes requests from the shared queue until it is empty, the budget is spent or a teacher is unusable."""
        for key, request in queue:
            try:
                await self._ask(key, request)
            except BudgetSpentError as error:
                self.asked.stopped = (
                    f"stopped at the budget of {self.budget}: {error}, {self.asked.unasked:,} requests are not asked; "
                    "raise the budget to ask them"
                )
            except _OutOfTimeError:
                self.asked.stopped = (
                    f"stopped after {self.pace.total_seconds:g} s: {self.asked.unasked:,} requests are not asked; "
                    "the same command goes on with them"
                )
            except UserError as error:
                # Others finish the attempts that they have begun: those are paid.
                self.unusable = self.unusable or error
            else:
                self.asked.unasked -= 1
                self.asked.dollars = self.ledger.booked.nanodollars / NANODOLLARS
                if self.progress is not None:
                    self.progress(self.asked)
                if self.failures_in_a_row >= 2 * self.pace.concurrency + 3:
                    self.unusable = self.unusable or self.useless()
            if self.asked.stopped or self.unusable:
                return

    def useless(self) -> UserError:
        return UserError(
            f"the last {self.failures_in_a_row} requests failed, the last one because {self.last_failure}: "
            "restart the teacher or fix config.teacher.url, then run again; every answer so far is kept"
        )

    async def _ask(self, key: str, request: TeacherRequest) -> None:
        """Attempts until there is an end. Raises BudgetSpentError, _OutOfTimeError and UserError, with the ledger
        saying what has become of the request."""
        teacher = self.panel.teacher_of(request.request)
        deadline = time.monotonic() + self.pace.request_seconds
        lost = busy = 0
        error: AnswerLostError | BusyError
        while True:
            try:
                await self._send(key, request, teacher, deadline)
            except TimeoutError:
                self._count_failure(TeacherError("out of time", "the teacher's limits left no time for it"))
                return
            try:
                completion = await teacher.complete(request.request)
            except AnswerLostError as failure:
                error, lost, again = failure, lost + 1, lost + 1 < self.pace.max_lost
                await self._end(key, failure, billed=True)
            except BusyError as failure:
                error, busy = failure, busy + 1
                again = busy < self.pace.max_busy or failure.reason == "rate limited"
                self.commits.post(functools.partial(self.ledger.unsent, key))
            except RequestRefusedError as refusal:
                await self._end(key, refusal, for_good=True)
                self.asked.refused += 1
                self.asked.reasons[refusal.reason] += 1
                self.failures_in_a_row = 0
                return
            except UserError as mistake:
                await self._end(key, TeacherError("unusable", str(mistake)))
                raise
            else:
                await self._settle(key, request, teacher, completion)
                return
            wait = self._wait(lost + busy, error)
            if not again or self.unusable or time.monotonic() + wait > min(deadline, self._end_of_time()):
                if key in self.holding:
                    await self._end(key, error)
                self._count_failure(error)
                return
            self.asked.hiccups[error.reason] += 1
            await asyncio.sleep(wait)

    async def _send(self, key: str, request: TeacherRequest, teacher: Teacher, deadline: float) -> None:
        """Returns when the worst case is on disk as sent, and the teacher's limits let it go."""
        tokens = prompt_tokens_likely(request.request) + request.request.max_tokens
        at_once = teacher.limiter.try_acquire(tokens)
        sent = at_once
        try:
            if time.monotonic() > self._end_of_time():
                raise _OutOfTimeError
            if key not in self.holding:
                await self._reserve(key, request, teacher, sent=at_once)
            else:
                sent = False  # the teacher was busy: it is still reserved
            if not at_once:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._left(deadline)):
                    await teacher.limiter.acquire(tokens)
                at_once = True
            if self.unusable:
                raise self.unusable
        except (BudgetSpentError, UserError, _OutOfTimeError, TimeoutError) as error:
            if at_once:
                teacher.limiter.give_back(tokens)
            if key in self.holding:
                await self._end(key, TeacherError("out of time", str(error) or "the teacher's limits left no time"))
            if isinstance(error, TimeoutError) and time.monotonic() >= self._end_of_time():
                raise _OutOfTimeError from error
            raise
        if not sent:
            await self.commits.submit(functools.partial(self.ledger.sent, key))
        self.asked.attempts += 1

    async def _reserve(self, key: str, request: TeacherRequest, teacher: Teacher, *, sent: bool) -> None:
        """Waits for running requests to settle below their worst case where the budget has no room before that."""
        worst = worst_case(teacher, request)
        entry = Entry(request.task, request.language, teacher.name, teacher.model)
        reserve = functools.partial(self.ledger.reserve, key, entry, worst, self.budget, sent=sent)
        if not self.room.locked() and self.budget.allows(self.ledger.booked + worst):
            self.holding.add(key)
            try:
                await self.commits.submit(reserve)
                return
            except BudgetSpentError:
                self._free(key)
        async with self.room:  # whoever waits longest is next
            while True:
                self.freed.clear()
                self.holding.add(key)
                try:
                    await self.commits.submit(reserve)
                    return
                except BudgetSpentError:
                    self.holding.discard(key)
                    if not self.holding:
                        raise
                await self.freed.wait()

    async def _settle(self, key: str, request: TeacherRequest, teacher: Teacher, completion: Completion) -> None:
        booked, believed = credible(request.request, completion)
        cost = teacher.price.cost(booked.prompt_tokens, booked.completion_tokens)
        await self.commits.submit(functools.partial(self.ledger.settle, key, booked, cost, doubted=not believed))
        self._free(key)
        self.asked.answered += 1
        self.failures_in_a_row = 0

    async def _end(self, key: str, error: TeacherError, *, billed: bool = False, for_good: bool = False) -> None:
        fail = functools.partial(self.ledger.fail, key, error.reason, str(error), billed=billed, for_good=for_good)
        await self.commits.submit(fail)
        self._free(key)

    def _free(self, key: str) -> None:
        self.holding.discard(key)
        self.freed.set()

    def _count_failure(self, error: TeacherError) -> None:
        self.asked.failed += 1
        self.asked.reasons[error.reason] += 1
        self.failures_in_a_row += 1
        self.last_failure = str(error)

    def _end_of_time(self) -> float:
        return float("inf") if self.pace.total_seconds is None else self.started + self.pace.total_seconds

    def _left(self, deadline: float) -> float:
        return max(0.0, min(deadline, self._end_of_time()) - time.monotonic())

    def _wait(self, failures: int, error: AnswerLostError | BusyError) -> float:
        """Seconds before the next attempt: full jitter, and no less than the teacher asks for."""
        most = min(self.pace.longest_backoff, self.pace.backoff_seconds * 2 ** min(failures - 1, 16))
        asked = error.retry_after if isinstance(error, BusyError) else None
        return (asked or 0.0) + self.jitter.uniform(0.0, most)
