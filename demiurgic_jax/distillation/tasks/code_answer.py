"""The common part of judging answers that are a function: find it, parse it, test it."""

from collections.abc import Callable

from demiurgic_jax.curation.python_code import parses
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion
from demiurgic_jax.distillation.tasks.answers import FunctionNode, code_in, function_named, repeats_itself
from demiurgic_jax.distillation.tasks.doctests import Outcome, run_doctests
from demiurgic_jax.distillation.tasks.task import Kept, Rejected

# Looks at the answered function and at the outcome of its tests; returns further verdicts, or why it is rejected.
Look = Callable[[FunctionNode, Outcome], dict[str, str] | Rejected]


def judge_code(seed: Seed, answer: Completion, look: Look, *, sandbox: bool) -> Kept | Rejected:
    """Keeps an answer that holds a function of the seed's name which parses, does not fail the seed's tests, and
    passes `look`."""
    if not answer.text.strip():
        return Rejected("empty")
    if repeats_itself(answer.text):
        return Rejected("repeats itself")
    code = code_in(answer.text)
    if code is None:
        return Rejected("no code")
    if answer.finish_reason == "length" and answer.text.count("```") % 2:
        return Rejected("cut off")
    if not parses(code):
        return Rejected("does not parse")
    node = function_named(code, seed.name.rpartition(".")[2])
    if node is None:
        return Rejected("another function", f"expected {seed.name}")
    tests = run_doctests(seed, code, sandbox=sandbox)
    if tests == "failed":
        return Rejected("tests failed")
    seen = look(node, tests)
    if isinstance(seen, Rejected):
        return seen
    return Kept(answer.text.strip() + "\n", {"syntax": "parses", "tests": tests, **seen})
