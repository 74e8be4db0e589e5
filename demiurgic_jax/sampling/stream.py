"""What comes out of a running completion, piece by piece: for threads and for asyncio alike."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

from demiurgic_jax.data.completer import Completion, TokenLogprob


class Piece(NamedTuple):
    """A stretch of text, never half a character, and the log-probabilities (if asked) of its tokens."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Stream:
    """The pieces of one completion. Iterate once, with `for` or `async for`; then `result()` is ready.

    Whatever stops the completion from ending (an error, the engine's end) is raised by the iteration
    and by `result()`.
    """

    def __init__(self) -> None:
        # What the model made of the prompt, when that was asked for; the first token, which follows nothing, has NaN.
        self.prompt_logprobs: tuple[TokenLogprob, ...] = ()
        # All ids that were generated, once the completion has ended.
        self.tokens: tuple[int, ...] = ()
        self.cancelled = threading.Event()
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._wake: Callable[[], object] | None = None
        self._outcome: Completion | BaseException | None = None

    def cancel(self) -> None:
        """Nobody wants the rest: the slot is freed before the next step, and the iteration ends with an error."""
        self.cancelled.set()

    def __iter__(self) -> Iterator[Piece]:
        while (piece := self._pieces.get()) is not None:
            yield piece
        self.result()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(arrived.set)
        while True:
            arrived.clear()
            while not self._pieces.empty():
                if (piece := self._pieces.get()) is None:
                    self.result()
                    return
                yield piece
            await arrived.wait()

    def result(self) -> Completion:
        """The whole completion, once the iteration has ended."""
        if self._outcome is None:
            raise RuntimeError("the completion is still running: iterate to its end first")
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def put(self, piece: Piece) -> None:
        """For the producer: one more piece."""
        self._pieces.put(piece)
        self._notify()

    def finish(self, outcome: Completion | BaseException) -> None:
        """For the producer: the end, good or bad."""
        self._outcome = outcome
        self._pieces.put(None)
        self._notify()

    def _notify(self) -> None:
        if (wake := self._wake) is not None:
            try:
                wake()
            except RuntimeError:  # the consumer's event loop has closed: nobody is listening any more
                self.cancel()
