"""One request on its way through the engine."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from demiurgic_jax.data.completer import Completion, CompletionRequest, TokenLogprob
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.sampling.decoding import Choice, SamplingOptions
from demiurgic_jax.sampling.stream import Piece, Stream
from demiurgic_jax.sampling.text import TextAssembler

FinishReason = Literal["stop", "length"]


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
        self.generated: list[int] = []
        self.stream = Stream()
        self._tokenizer = tokenizer
        self._stops = frozenset(tokenizer.special.stops) | {tokenizer.special.eos}
        self._text = TextAssembler(request.stop)
        self._parts: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def length(self) -> int:
        """Tokens that the cache holds once the newest one is written."""
        return len(self.prompt) + len(self.generated)

    @property
    def wants_logprobs(self) -> bool:
        return self.request.logprobs is not None

    def take(self, choice: Choice, index: int) -> FinishReason | None:
        """Accounts for a new token, entry `index` of `choice` on the host. The reason if it is the last."""
        token = int(choice.tokens[index])
        self.generated.append(token)
        if token in self._stops:
            return "stop"
        entry = None
        if self.wants_logprobs:
            entry = self.logprob(token, choice.logprobs[index], choice.top_ids[index], choice.top_logprobs[index])
        self._deliver(self._text.feed(self._tokenizer.token_bytes(token), entry))
        if self._text.stopped:
            return "stop"
        return "length" if len(self.generated) >= self.max_tokens else None

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
        self.stream.tokens = tuple(self.generated)
        self.stream.finish(completion)

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
    idle = CompletionRequest(prompt="")
    requests = [row.request if row else idle for row in rows]
    return SamplingOptions(
        seed=np.array([row.seed if row else 0 for row in rows], np.uint32),
        temperature=np.array([request.temperature for request in requests], np.float32),
        top_k=np.array([min(request.top_k, 2**31 - 1) for request in requests], np.int32),
        top_p=np.array([request.top_p for request in requests], np.float32),
    )
