"""Asks a model every question of a benchmark and judges the answers as they come."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from demiurgic_jax.data.completer import Completer, Completion, CompletionRequest, UnanswerableError
from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.benchmark import Benchmark, Form, Problem, Question
from demiurgic_jax.evaluation.judging import judge, not_run
from demiurgic_jax.evaluation.results import (
    NOT_RUN,
    Answer,
    Key,
    Lines,
    Result,
    folder_of,
    read_answers,
    read_results,
)
from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.toolchains import why_missing
from demiurgic_jax.sandbox.verdict import Limits


@dataclass(frozen=True)
class Asking:
    """How a model is asked. `samples` of each problem at `temperature` (0: greedy); `max_tokens` 0 is the benchmark's
    own bound. A request that fails is sent `attempts` times, after waits that grow from `wait_seconds`. Every sample
    has a seed of its own that follows from `seed`, the problem and its number."""

    form: Form = "raw"
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 0
    seed: int = 0
    concurrency: int = 16
    attempts: int = 4
    wait_seconds: float = 1.0


@dataclass
class Progress:
    """What is done of a benchmark, in samples."""

    total: int
    answered: int = 0
    judged: int = 0
    passed: int = 0


def evaluate(
    benchmark: Benchmark,
    completer: Completer,
    asking: Asking,
    out: Path,
    *,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] = lambda done: None,
    run_untrusted_code_without_isolation: bool = False,
) -> list[Result]:
    """The judged answers of all problems, in their order; those that `out` has already are neither asked nor run again.

    Problems in languages without a toolchain are not asked, and their verdict is "not run". Raises UserError where
    code cannot be isolated, and, with everything that came kept, where the model can no longer be asked: the same call
    goes on.
    """
    return asyncio.run(
        evaluate_async(
            benchmark,
            completer,
            asking,
            out,
            limits=limits,
            progress=progress,
            run_untrusted_code_without_isolation=run_untrusted_code_without_isolation,
        )
    )


async def evaluate_async(
    benchmark: Benchmark,
    completer: Completer,
    asking: Asking,
    out: Path,
    *,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] = lambda done: None,
    run_untrusted_code_without_isolation: bool = False,
) -> list[Result]:
    """`evaluate` for a completer that belongs to a running event loop, as an HTTP client does."""
    require_isolation(run_untrusted_code_without_isolation)
    folder = folder_of(out, benchmark.name)
    answers = read_answers(folder / "answers.jsonl")
    # A toolchain may have come since.
    judged = read_results(folder / "results.jsonl")
    results = {key: result for key, result in judged.items() if result.verdict != NOT_RUN}
    wanted = [(problem, sample) for sample in range(asking.samples) for problem in benchmark.problems]
    keys = [(problem.id, sample) for problem, sample in wanted]
    done = Progress(len(wanted), *_counts(keys, answers, results))
    slots = asyncio.Semaphore(asking.concurrency)
    loop = asyncio.get_running_loop()
    broken: list[UserError] = []
    progress(done)
    with (
        Lines(folder / "answers.jsonl") as answer_lines,
        Lines(folder / "results.jsonl") as result_lines,
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="judging") as judges,
    ):

        async def one(problem: Problem, sample: int) -> None:
            key = problem.id, sample
            if key in results:
                return
            missing = why_missing(problem.language)
            if missing is not None:
                results[key] = not_run(problem, sample, missing)
                if key not in judged:
                    result_lines.append(results[key])
                done.total -= 1
                return
            if key not in answers:
                async with slots:
                    if broken:
                        return
                    try:
                        answer = await _ask(completer, problem, sample, asking, benchmark.max_tokens)
                    except UserError as error:
                        broken.append(error)
                        return
                answers[key] = answer
                answer_lines.append(answer)
                done.answered += 1
                progress(done)
            result = await loop.run_in_executor(
                judges, judge, problem, answers[key], asking.form, limits, run_untrusted_code_without_isolation
            )
            results[key] = result
            result_lines.append(result)
            done.judged += 1
            done.passed += result.passed
            progress(done)

        # A task group, so that a failure of ours does not leave others at work on closed files.
        async with asyncio.TaskGroup() as tasks:
            for problem, sample in wanted:
                tasks.create_task(one(problem, sample))
    if broken:
        raise UserError(
            f"{benchmark.name}: {done.answered:,} of {done.total:,} answers are kept in {folder}, then the model could "
            f"not be asked any more: {broken[0]}. The same command goes on from there"
        ) from broken[0]
    return [results[key] for key in keys]


def require_isolation(run_untrusted_code_without_isolation: bool) -> None:
    """Raises UserError where a model's code cannot be isolated and nobody has accepted that."""
    reason = None if run_untrusted_code_without_isolation else why_unavailable()
    if reason is not None:
        raise UserError(
            f"a model's code is not run without isolation: {reason}. Mend that, or accept with "
            "--run-untrusted-code-without-isolation that the code can do all that you can"
        )


def _counts(keys: Sequence[Key], answers: dict[Key, Answer], results: dict[Key, Result]) -> tuple[int, int, int]:
    judged = [results[key] for key in keys if key in results]
    return sum(key in answers for key in keys), len(judged), sum(result.passed for result in judged)


async def _ask(completer: Completer, problem: Problem, sample: int, asking: Asking, bound: int) -> Answer:
    """The answer to a problem; to both questions of an explain problem. What the model cannot take is `refused`."""
    began = time.monotonic()
    question, explanation = problem.question, ""
    try:
        if problem.retelling is not None:
            first = await _complete(completer, _request(question, problem, sample, asking, bound), asking)
            explanation = first.text
            question = problem.retelling.ask(explanation)
        answer = await _complete(completer, _request(question, problem, sample, asking, bound), asking)
    except UnanswerableError as error:
        return _answer(problem, sample, question, asking.form, None, began, explanation, str(error))
    return _answer(problem, sample, question, asking.form, answer, began, explanation)


def _answer(
    problem: Problem,
    sample: int,
    question: Question,
    form: Form,
    answer: Completion | None,
    began: float,
    explanation: str,
    refused: str = "",
) -> Answer:
    return Answer(
        problem=problem.id,
        sample=sample,
        prompt=question.chat if form == "chat" else question.raw,
        answer=answer.text if answer else "",
        finish_reason=answer.finish_reason if answer else "",
        prompt_tokens=answer.prompt_tokens if answer else 0,
        completion_tokens=answer.completion_tokens if answer else 0,
        seconds=round(time.monotonic() - began, 3),
        explanation=explanation,
        refused=refused,
    )


def _request(question: Question, problem: Problem, sample: int, asking: Asking, bound: int) -> CompletionRequest:
    return question.request(
        asking.form,
        max_tokens=asking.max_tokens or bound,
        temperature=asking.temperature,
        top_p=asking.top_p,
        seed=None if asking.temperature == 0 else sample_seed(asking.seed, problem.id, sample),
    )


def sample_seed(seed: int, problem: str, sample: int) -> int:
    """31 bits, which every server takes, the same for the same arguments."""
    digest = hashlib.sha256(f"{seed}\n{problem}\n{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


async def _complete(completer: Completer, request: CompletionRequest, asking: Asking) -> Completion:
    """Raises UnanswerableError at once, another UserError after the last attempt."""
    for attempt in range(1, asking.attempts + 1):
        try:
            return await completer.complete(request)
        except UnanswerableError:
            raise
        except UserError:
            if attempt == asking.attempts:
                raise
            await asyncio.sleep(asking.wait_seconds * 2 ** (attempt - 1))
    raise UserError(f"attempts is {asking.attempts}: give at least 1")
