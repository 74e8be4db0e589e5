"""The common part of judging answers that are a function: find it, parse it, test it."""

from collections.abc import Callable

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion
from demiurgic_jax.distillation.tasks.answers import code_in, is_code, useless
from demiurgic_jax.distillation.tasks.behaviour import Outcome
from demiurgic_jax.distillation.tasks.checks import Check, run_checks
from demiurgic_jax.distillation.tasks.functions import Function, function_named
from demiurgic_jax.distillation.tasks.task import Kept, Rejected

# Looks at the answered function, before anything is run, and then at the outcome of its tests too; each returns
# further verdicts, or why the answer is rejected.
Look = Callable[[Function], dict[str, str] | Rejected]
Tested = Callable[[Function, Outcome], dict[str, str] | Rejected]


def code_of(answer: Completion, language: str) -> str | Rejected:
    """The code of an answer that is code, or why it is none."""
    if reason := useless(answer.text):
        return Rejected(reason)
    code = code_in(answer.text, language)
    if code is None:
        return Rejected("no code")
    if answer.finish_reason == "length" and answer.text.count("```") % 2:
        return Rejected("cut off")
    return code if is_code(code, language) else Rejected("does not parse")


def judge_code(
    seed: Seed, answer: Completion, look: Look, check: Check, *, tested: Tested = lambda *_: {}, turn: int = 0
) -> Kept | Rejected:
    """Keeps an answer that holds a function of the seed's name which parses, passes `look`, does not fail the seed's
    tests, and passes `tested`."""
    code = code_of(answer, seed.language)
    if isinstance(code, Rejected):
        return code
    function = function_named(code, seed.name, seed.language)
    if function is None:
        return Rejected("another function", f"expected {seed.name}")
    seen = look(function)
    if isinstance(seen, Rejected):
        return seen
    tests = run_checks(seed, code, check)
    if tests == "failed":
        return Rejected("tests failed")
    proven = tested(function, tests)
    if isinstance(proven, Rejected):
        return proven
    return Kept(answer.text.strip() + "\n", {"syntax": "parses", "tests": tests, **seen, **proven}, turn)
