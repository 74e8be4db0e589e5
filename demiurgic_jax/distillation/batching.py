"""Asks through batch APIs: submits what the budget allows, waits, fetches, over kills at any moment."""

import asyncio
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.batch_api import BatchApi, Standing
from demiurgic_jax.distillation.batch_book import Batch, BatchBook
from demiurgic_jax.distillation.failures import (
    AnswerLostError,
    BusyError,
    NotThereError,
    RequestRefusedError,
    TeacherError,
)
from demiurgic_jax.distillation.ledger import NOTHING, Budget, Entry, Ledger, Spend
from demiurgic_jax.distillation.pace import Asked, Pace
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.pricing import NANODOLLARS
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.teacher import Teacher
from demiurgic_jax.errors import UserError

# Results that are written together.
_STORED_TOGETHER = 500
# Looks at the teacher in a row that may fail; with the waits between, some ten minutes.
_MOST_FAILED_LOOKS = 25
# So long results can be fetched at the least: 29 days at Anthropic, 30 at OpenAI.
_KEPT_SECONDS = 29 * 86400.0
# A batch that the teacher took back, or never took, is tried again so many times.
_MOST_TRIES = 4


@runtime_checkable
class BatchTeacher(Teacher, Protocol):
    """A teacher with a batch API; `batch` says whether it is to be asked that way."""

    batch: bool
    batches: BatchApi


def by_batch(teacher: Teacher) -> bool:
    """Whether the teacher is to be asked in batches."""
    return isinstance(teacher, BatchTeacher) and teacher.batch


