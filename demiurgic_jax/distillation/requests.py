"""From seeds to the list of what the teacher is to be asked: a pure function."""

import hashlib
import random
from collections.abc import Mapping, Sequence

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.tasks.behaviour import seed_signature
from demiurgic_jax.distillation.tasks.doctests import has_examples
from demiurgic_jax.distillation.tasks.prompts import version
from demiurgic_jax.distillation.tasks.registry import task_named
from demiurgic_jax.distillation.tasks.task import Manner, Question
from demiurgic_jax.errors import UserError


def plan_requests(
    seeds: Sequence[Seed],
    *,
    tasks: Mapping[str, int],
    seed: int,
    max_tokens: int | Mapping[str, int],
    temperature: float = 0.0,
    top_p: float = 1.0,
    logprobs: int | None = None,
    manner: Manner | None = None,
) -> list[TeacherRequest]:
    """`tasks[name]` requests of each task, tasks in the order of their names, seeds in an order drawn from `seed`
    (those that an answer can be tested on first, for tasks that want it), asked in `manner` (plainly by default).

    Where the suitable seeds are fewer than the requests wanted, they are used again with another sampling seed if
    `temperature` is above 0, else the list is shorter. Raises UserError for an unknown task.
    """
    manner = manner or Manner()
    planned: list[TeacherRequest] = []
    for name in sorted(tasks):
        task = task_named(name)
        tokens = max_tokens if isinstance(max_tokens, int) else max_tokens.get(name)
        if tokens is None:
            raise UserError(f"max_tokens has no entry for task {name!r}: add one")
        wanted = len(planned) + tasks[name]
        repeat = 0
        tested = {each.id for each in seeds if task.tested_seeds_first and _can_be_tested(each, manner)}
        order = sorted(seeds, key=lambda each: (each.id not in tested, _number(seed, name, each.id)))
        while len(planned) < wanted and (repeat == 0 or temperature > 0):
            before = len(planned)
            for each in order:
                number = _number(seed, name, each.id, repeat)
                question = task.build(each, random.Random(number), manner) if len(planned) < wanted else None
                if question is not None:
                    request = _request(question, tokens, temperature, top_p, number % 2**31, logprobs)
                    language = question.language or each.language
                    origin = each.id, each.name, each.path, each.licence
                    planned.append(TeacherRequest(name, language, *origin, request, version(name, manner.prompts)))
            if len(planned) == before:
                break
            repeat += 1
    return planned


def _can_be_tested(seed: Seed, manner: Manner) -> bool:
    typed = manner.prompts == "styled" or seed.language != "python"
    return has_examples(seed) or (typed and seed_signature(seed) is not None)


def _request(
    question: Question, max_tokens: int, temperature: float, top_p: float, seed: int, logprobs: int | None
) -> CompletionRequest:
    return CompletionRequest(
        messages=question.messages,
        prompt=question.prompt,
        stop=question.stop,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        logprobs=logprobs,
    )


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
