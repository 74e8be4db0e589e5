"""Generate: a signature and one sentence go to the teacher, a function comes back."""

import ast
import random

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.tasks.answers import function_named, is_stub
from demiurgic_jax.distillation.tasks.code_answer import judge_code
from demiurgic_jax.distillation.tasks.task import Kept, Question, Rejected, ask_user


class Generate:
    """Suits documented functions that are not special methods."""

    name = "generate"
    tested_seeds_first = False

    def build(self, seed: Seed, rng: random.Random) -> Question | None:
        if seed.kind != "function" or not seed.docstring or not seed.docstring.strip():
            return None
        node = function_named(seed.code, seed.name)
        if node is None:
            return None
        purpose = " ".join(seed.docstring.strip().split("\n\n")[0].split())
        keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        return ask_user(
            f"Write a Python function `{keyword} {seed.name}({ast.unparse(node.args)})`. Its docstring is: {purpose}\n"
            "Answer with the code only."
        )

    def judge(self, seed: Seed, request: CompletionRequest, answer: Completion, *, sandbox: bool) -> Kept | Rejected:
        return judge_code(seed, answer, lambda node, tests: Rejected("stub") if is_stub(node) else {}, sandbox=sandbox)
