"""What a task is: it makes a question of a seed, and judges the answer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.distillation.tasks.checks import Check
from demiurgic_jax.distillation.tasks.prompts import Prompts


@dataclass(frozen=True)
class Manner:
    """How a task asks: with which prompts, and into which languages it translates."""

    prompts: Prompts = "plain"
    targets: tuple[str, ...] = tuple(LANGUAGES)


@dataclass(frozen=True)
class Question:
    """Either `messages` or a raw `prompt`, and what ends the answer. `language` is that of the answer where it is not
    the seed's."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    stop: tuple[str, ...] = ()
    language: str | None = None


@dataclass(frozen=True)
class Turn:
    """A question that was asked, and its answer. `language` is that of the answer."""

    request: CompletionRequest
    answer: Completion
    language: str = "python"

    @property
    def asked(self) -> str:
        """The last message, or the raw prompt."""
        return self.request.messages[-1].content if self.request.messages else self.request.prompt or ""

    @property
    def styled(self) -> bool:
        """Whether it was asked with a system prompt: those of the plain manner have none."""
        return bool(self.request.messages) and self.request.messages[0].role == "system"


@dataclass(frozen=True)
class Kept:
    """An answer worth learning: the text to learn, and what is known of it (check to outcome).

    It answers the question of `turn`; with `fill` it is what stands between these two texts instead.
    """

    completion: str
    verdicts: dict[str, str] = field(default_factory=dict)
    turn: int = 0
    fill: tuple[str, str] | None = None


@dataclass(frozen=True)
class Rejected:
    """An answer that is not kept. `reason` is one of a few words that are counted; `detail` is for a reader."""

    reason: str
    detail: str = ""


class Task:
    """One kind of question about code. Pure: the same arguments give the same result."""

    name: str
    # Whether seeds that can be tested are asked about first: where an answer that merely parses says little.
    tested_seeds_first = False
    # The most questions that one seed leads to in the styled manner; plainly it is one.
    most_turns = 1

    def build(self, seed: Seed, draw: random.Random, manner: Manner) -> Question | None:
        """The question about `seed`, or None where the seed does not suit the task."""
        raise NotImplementedError

    def follow_up(self, seed: Seed, turns: Sequence[Turn]) -> Question | None:
        """What is to be asked next, after these turns; None where they are all. Nothing is run here."""
        return None

    def judge(self, seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
        """Keeps or rejects the answers to the question and all that followed. Code runs only inside of the sandbox,
        and only as far as `check` says."""
        raise NotImplementedError


def ask_user(text: str, system: str = "", language: str | None = None) -> Question:
    """A question of one chat turn."""
    before = (Message("system", system),) if system else ()
    return Question(messages=(*before, Message("user", text)), language=language)
