"""The small protocol by which every room asks for text.

Distillation and evaluation are written against `Completer`; experiments hand them an HTTP client or
the sampling engine itself.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
    """What to complete: exactly one of `messages` (chat), `prompt` (raw text) and `prompt_tokens` (ids as they are).

    `suffix` with `prompt` asks for a fill-in-the-middle. `temperature` 0 is greedy. `top_p` 1, `top_k` 0, `min_p` 0,
    `repetition_penalty` 1 and the other penalties at 0 do nothing. `logprobs` is the number of alternatives wanted per
    token, None for no logprobs at all. `seed` makes sampling repeatable. `stop` and `stop_tokens` end the text before
    themselves; `max_seconds` ends it where it is, counted from when decoding began. `truncate` cuts a prompt that is
    too long at its left instead of refusing it. `echo` puts the prompt in front of the text, with its log-probabilities
    where these are wanted.
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
    # From here on fields are written only where they say something: `to_dict`.
    prompt_tokens: tuple[int, ...] | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop_tokens: tuple[int, ...] = ()
    max_seconds: float | None = None
    truncate: bool = False
    echo: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back. The same for a request as before a field was added that
        it does not use, because paid answers are kept by a hash of this."""
        values = asdict(self)
        late = list(values)[list(values).index("logprobs") + 1 :]
        neutral = CompletionRequest()
        return {name: v for name, v in values.items() if name not in late or v != getattr(neutral, name)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CompletionRequest":
        """The request that `to_dict` wrote."""
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list | tuple)}
        messages = tuple(Message(**message) for message in values["messages"])
        return cls(**{**values, **tuples, "messages": messages})


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
