"""From stored answers to examples: each is checked, and kept or rejected with a reason."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from demiurgic_jax.curation.decontamination import Benchmarks
from demiurgic_jax.curation.near_duplicates import MinHashConfig, NearDuplicates
from demiurgic_jax.curation.secrets import redact
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Message
from demiurgic_jax.distillation.conversations import Conversation, conversations
from demiurgic_jax.distillation.example import Example, Rejection
from demiurgic_jax.distillation.ledger import Ledger, Verdict
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.tasks.checks import Check
from demiurgic_jax.distillation.tasks.registry import task_named
from demiurgic_jax.distillation.tasks.task import Kept, Rejected

# Two answers of a few words are alike by chance.
_SHORTEST_NEAR_DUPLICATE = 24


@dataclass(frozen=True)
class Screen:
    """What is kept out of the answers, whatever their task: copies of benchmark problems, near-duplicates of earlier
    answers, and, by placeholders, secrets and personal data of these kinds."""

    benchmarks: Benchmarks | None = None
    near_duplicates: MinHashConfig | None = None
    redact: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Checked:
    result: Example | Rejection
    seconds: float


def verify_all(
    requests: Sequence[TeacherRequest],
    ledger: Ledger,
    seeds: Iterable[Seed],
    *,
    check: Check,
    screen: Screen | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Example], list[Rejection]]:
    """Examples and rejections in the order of `requests`; equal requests give one, those without an answer none.

    Code runs as far as `check` says. Equal completions of equal questions count once ("duplicate"). The verdicts go to
    the ledger, beside the answers, with the seconds that they took. `progress` gets the numbers of those done and of
    all. Raises UserError where a request's seed is not among `seeds`.
    """
    screen = screen or Screen()
    by_id = {seed.id: seed for seed in seeds}
    answered: dict[str, Conversation] = {}
    for talk in conversations(requests, by_id.values(), ledger.answer):
        if talk.turns:
            answered.setdefault(ledger.key(talk.first.request), talk)

    def checked(item: tuple[str, Conversation]) -> _Checked:
        started = time.monotonic()
        result = _check(*item, by_id[item[1].first.seed_id], check, screen)
        return _Checked(result, time.monotonic() - started)

    examples: list[Example] = []
    rejections: list[Rejection] = []
    verdicts: dict[str, Verdict] = {}
    repeated = _Repeated(screen.near_duplicates)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, each in enumerate(pool.map(checked, answered.items()), start=1):
            result = each.result
            if isinstance(result, Example):
                result = repeated.rejected(result) or result
            if isinstance(result, Example):
                examples.append(result)
                verdicts[result.id] = Verdict(True, seconds=each.seconds)
            else:
                rejections.append(result)
                verdicts[result.id] = Verdict(False, result.reason, result.detail, each.seconds)
            if progress is not None:
                progress(done, len(answered))
    ledger.record_verdicts(verdicts)
    return examples, rejections


class _Repeated:
    """Finds what was learnt before, among all answers of a task."""

    def __init__(self, config: MinHashConfig | None):
        self._learnt: set[tuple[object, ...]] = set()
        self._near: dict[str, NearDuplicates] | None = None if config is None else {}
        self._config = config

    def rejected(self, example: Example) -> Rejection | None:
        content = (example.messages, example.prompt, example.suffix, example.completion)
        if content in self._learnt:
            return _rejection_of(example, "duplicate")
        if self._near is not None and len(example.completion.split()) >= _SHORTEST_NEAR_DUPLICATE:
            index = self._near.setdefault(example.task, NearDuplicates(self._config))
            if (earlier := index.earlier(example.id, example.completion)) is not None:
                return _rejection_of(example, "near-duplicate", f"of {earlier}")
        self._learnt.add(content)
        return None


def _rejection_of(example: Example, reason: str, detail: str = "") -> Rejection:
    return Rejection(
        id=example.id,
        task=example.task,
        language=example.language,
        reason=reason,
        detail=detail,
        text=example.completion,
        cost=example.cost,
        teacher=example.teacher,
    )


def _check(key: str, talk: Conversation, seed: Seed, check: Check, screen: Screen) -> Example | Rejection:
    judged = _judged(talk, seed, check)
    cost = sum(answer.cost for answer in talk.answers)
    last = talk.answers[-1]
    if isinstance(judged, Rejected):
        return Rejection(
            id=key,
            task=talk.first.task,
            language=talk.first.language,
            reason=judged.reason,
            detail=judged.detail,
            text=last.completion.text,
            cost=cost,
            teacher=last.model,
        )
    turn = talk.turns[judged.turn]
    asked = turn.request
    messages = asked.messages
    if judged.turn:  # then the teacher's own words are in the question
        messages = tuple(Message(each.role, redact(each.content, screen.redact)) for each in messages)
    prompt, suffix = judged.fill or (asked.prompt, None)
    example = Example(
        id=key,
        task=talk.first.task,
        language=turn.language,
        messages=messages,
        prompt=prompt,
        suffix=suffix,
        completion=redact(judged.completion, screen.redact),
        verdicts=judged.verdicts,
        prompt_tokens=sum(answer.completion.prompt_tokens for answer in talk.answers),
        completion_tokens=sum(answer.completion.completion_tokens for answer in talk.answers),
        cost=cost,
        teacher=talk.answers[judged.turn].model,
        version=talk.first.version,
        seed_id=seed.id,
        seed_name=seed.name,
        path=seed.path,
        licence=seed.licence,
    )
    if example.completion != judged.completion:
        changed = replace(turn, answer=replace(turn.answer, text=redact(turn.answer.text, screen.redact)))
        turns = (*talk.turns[: judged.turn], changed, *talk.turns[judged.turn + 1 :])
        if isinstance(_judged(replace(talk, turns=turns), seed, "parse"), Rejected):
            return _rejection_of(example, "not parsing when redacted")
    if screen.benchmarks is not None:
        written = messages[-1].content + "\n" if judged.turn else prompt or ""
        if found := screen.benchmarks.match(written + example.completion + (suffix or ""), example.language):
            return _rejection_of(example, "benchmark problem", found)
    return example


def _judged(talk: Conversation, seed: Seed, check: Check) -> Kept | Rejected:
    if talk.open:
        return Rejected("follow-up unanswered", f"after {len(talk.turns)} answers")
    try:
        return task_named(talk.first.task).judge(seed, talk.turns, check)
    except RecursionError:  # thousands of nested brackets or chained operators; no code of use looks like that
        return Rejected("nested too deep")
