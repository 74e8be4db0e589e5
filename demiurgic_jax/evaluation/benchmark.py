"""What a benchmark is: problems, each with its question, its way from an answer to a program, and its tests."""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

from demiurgic_jax.data.completer import CompletionRequest, Message
from demiurgic_jax.sandbox.verdict import Language

# How a model is asked: it continues a text, or it answers a message.
Form = Literal["raw", "chat"]

# Stands in the second question of an explain problem where the model's explanation goes.
EXPLANATION = "{explanation}"


@dataclass(frozen=True)
class Question:
    """One question in both forms. `stop` ends raw completions; `suffix` is the text after a hole, None for none."""

    raw: str
    chat: str
    stop: tuple[str, ...] = ()
    suffix: str | None = None

    def request(self, form: Form, **sampling: float | int | None) -> CompletionRequest:
        """The question as a request; `sampling` are the other fields of CompletionRequest."""
        if form == "chat":
            return CompletionRequest(messages=(Message("user", self.chat),), **sampling)  # type: ignore[arg-type]
        return CompletionRequest(prompt=self.raw, suffix=self.suffix, stop=self.stop, **sampling)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Retelling:
    """The second half of an explain problem: the code is written again from the explanation alone.

    Lines of `code` that the explanation repeats are taken out of it, and it is cut to `limit` characters (0: not), as
    HumanEvalPack does, so that the code itself does not get through.
    """

    question: Question
    code: str
    limit: int = 0

    def ask(self, explanation: str) -> Question:
        text = explanation.strip()
        text = (text[: self.limit] if self.limit else text).rstrip()
        for line in map(str.strip, self.code.splitlines()):
            if len(line) > 20:
                text = text.replace(line, "")
        return replace(
            self.question,
            raw=self.question.raw.replace(EXPLANATION, text),
            chat=self.question.chat.replace(EXPLANATION, text),
        )


@dataclass(frozen=True)
class Trial:
    """What the sandbox is given. With `refused` the answer has failed already, and nothing is run."""

    candidate: str
    tests: str
    entry_point: str | None = None
    refused: str = ""


class Judging(Protocol):
    """How an answer becomes a program with tests."""

    def trial(self, answer: str, form: Form) -> Trial: ...


@dataclass(frozen=True)
class Problem:
    """One problem. `canonical` and `buggy` are answers in raw form: the first passes, the second fails."""

    id: str
    language: Language
    skill: str
    question: Question
    judging: Judging
    canonical: str
    buggy: str | None = None
    bug_type: str = ""
    retelling: Retelling | None = None


@dataclass(frozen=True)
class Benchmark:
    """Problems under one name; `files` are what they were read from, by name with SHA-256 (hex). `max_tokens` bounds
    an answer where the user says nothing."""

    name: str
    problems: tuple[Problem, ...]
    files: dict[str, str]
    max_tokens: int = 512
