"""Fix: real code is broken in one place, the teacher is to mend it."""

import random

from demiurgic_jax.curation.python_code import functions, syntax_tree
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.tasks.answers import FunctionNode, code_in, fenced, same_function
from demiurgic_jax.distillation.tasks.code_answer import judge_code
from demiurgic_jax.distillation.tasks.doctests import Outcome
from demiurgic_jax.distillation.tasks.mutation import break_code
from demiurgic_jax.distillation.tasks.task import Kept, Question, Rejected, ask_user


class Fix:
    """Kept only if proven: the answer is the original again, or passes the tests of the seed."""

    name = "fix"
    tested_seeds_first = True

    def build(self, seed: Seed, rng: random.Random) -> Question | None:
        found = functions(seed.code) if seed.kind in ("function", "method") else []
        broken = break_code(seed.code, found[0].body_line, rng) if len(found) == 1 else None
        if broken is None:
            return None
        return ask_user(f"This Python function has a bug. Answer with the fixed code only.\n\n{fenced(broken)}")

    def judge(self, seed: Seed, request: CompletionRequest, answer: Completion, *, sandbox: bool) -> Kept | Rejected:
        original, broken = _function(seed.code), _function(code_in(request.messages[-1].content) or "")

        def look(node: FunctionNode, tests: Outcome) -> dict[str, str] | Rejected:
            if same_function(node, broken):
                return Rejected("unchanged")
            if same_function(node, original):
                return {"fix": "is the original"}
            return (
                {"fix": "passes the tests"}
                if tests == "passed"
                else Rejected("not proven", "differs from the original")
            )

        return judge_code(seed, answer, look, sandbox=sandbox)


def _function(code: str) -> FunctionNode:
    node = syntax_tree(code).body[0]
    assert isinstance(node, FunctionNode), "Fix.build asks about single functions only"
    return node
