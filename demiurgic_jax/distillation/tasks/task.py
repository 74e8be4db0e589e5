"""What a task is: it makes a question of a seed, and judges the answer."""

import random
from dataclasses import dataclass, field
from typing import Protocol

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion, CompletionRequest, Message


@dataclass(frozen=True)
class Question:
    """Either `messages` or a raw `prompt`, and what ends the answer."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """An answer worth learning: the text to learn, and what is known of it (check to outcome)."""

    completion: str
    verdicts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejected:
    """An answer that is not kept. `reason` is one of a few words that are counted; `detail` is for a reader."""

    reason: str
    detail: str = ""


class Task(Protocol):
    """One kind of question about code of one language. Pure: the same arguments give the same result."""

    name: str
    # Whether seeds whose docstring has examples are asked about first: where an answer that merely parses says little.
    tested_seeds_first: bool

    def build(self, seed: Seed, rng: random.Random) -> Question | None:
        """The question about `seed`, or None where the seed does not suit the task."""
        ...

    def judge(self, seed: Seed, request: CompletionRequest, answer: Completion, *, sandbox: bool) -> Kept | Rejected:
        """Keeps or rejects the teacher's answer. Code runs only if `sandbox`, and then only inside of it."""
        ...


def ask_user(text: str) -> Question:
    """A question of one chat turn."""
    return Question(messages=(Message("user", text),))
