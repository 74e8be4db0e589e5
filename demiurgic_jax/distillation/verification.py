"""From stored answers to examples: each is checked, and kept or rejected with a reason."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.example import Example, Rejection
from demiurgic_jax.distillation.ledger import Answer, Ledger
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.tasks.registry import task_named
from demiurgic_jax.distillation.tasks.task import Kept, Rejected
from demiurgic_jax.errors import UserError


def verify_all(
    requests: Sequence[TeacherRequest],
    ledger: Ledger,
    seeds: Iterable[Seed],
    *,
    sandbox: bool,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Example], list[Rejection]]:
    """Examples and rejections in the order of `requests`; equal requests give one, those without an answer none.

    Code runs only if `sandbox`; without, it is checked by parsing alone. Equal completions of equal prompts count
    once ("duplicate"). `progress` gets the numbers of those done and of all. Raises UserError where a request's seed
    is not among `seeds`.
    """
    by_id = {seed.id: seed for seed in seeds}
    answered: dict[str, tuple[TeacherRequest, Answer]] = {}
    for request in requests:
        if request.seed_id not in by_id:
            raise UserError(f"seed {request.seed_id} of {request.path} is missing: cut seeds again, then plan and ask")
        answer = ledger.answer(request.request)
        if answer is not None:
            answered.setdefault(ledger.key(request.request), (request, answer))

    def check(item: tuple[str, tuple[TeacherRequest, Answer]]) -> Example | Rejection:
        key, (request, answer) = item
        return _check(key, request, answer, by_id[request.seed_id], sandbox)

    examples: list[Example] = []
    rejections: list[Rejection] = []
    learned: set[tuple[object, ...]] = set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, checked in enumerate(pool.map(check, answered.items()), start=1):
            if isinstance(checked, Example) and (content := _content(checked)) in learned:
                checked = Rejection(checked.id, checked.task, "duplicate", "", checked.completion)
            if isinstance(checked, Example):
                learned.add(content)
                examples.append(checked)
            else:
                rejections.append(checked)
            if progress is not None:
                progress(done, len(answered))
    return examples, rejections


def _content(example: Example) -> tuple[object, ...]:
    return example.messages, example.prompt, example.completion


def _check(key: str, request: TeacherRequest, answer: Answer, seed: Seed, sandbox: bool) -> Example | Rejection:
    completion = answer.completion
    judged: Kept | Rejected
    try:
        judged = task_named(request.task).judge(seed, request.request, completion, sandbox=sandbox)
    except RecursionError:  # thousands of nested brackets or chained operators; no code of use looks like that
        judged = Rejected("nested too deep")
    if isinstance(judged, Rejected):
        return Rejection(key, request.task, judged.reason, judged.detail, completion.text)
    return Example(
        id=key,
        task=request.task,
        language=request.language,
        messages=request.request.messages,
        prompt=request.request.prompt,
        completion=judged.completion,
        verdicts=judged.verdicts,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        cost=answer.cost,
        teacher=answer.model,
        seed_id=seed.id,
        seed_name=seed.name,
        path=seed.path,
        licence=seed.licence,
    )
