"""One answer, run against its problem's tests in the sandbox."""

import time

from demiurgic_jax.evaluation.benchmark import Form, Problem
from demiurgic_jax.evaluation.results import NOT_RUN, REFUSED, Answer, Result
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.verdict import Limits


def judge(
    problem: Problem,
    answer: Answer,
    form: Form,
    limits: Limits | None = None,
    run_untrusted_code_without_isolation: bool = False,
) -> Result:
    """Nothing is run for an answer that is empty or that the model was not asked for."""
    began = time.monotonic()
    verdict, reason = _verdict(problem, answer, form, limits, run_untrusted_code_without_isolation)
    return _result(problem, answer, verdict, reason, round(time.monotonic() - began, 3))


def not_run(problem: Problem, sample: int, reason: str) -> Result:
    """The result of a problem whose language has no toolchain here; the model is not asked."""
    return _result(problem, Answer(problem.id, sample, "", "", "", 0, 0, 0.0), NOT_RUN, reason, 0.0)


def _result(problem: Problem, answer: Answer, verdict: str, reason: str, run_seconds: float) -> Result:
    return Result(
        problem=problem.id,
        sample=answer.sample,
        language=problem.language,
        skill=problem.skill,
        bug_type=problem.bug_type,
        prompt=answer.prompt,
        answer=answer.answer,
        explanation=answer.explanation,
        verdict=verdict,
        reason=reason,
        seconds=answer.seconds,
        run_seconds=run_seconds,
        completion_tokens=answer.completion_tokens,
    )


def _verdict(
    problem: Problem, answer: Answer, form: Form, limits: Limits | None, without_isolation: bool
) -> tuple[str, str]:
    if answer.refused:
        return REFUSED, answer.refused
    if not answer.answer.strip():
        return "failed", "the model wrote nothing"
    trial = problem.judging.trial(answer.answer, form)
    if trial.refused:
        return "failed", trial.refused
    found = run_tests(
        problem.language,
        trial.candidate,
        trial.tests,
        entry_point=trial.entry_point,
        limits=limits,
        run_untrusted_code_without_isolation=without_isolation,
    )
    return found.status, found.reason or ("" if found.passed else _last_line(found.stderr))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
