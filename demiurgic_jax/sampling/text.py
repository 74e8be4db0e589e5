"""Tokens to text as they come: whole characters only, and never a part of a stop string."""

import codecs
from collections.abc import Sequence

from demiurgic_jax.data.completer import TokenLogprob
from demiurgic_jax.sampling.stream import Piece


class TextAssembler:
    """Feeds on the bytes of one token after another; `stopped` once a stop string is complete.

    Text that may turn out to begin a stop string is held back. The released pieces joined are the
    decoded bytes up to the stop, and incomplete UTF-8 becomes U+FFFD exactly as in `Tokenizer.decode`.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stopped = False
        self._stop = tuple(stop)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""
        self._released = 0  # characters
        # Log-probabilities wait for their token's first character: (its offset, entry).
        self._logprobs: list[tuple[int, TokenLogprob]] = []

    def feed(self, token: bytes, logprob: TokenLogprob | None = None) -> Piece:
        """The text that is certain now (often empty)."""
        if logprob is not None:
            self._logprobs.append((self._released + len(self._held), logprob))
        return self._release(self._decode(token), final=False)

    def finish(self) -> Piece:
        """Whatever was held back: no stop string came of it."""
        return self._release(self._decode(b"", final=True), final=True)

    def _release(self, new: str, *, final: bool) -> Piece:
        text = self._held + new
        ends = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            free = min(ends)
            self._logprobs = [entry for entry in self._logprobs if entry[0] < self._released + free]
        else:
            free = len(text) if final else len(text) - _possible_stop(text, self._stop)
        self._held = "" if self.stopped else text[free:]
        self._released += free
        ready = [entry for offset, entry in self._logprobs if offset < self._released or final]
        self._logprobs = self._logprobs[len(ready) :]
        return Piece(text[:free], tuple(ready))


def _possible_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a stop string."""
    longest = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:length]):
                longest = length
                break
    return longest
