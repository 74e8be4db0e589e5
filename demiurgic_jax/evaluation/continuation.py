"""The way from an answer to a program that most benchmarks share: the answer goes on from a prompt."""

import re
from dataclasses import dataclass

from demiurgic_jax.evaluation.benchmark import Form, Trial
from demiurgic_jax.evaluation.extraction import code_of, cut_after_block, cut_at, defines
from demiurgic_jax.sandbox.verdict import Language

_JAVA_TYPE = re.compile(r"^\s*(?:public\s+|final\s+|abstract\s+)*(?:class|interface|record|enum)\s", re.MULTILINE)


@dataclass(frozen=True)
class Continuation:
    """`before` + answer + `after` is the program.

    A raw answer is cut at `stops` and, with `cut_block`, where the function ends. A chat answer that defines
    `entry_point` stands by itself behind `preamble` (imports, and functions that the problem gives); any other is taken
    as a continuation, like a raw one. With `calls_check` the tests are a function `check` that the sandbox calls with
    the entry point. `setup` comes before every program.
    """

    language: Language
    before: str
    tests: str
    entry_point: str
    preamble: str = ""
    after: str = ""
    stops: tuple[str, ...] = ()
    cut_block: bool = False
    calls_check: bool = False
    setup: str = ""

    def trial(self, answer: str, form: Form) -> Trial:
        entry = self.entry_point if self.calls_check else None
        return Trial(self.setup + self._program(answer, form), self.tests, entry)

    def _program(self, answer: str, form: Form) -> str:
        if form == "chat":
            code = code_of(answer, self.language, self.entry_point or None)
            if self.entry_point and defines(code, self.entry_point, self.language):
                return self._standing_alone(code)
            return self.before + code + self.after
        answer = cut_at(answer, self.stops)
        if self.cut_block:
            answer = cut_after_block(answer, self.language, 2 if self.language == "java" else 1)
        return self.before + answer + self.after

    def _standing_alone(self, code: str) -> str:
        if self.language == "go":
            # With a package line of its own the code is whole; its imports are merged with ours by the sandbox.
            return code if re.match(r"\s*package\s", code) else f"{self.preamble}\n{code}"
        if self.language == "java" and not _JAVA_TYPE.search(code):
            imports = re.findall(r"^\s*import\s[^;]*;", code, re.MULTILINE)
            body = re.sub(r"^\s*import\s[^;]*;", "", code, flags=re.MULTILINE)
            return "\n".join([self.preamble, *imports, "class Solution {", body, "}\n"])
        return f"{self.preamble}\n{code}"
