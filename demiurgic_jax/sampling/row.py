"""One request on its way through the engine."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from demiurgic_jax.data.completer import Completion, CompletionRequest, TokenLogprob
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.sampling.decoding import SamplingOptions
from demiurgic_jax.sampling.drafting import Drafter
from demiurgic_jax.sampling.prompt import stop_ids
from demiurgic_jax.sampling.steps import STOP_TOKENS, Judged
from demiurgic_jax.sampling.stream import FinishReason, Piece, Stream
from demiurgic_jax.sampling.text import TextAssembler


class Row:
    """A prompt, the tokens generated so far, and the stream that their text goes to."""

    def __init__(
        self,
        request: CompletionRequest,
        prompt: list[int],
        *,
        tokenizer: Tokenizer,
        max_tokens: int,
        seed: int,
        want_prompt_logprobs: bool,
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.seed = seed
        self.want_prompt_logprobs = want_prompt_logprobs
        self.read: int | None = None  # tokens of the prompt in the cache; None before the first is looked for
        self.generated: list[int] = []
        self.drafter: Drafter | None = None
        self.stream = Stream()
        self._deadline: float | None = None
        self._tokenizer = tokenizer
        self._stops = stop_ids(tokenizer, request)
        self._text = TextAssembler(request.stop)
        self._parts: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def begin(self) -> None:
        """The request has a slot: its time is counted from now on."""
        if self.request.max_seconds is not None:
            self._deadline = time.monotonic() + self.request.max_seconds

    @property
    def ending(self) -> FinishReason | None:
        """Why it is to end here, whatever the network would say next: it was stopped, or its time is up."""
        if self.stream.stopping is not None:
            return self.stream.stopping
        return "length" if self._deadline is not None and time.monotonic() >= self._deadline else None

    @property
    def decoding(self) -> bool:
        """Whether the prompt is read, and the answer has begun."""
        return bool(self.generated)

    @property
    def remaining(self) -> int:
        """Tokens that may still be generated."""
        return self.max_tokens - len(self.generated)

    @property
    def position(self) -> int:
        """That of the newest token, which is not in the cache yet."""
        return len(self.prompt) + len(self.generated) - 1

    @property
    def in_cache(self) -> list[int]:
        """The tokens that its slot's cache holds."""
        return [*self.prompt, *self.generated[:-1]] if self.generated else self.prompt[: self.read or 0]

    @property
    def stop_tokens(self) -> np.ndarray:
        """Ids that end it, int32 [STOP_TOKENS], filled up with -1. More than fit are known to `take` alone."""
        ids = np.full(STOP_TOKENS, -1, np.int32)
        known = sorted(self._stops)[:STOP_TOKENS]
        ids[: len(known)] = known
        return ids

    @property
    def wants_logprobs(self) -> bool:
        return self.request.logprobs is not None

    @property
    def penalized(self) -> bool:
        """Whether what it chooses depends on what it has written."""
        r = self.request
        return (r.repetition_penalty, r.frequency_penalty, r.presence_penalty) != (1, 0, 0)

    def take(self, token: int, logprob: Any, top_ids: Any, top_logprobs: Any) -> FinishReason | None:
        """Accounts for a new token and what the model thought of it. The reason if it is the last."""
        self.generated.append(token)
        if self.drafter is not None:
            self.drafter.extend([token])
        if token in self._stops:
            return "stop"
        entry = self.logprob(token, logprob, top_ids, top_logprobs) if self.wants_logprobs else None
        self._deliver(self._text.feed(self._tokenizer.token_bytes(token), entry))
        if self._text.stopped:
            return "stop"
        return "length" if self.remaining <= 0 else None

    def finish(self, reason: FinishReason) -> None:
        """Hands out what was held back, then the whole completion."""
        if not self._text.stopped:
            self._deliver(self._text.finish())
        completion = Completion(
            text="".join(self._parts),
            finish_reason=reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.generated),
            logprobs=tuple(self._logprobs) if self.wants_logprobs else None,
        )
        self.stream.finish(completion)

    def judged(self, start: int, judged: Judged) -> None:
        """What the network thought of the prompt's tokens from `start` on goes to the stream."""
        known = self.stream.prompt_logprobs or (self.logprob(self.prompt[0], float("nan"), (), ()),)
        new = (self.logprob(self.prompt[start + i], *each) for i, each in enumerate(zip(*judged, strict=True)))
        self.stream.prompt_logprobs = (*known, *new)

    def logprob(self, token: int, logprob: Any, top_ids: Any, top_logprobs: Any) -> TokenLogprob:
        """`token` as the reader sees it, with as many of the alternatives (likeliest first) as are asked for."""
        wanted = self.request.logprobs or 0
        top = tuple(
            (self._token_text(int(i)), float(p)) for i, p in zip(top_ids[:wanted], top_logprobs[:wanted], strict=True)
        )
        return TokenLogprob(self._token_text(token), float(logprob), top)

    def _deliver(self, piece: Piece) -> None:
        self._parts.append(piece.text)
        self._logprobs.extend(piece.logprobs)
        if piece.text or piece.logprobs:
            self.stream.put(piece)

    def _token_text(self, token: int) -> str:
        return token_text(self._tokenizer.token_bytes(token))


def token_text(token: bytes) -> str:
    """A token in the words of the OpenAI API: its text, or `bytes:\\xe4` where it is a part of a character."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def sampling_options(rows: Sequence[Row | None]) -> SamplingOptions:
    """The options of each row, those of idle ones greedy."""
    idle = CompletionRequest()
    requests = [row.request if row else idle for row in rows]

    def floats(name: str) -> np.ndarray:
        return np.array([getattr(request, name) for request in requests], np.float32)

    return SamplingOptions(
        seed=np.array([row.seed if row else 0 for row in rows], np.uint32),
        temperature=floats("temperature"),
        top_k=np.array([min(request.top_k, 2**31 - 1) for request in requests], np.int32),
        top_p=floats("top_p"),
        min_p=floats("min_p"),
        repetition_penalty=floats("repetition_penalty"),
        frequency_penalty=floats("frequency_penalty"),
        presence_penalty=floats("presence_penalty"),
    )
