"""A request and all that follows from its answer: tasks may ask again about what they were told."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation.ledger import Answer
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.tasks.registry import task_named
from demiurgic_jax.distillation.tasks.task import Turn
from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class Conversation:
    """The turns so far, their answers as they were paid for, and what is to be asked next, if anything."""

    first: TeacherRequest
    turns: tuple[Turn, ...]
    answers: tuple[Answer, ...]
    open: TeacherRequest | None


def conversation(
    first: TeacherRequest, seed: Seed, answer_to: Callable[[CompletionRequest], Answer | None]
) -> Conversation:
    """Follows a request as far as there are answers."""
    task, turns, answers = task_named(first.task), [], []
    asked: TeacherRequest | None = first
    while asked is not None and (answer := answer_to(asked.request)) is not None:
        turns.append(Turn(asked.request, answer.completion, asked.language))
        answers.append(answer)
        try:
            question = task.follow_up(seed, turns)
        except RecursionError:  # an answer nested too deep: judging it will say so
            question = None
        asked = question and replace(
            first,
            language=question.language or first.language,
            request=replace(first.request, messages=question.messages, prompt=question.prompt, stop=question.stop),
        )
    return Conversation(first, tuple(turns), tuple(answers), asked)


def conversations(
    requests: Sequence[TeacherRequest], seeds: Iterable[Seed], answer_to: Callable[[CompletionRequest], Answer | None]
) -> list[Conversation]:
    """Of all requests, in order. Raises UserError where a request's seed is not among `seeds`."""
    by_id: Mapping[str, Seed] = {seed.id: seed for seed in seeds}
    for request in requests:
        if request.seed_id not in by_id:
            raise UserError(f"seed {request.seed_id} of {request.path} is missing: cut seeds again, then plan and ask")
    return [conversation(request, by_id[request.seed_id], answer_to) for request in requests]
