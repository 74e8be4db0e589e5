"""Explain: a function goes to the teacher, prose comes back."""

import ast
import random
import re

from demiurgic_jax.curation.python_code import syntax_tree
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.tasks.answers import fenced, prose_in, repeats_itself
from demiurgic_jax.distillation.tasks.task import Kept, Question, Rejected, ask_user

_MIN_WORDS = 12
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)")


class Explain:
    """What is kept is prose that names something of the code and ends with a sentence."""

    name = "explain"
    tested_seeds_first = False

    def build(self, seed: Seed, rng: random.Random) -> Question | None:
        if seed.kind == "file":
            return None
        return ask_user(f"Explain in a few sentences what this Python code does.\n\n{fenced(seed.code)}")

    def judge(self, seed: Seed, request: CompletionRequest, answer: Completion, *, sandbox: bool) -> Kept | Rejected:
        text = answer.text.strip()
        if answer.finish_reason == "length":
            ends = [match.end() for match in _SENTENCE_END.finditer(text)]
            if not ends:
                return Rejected("cut off")
            text = text[: ends[-1]]
            if text.count("```") % 2:
                return Rejected("cut off", "inside a code block")
        if not text:
            return Rejected("empty")
        if repeats_itself(text):
            return Rejected("repeats itself")
        prose = prose_in(text)
        if len(prose.split()) < _MIN_WORDS:
            return Rejected("too short", f"{len(prose.split())} words of prose")
        if not set(re.findall(r"\w+", prose)) & _names(seed.code):
            return Rejected("off the subject", "names nothing of the code")
        return Kept(text + "\n", {"prose": "names the code"})


def _names(code: str) -> set[str]:
    """Identifiers of `code` that a reader could not have used by chance."""
    names: set[str] = set()
    for node in ast.walk(syntax_tree(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    return {name for name in names if len(name) > 2}
