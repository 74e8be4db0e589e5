"""Refactor: a function goes to the teacher, a simpler one of the same behaviour comes back."""

import ast
import random

from demiurgic_jax.curation.python_code import functions
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.tasks.answers import FunctionNode, fenced, function_named, same_function, size
from demiurgic_jax.distillation.tasks.code_answer import judge_code
from demiurgic_jax.distillation.tasks.doctests import Outcome
from demiurgic_jax.distillation.tasks.task import Kept, Question, Rejected, ask_user


class Refactor:
    """Kept if the parameters are the same, the code is another and not larger, and the seed's tests, if any, pass."""

    name = "refactor"
    tested_seeds_first = True

    def build(self, seed: Seed, rng: random.Random) -> Question | None:
        found = functions(seed.code) if seed.kind == "function" else []
        if len(found) != 1:
            return None
        return ask_user(
            "Rewrite this Python function so that it is simpler and does the same. Answer with the code only.\n\n"
            + fenced(seed.code)
        )

    def judge(self, seed: Seed, request: CompletionRequest, answer: Completion, *, sandbox: bool) -> Kept | Rejected:
        original = function_named(seed.code, seed.name)
        assert original is not None, "Refactor.build asks about functions only"

        def look(node: FunctionNode, tests: Outcome) -> dict[str, str] | Rejected:
            if same_function(node, original):
                return Rejected("unchanged")
            if ast.dump(node.args) != ast.dump(original.args) or type(node) is not type(original):
                return Rejected("another signature")
            if size(node) > size(original):
                return Rejected("not simpler", f"{size(node)} syntax nodes, the original has {size(original)}")
            return {"size": f"{size(node)}/{size(original)}"}

        return judge_code(seed, answer, look, sandbox=sandbox)
