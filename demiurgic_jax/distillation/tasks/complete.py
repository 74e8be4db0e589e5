"""Complete: the beginning of a function goes to the teacher as raw text, to be continued."""

import random

from demiurgic_jax.curation.python_code import functions, parses, syntax_tree
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.tasks.answers import FunctionNode, is_stub, repeats_itself
from demiurgic_jax.distillation.tasks.doctests import run_doctests
from demiurgic_jax.distillation.tasks.task import Kept, Question, Rejected


class Complete:
    """The prompt is signature, docstring and up to half of the body; what is kept ends with a whole line."""

    name = "complete"
    tested_seeds_first = False

    def build(self, seed: Seed, rng: random.Random) -> Question | None:
        found = functions(seed.code) if seed.kind in ("function", "method") else []
        node = syntax_tree(seed.code).body[0] if len(found) == 1 else None
        if not isinstance(node, FunctionNode) or is_stub(node):
            return None
        lines = seed.code.splitlines(keepends=True)
        body_lines = len(lines) - found[0].body_line
        given = found[0].body_line + rng.randint(0, body_lines // 2)
        if body_lines < 2 or found[0].body_line == 0:
            return None
        # No line end behind it: with the next line's indent that is often one token, which must not be cut in two.
        return Question(prompt="".join(lines[:given]).rstrip(), stop=("\ndef ", "\nclass ", "\n@", "\n```"))

    def judge(self, seed: Seed, request: CompletionRequest, answer: Completion, *, sandbox: bool) -> Kept | Rejected:
        prompt = request.prompt or ""
        if not answer.text.strip():
            return Rejected("empty")
        if repeats_itself(answer.text):
            return Rejected("repeats itself")
        kept = _whole_lines(prompt, answer.text)
        if kept is None:
            return Rejected("does not parse")
        if not any(line.strip() and not line.strip().startswith("#") for line in kept.splitlines()):
            return Rejected("adds no code")
        tests = run_doctests(seed, prompt + kept, sandbox=sandbox)
        if tests == "failed":
            return Rejected("tests failed")
        return Kept(kept, {"syntax": "parses", "tests": tests})


def _whole_lines(prompt: str, text: str) -> str | None:
    """The longest beginning of `text`, in whole lines, that parses behind `prompt`: what a cut-off end leaves."""
    lines = text.rstrip().splitlines(keepends=True)
    for count in range(len(lines), 0, -1):
        kept = "".join(lines[:count]).rstrip()
        if parses(prompt + kept):
            return kept + "\n"
    return None
