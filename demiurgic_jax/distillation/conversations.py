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
    """What was asked so far, the answers as they were paid for, and whether the last request has none yet."""

    requests: tuple[TeacherRequest, ...]
    turns: tuple[Turn, ...]
    answers: tuple[Answer, ...]

    @property
    def first(self) -> TeacherRequest:
        return self.requests[0]

    @property
    def open(self) -> bool:
        """Whether the last request has no answer yet."""
        return len(self.requests) > len(self.turns)


def conversation(
    first: TeacherRequest, seed: Seed, answer_to: Callable[[CompletionRequest], Answer | None]
) -> Conversation:
    """Follows a request as far as there are answers."""
    task, requests, turns, answers = task_named(first.task), [first], list[Turn](), list[Answer]()
    while (answer := answer_to((asked := requests[-1]).request)) is not None:
        turns.append(Turn(asked.request, answer.completion, asked.language))
        answers.append(answer)
        try:
            question = task.follow_up(seed, turns)
        except RecursionError:  # an answer nested too deep: judging it will say so
            question = None
        if question is None:
            break
        request = replace(first.request, messages=question.messages, prompt=question.prompt, stop=question.stop)
        requests.append(replace(first, language=question.language or first.language, request=request))
    return Conversation(tuple(requests), tuple(turns), tuple(answers))


def conversations(
    requests: Sequence[TeacherRequest], seeds: Iterable[Seed], answer_to: Callable[[CompletionRequest], Answer | None]
) -> list[Conversation]:
    """Of all requests, in order. Raises UserError where a request's seed is not among `seeds`."""
    by_id: Mapping[str, Seed] = {seed.id: seed for seed in seeds}
    for request in requests:
        if request.seed_id not in by_id:
            raise UserError(f"seed {request.seed_id} of {request.path} is missing: cut seeds again, then plan and ask")
    return [conversation(request, by_id[request.seed_id], answer_to) for request in requests]
