"""The small protocol by which every room asks for text.

Distillation and evaluation are written against `Completer`; experiments hand them an HTTP client or
the sampling engine itself.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from demiurgic_jax.errors import UserError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class TokenLogprob:
    """One sampled token, its natural-log probability, and its `top` alternatives (token text, logprob)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class CompletionRequest:
    """What to complete: exactly one of `messages` (chat) and `prompt` (raw text).

    `suffix` with `prompt` asks for a fill-in-the-middle. `temperature` 0 is greedy. `top_p` 1 and
    `top_k` 0 switch those filters off. `logprobs` is the number of alternatives wanted per token, None
    for no logprobs at all. `seed` makes sampling repeatable.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    suffix: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None


@dataclass(frozen=True)
class Completion:
    """The text that came back, why it ended, and what it used (in tokens)."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    raw: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


class UnanswerableError(UserError):
    """This request will never be answered, say because its prompt is longer than the context; others may be."""


class Completer(Protocol):
    """Anything that completes: an HTTP teacher, our server's client, or an engine in this process."""

    async def complete(self, request: CompletionRequest) -> Completion: ...