class Batching:
    """The batches of one `ask_all`: of the requests with the keys `todo`, and what earlier runs left under way.

    What happens to requests outside of `wanted` is stored all the same, and not counted.
    """

    def __init__(
        self,
        panel: Panel[Teacher],
        ledger: Ledger,
        todo: Sequence[str],
        wanted: Mapping[str, TeacherRequest],
        asked: Asked,
        budget: Budget,
        pace: Pace,
        progress: Callable[[Asked], None] | None,
    ):
        self._teachers = {(each.name, each.model): each for each in panel.teachers if isinstance(each, BatchTeacher)}
        self._ledger, self._book, self._wanted = ledger, BatchBook(ledger), wanted
        self._asked, self._budget, self._pace, self._progress = asked, budget, pace, progress
        self._todo: dict[tuple[str, str, str], deque[str]] = defaultdict(deque)
        for key in todo:
            request = wanted[key].request
            teacher = panel.teacher_of(request)
            assert isinstance(teacher, BatchTeacher)
            self._todo[teacher.name, teacher.model, teacher.batches.kind(request)].append(key)
        self._most = {name: each.batches.most_requests for name, each in self._teachers.items()}
        self._tries: dict[tuple[str, str], int] = defaultdict(int)
        self._crowded: set[tuple[str, str]] = set()  # teachers whose queue is full until a batch has ended
        self._standings: dict[str, int] = {}
        self._end = float("inf") if pace.total_seconds is None else time.monotonic() + pace.total_seconds

    async def submit(self) -> None:
        """Sends as many batches as the budget has room for. Raises UserError where a teacher takes no batches."""
        for (name, model, kind), keys in self._todo.items():
            teacher = self._teachers[name, model]
            while keys and (name, model) not in self._crowded:
                chunk, lines, tag = self._cut(teacher, keys)
                if not chunk:
                    break
                batch = Batch(tag, name, model, None, teacher.price, time.time())
                of_batch = {key: (self._entry(key, teacher), self._wanted[key].request) for key in chunk}
                worst = {key: Spend.worst_case(teacher.price, request) for key, (_, request) in of_batch.items()}
                self._book.plan(batch, of_batch, worst, self._budget)
                for _ in chunk:
                    keys.popleft()
                await self._send(batch, teacher, kind, lines, chunk)

    async def finish(self) -> None:
        """Returns when nothing is under way any more, or the time is over."""
        failed_looks = 0
        while True:
            await self.submit()
            ours = [each for each in self._book.under_way() if (each.teacher, each.model) in self._teachers]
            if not ours and not self._crowded:
                break
            if not ours:
                self._crowded.clear()
                continue
            news = False
            try:
                for batch in ours:
                    news |= await self._look(batch)
            except (BusyError, AnswerLostError) as error:
                failed_looks += 1
                if failed_looks > _MOST_FAILED_LOOKS:
                    raise UserError(
                        f"{error}; {len(ours)} batches are under way there, and what they cost is booked: "
                        "run the same command again to fetch them"
                    ) from error
            else:
                failed_looks = 0
            self._show()
            if news:
                continue
            if time.monotonic() > self._end:
                self._asked.stopped = (
                    f"stopped after {self._pace.total_seconds:g} s: {self._asked.batched:,} requests are in batches "
                    "under way; the same command fetches them"
                )
                return
            await asyncio.sleep(max(0.0, min(self._pace.poll_seconds, self._end - time.monotonic())))
        if left := sum(map(len, self._todo.values())):
            self._asked.stopped = (
                f"stopped at the budget of {self._budget}: ${self._ledger.booked.nanodollars / NANODOLLARS:.4f} are "
                f"spent or reserved, {left:,} requests are not asked; raise the budget to ask them"
            )

    def _cut(self, teacher: BatchTeacher, keys: deque[str]) -> tuple[list[str], list[bytes], str]:
        """The next requests that fit into one batch and the budget; what cannot be said to the teacher is refused."""
        tag, api = secrets.token_hex(8), teacher.batches
        chunk: list[str] = []
        lines: list[bytes] = []
        size, spend = 64, self._ledger.booked  # 64 bytes of brackets
        while len(chunk) < min(len(keys), self._most[teacher.name, teacher.model]):
            key = keys[len(chunk)]
            request = self._wanted[key].request
            spend = spend + Spend.worst_case(teacher.price, request)
            if not self._budget.allows(spend):
                break
            try:
                line = api.line(_custom_id(tag, key), request)
            except RequestRefusedError as refusal:
                self._refuse(key, teacher, refusal)
                del keys[len(chunk)]
                continue
            size += len(line)
            if size > api.most_bytes and chunk:
                break
            chunk.append(key)
            lines.append(line)
        return chunk, lines, tag

    async def _send(self, batch: Batch, teacher: BatchTeacher, kind: str, lines: list[bytes], chunk: list[str]) -> None:
        """Leaves the batch open, or submitting where it is not known whether the teacher has it; else its requests
        have failed."""
        submitting = False
        for failures in range(1, self._pace.max_busy + 1):
            try:
                content = await teacher.batches.prepare(batch.tag, kind, lines)
                if not submitting:
                    self._book.submitting(batch)
                    submitting = True
                    self._asked.attempts += len(chunk)
                provider_id = await teacher.batches.create(content)
            except (BusyError, AnswerLostError) as error:
                if submitting and not _surely_not_taken(error):
                    return  # it is looked for later
                self._asked.hiccups[error.reason] += 1
                last: TeacherError = error
            except (UserError, RequestRefusedError) as error:
                self._fail(batch, "batch refused", str(error))
                raise UserError(
                    f"the teacher {teacher.name!r} takes no batch: {error}; without config.teacher.batch it is asked "
                    "request by request"
                ) from error
            else:
                self._book.opened(batch, provider_id)
                return
            wait = min(self._pace.longest_backoff, self._pace.backoff_seconds * 2**failures)
            await asyncio.sleep(max(wait, getattr(last, "retry_after", None) or 0.0))
        self._fail(batch, last.reason, str(last))

    async def _look(self, batch: Batch) -> bool:
        """Whether something has changed for good."""
        teacher = self._teachers[batch.teacher, batch.model]
        if batch.provider_id is None:
            keys = self._book.requests(batch)
            custom_ids = {_custom_id(batch.tag, key) for key in keys}
            # A batch can come into the list late, but not so late.
            settled = time.time() > batch.submitted_at + self._pace.settle_seconds
            sought = await teacher.batches.find(batch.tag, custom_ids, batch.submitted_at, self._book.known_ids())
            if sought.id is None:
                if sought.sure and settled:
                    self._retry(batch, list(keys), "not taken", "the teacher never had the batch")
                    return True
                return False
            self._book.opened(batch, sought.id)
            batch = replace(batch, provider_id=sought.id)
        assert batch.provider_id is not None
        try:
            standing = await teacher.batches.standing(batch.provider_id)
        except NotThereError as error:
            self._gone(batch, error)
            return True
        self._standings[batch.tag] = standing.done
        if standing.refused:
            await self._refused(batch, standing)
        elif standing.ended:
            await self._fetch(batch, teacher, standing)
            self._crowded.discard((batch.teacher, batch.model))
        else:
            return False
        self._standings.pop(batch.tag)
        return True

    def _gone(self, batch: Batch, error: NotThereError) -> None:
        """What nobody can fetch any more counts as spent. Raises UserError where that is not yet sure."""
        if time.time() - batch.submitted_at < _KEPT_SECONDS:
            raise UserError(
                f"the teacher {batch.teacher!r} knows no batch {batch.provider_id} ({error}): use the key with which "
                "it was submitted"
            ) from error
        lost = AnswerLostError("no result", f"the teacher's batch {batch.provider_id} is gone")
        self._store(batch, [(key, request, lost) for key, request in self._book.requests(batch).items()])
        self._book.ended(batch)

    async def _refused(self, batch: Batch, standing: Standing) -> None:
        keys = list(self._book.requests(batch))
        others = [each for each in self._book.under_way() if each.teacher == batch.teacher and each.tag != batch.tag]
        if standing.too_much and (others or len(keys) > 1):
            # What the provider queues of one customer is limited: wait for the others, or if it is alone, send less.
            if others:
                self._crowded.add((batch.teacher, batch.model))
            else:
                self._most[batch.teacher, batch.model] = len(keys) // 2
            self._retry(batch, keys, "batch refused", standing.refused, counts=False)
            return
        self._fail(batch, "batch refused", standing.refused)
        if not self._asked.answered + self._asked.known:
            raise UserError(
                f"the teacher {batch.teacher!r} refused the batch {batch.provider_id}: {standing.refused}; nothing was "
                "billed for it"
            )

    async def _fetch(self, batch: Batch, teacher: BatchTeacher, standing: Standing) -> None:
        assert batch.provider_id is not None
        left = {_custom_id(batch.tag, key): (key, request) for key, request in self._book.requests(batch).items()}
        outcomes: list[tuple[str, CompletionRequest, Completion | TeacherError]] = []
        async for custom_id, result in teacher.batches.results(batch.provider_id):
            if custom_id not in left:
                continue  # not ours, or there twice
            key, request = left.pop(custom_id)
            try:
                outcomes.append((key, request, teacher.batches.read(request, result)))
            except TeacherError as error:
                outcomes.append((key, request, error))
            if len(outcomes) >= _STORED_TOGETHER:
                self._store(batch, outcomes)
                outcomes = []
                await asyncio.sleep(0)
        for key, request in left.values():
            outcomes.append((key, request, _missing(batch, standing)))
        self._store(batch, outcomes)
        self._book.ended(batch)

    def _store(self, batch: Batch, outcomes: list[tuple[str, CompletionRequest, Completion | TeacherError]]) -> None:
        self._book.store(batch, outcomes)
        for key, _, outcome in outcomes:
            self._count(key, outcome)
        self._show()

    def _refuse(self, key: str, teacher: BatchTeacher, refusal: RequestRefusedError) -> None:
        with self._ledger.transaction():
            self._ledger.reserve(key, self._entry(key, teacher), NOTHING, self._budget)
            self._ledger.fail(key, refusal.reason, str(refusal), for_good=True)
        self._count(key, refusal)

    def _retry(self, batch: Batch, keys: list[str], reason: str, said: str, *, counts: bool = True) -> None:
        """The teacher has none of it: it goes into another batch, unless that happened too often."""
        teacher = batch.teacher, batch.model
        self._tries[teacher] += counts
        if self._tries[teacher] >= _MOST_TRIES or not all(key in self._wanted for key in keys):
            self._fail(batch, reason, said)
            return
        self._asked.hiccups[reason] += 1
        api = self._teachers[teacher].batches
        self._book.not_taken(batch, reason, said)
        for key in keys:
            self._todo[*teacher, api.kind(self._wanted[key].request)].append(key)

    def _fail(self, batch: Batch, reason: str, said: str) -> None:
        keys = list(self._book.requests(batch))
        self._book.not_taken(batch, reason, said)
        for key in keys:
            self._count(key, TeacherError(reason, said))

    def _count(self, key: str, outcome: Completion | TeacherError) -> None:
        if key not in self._wanted:
            return
        self._asked.unasked -= 1
        if isinstance(outcome, TeacherError):
            self._asked.reasons[outcome.reason] += 1
            if isinstance(outcome, RequestRefusedError):
                self._asked.refused += 1
            else:
                self._asked.failed += 1
        else:
            self._asked.answered += 1

    def _show(self) -> None:
        self._asked.batched = len(self._book.keys())
        self._asked.batched_done = sum(self._standings.values())
        self._asked.dollars = self._ledger.booked.nanodollars / NANODOLLARS
        if self._progress is not None:
            self._progress(self._asked)

    def _entry(self, key: str, teacher: BatchTeacher) -> Entry:
        return Entry(self._wanted[key].task, self._wanted[key].language, teacher.name, teacher.model)


def _custom_id(tag: str, key: str) -> str:
    """Its own in every batch, so that no answer is taken for that of another attempt. At most 64 letters, as both APIs
    want."""
    return f"{tag}-{key[:40]}"


def _surely_not_taken(error: BusyError | AnswerLostError) -> bool:
    """After any other failure the batch may be there all the same."""
    return isinstance(error, BusyError) and error.reason in ("rate limited", "unreachable")


def _missing(batch: Batch, standing: Standing) -> TeacherError:
    if standing.cut_short:
        return BusyError(standing.cut_short, f"the teacher's batch {batch.provider_id} was {standing.cut_short}")
    return AnswerLostError("no result", f"the teacher's batch {batch.provider_id} has no result of this request")
