"""The decoding engine: requests come and go, one background thread decodes all of them together."""

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.completer import Completion, CompletionRequest, TokenLogprob, UnanswerableError
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import KVCache
from demiurgic_jax.sampling.decoding import Choice
from demiurgic_jax.sampling.prompt import check_request, encode_prompt
from demiurgic_jax.sampling.row import FinishReason, Row, sampling_options
from demiurgic_jax.sampling.scoring import prompt_logprobs
from demiurgic_jax.sampling.steps import DecodingSteps
from demiurgic_jax.sampling.stream import Stream

# Prompts are taken in chunks of this many tokens; the last one is padded to a power of two.
PREFILL_CHUNK = 512
SHORTEST_CHUNK = 32

logger = logging.getLogger(__name__)


class EngineStoppedError(Exception):
    """The engine was stopped while this request waited or ran."""


class CancelledError(Exception):
    """The request was cancelled by whoever submitted it."""


class Engine:
    """Continuous batching over `slots` rows. Implements `Completer`.

        with Engine(config, params, tokenizer) as engine:
            for piece in engine.submit(CompletionRequest(prompt="def add(a, b):")):
                print(piece.text, end="")

    Decoding always runs over all slots and every row's randomness comes from its own seed and position,
    so a request gives the same text whatever runs beside it, and again after a restart. A request
    without a seed is given a random one.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Any,
        tokenizer: Tokenizer,
        *,
        slots: int = 8,
        max_context: int | None = None,
        compute_dtype: Any = jnp.float32,
    ) -> None:
        """`params` is copied to the device in `compute_dtype`. `max_context` counts prompt and answer
        together (default: the model's). Raises UserError for slots below 1 or a context beyond the model's."""
        self.max_context = config.max_context if max_context is None else max_context
        if slots < 1:
            raise UserError(f"slots is {slots}: give at least 1")
        if not 2 <= self.max_context <= config.max_context:
            raise UserError(f"max_context is {self.max_context}: give 2 to the model's {config.max_context}")
        self.config = config
        self.tokenizer = tokenizer
        self._steps = DecodingSteps(
            config, params, slots=slots, max_context=self.max_context, compute_dtype=compute_dtype
        )
        self._inbox: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._waiting: deque[Row] = deque()
        self._rows: list[Row | None] = [None] * slots
        self._cache: KVCache | None = None
        self._thread: threading.Thread | None = None
        self._accepting = threading.Lock()

    # Lifecycle

    def start(self) -> "Engine":
        """Starts the background thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="decoding-engine", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Ends the thread; requests that wait or run fail with EngineStoppedError."""
        with self._accepting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            thread.join()

    def __enter__(self) -> "Engine":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def active(self) -> int:
        """Requests that hold a slot now."""
        return sum(row is not None for row in self._rows)

    # Asking

    def submit(self, request: CompletionRequest, *, prompt_logprobs: bool = False) -> Stream:
        """Queues a request. Raises UserError for options out of range and for a prompt beyond the context.

        `prompt_logprobs` also has the prompt's own tokens judged (Stream.prompt_logprobs).
        """
        check_request(request)
        return self._submit(encode_prompt(self.tokenizer, request), request, request.seed, prompt_logprobs)

    def submit_tokens(self, prompt: Sequence[int], request: CompletionRequest, *, seed: int | None = None) -> Stream:
        """As `submit`, of a prompt that is already token ids; the request's own prompt and seed are not looked at."""
        check_request(request)
        return self._submit(list(prompt), request, seed, False)

    def _submit(self, prompt: list[int], request: CompletionRequest, seed: int | None, prompt_logprobs: bool) -> Stream:
        room = self.max_context - len(prompt)
        if room < 0 or (room == 0 and request.max_tokens > 0):
            raise UnanswerableError(
                f"the prompt has {len(prompt)} tokens and the context holds {self.max_context}, answer included: "
                "shorten the prompt"
            )
        row = Row(
            request,
            prompt,
            tokenizer=self.tokenizer,
            max_tokens=min(request.max_tokens, room),
            seed=int.from_bytes(os.urandom(4)) if seed is None else seed % 2**32,
            want_prompt_logprobs=prompt_logprobs,
        )
        with self._accepting:
            if self._thread is None:
                raise RuntimeError("the engine is not running: use `with engine:` or start()")
            self._inbox.put(row)
        return row.stream

    async def complete(self, request: CompletionRequest) -> Completion:
        """The whole completion; cancelling the task frees its slot."""
        stream = self.submit(request)
        try:
            async for _ in stream:
                pass
            return stream.result()
        finally:
            stream.cancel()

    # The thread

    def _run(self) -> None:
        while True:
            if not self._receive():
                while not self._inbox.empty():
                    self._waiting.extend(row for row in [self._inbox.get()] if row is not None)
                self._fail_all(EngineStoppedError("the engine was stopped"))
                return
            try:
                self._drop_cancelled()
                self._admit()
                self._decode()
            except Exception as error:  # every request that it hits is told
                logger.exception("a decoding step failed")
                self._fail_all(error)
                self._cache = None  # donated to the step that failed

    def _receive(self) -> bool:
        """Takes in what was submitted; waits for something when there is nothing to do. False at the end."""
        idle = not self._waiting and not self.active
        while idle or not self._inbox.empty():
            row = self._inbox.get()
            if row is None:
                return False
            self._waiting.append(row)
            idle = False
        return True

    def _fail_all(self, error: BaseException) -> None:
        failed = [row for row in [*self._rows, *self._waiting] if row is not None]
        self._rows = [None] * len(self._rows)
        self._waiting.clear()
        for row in failed:
            row.stream.finish(error)

    def _drop_cancelled(self) -> None:
        gone = [row for row in [*self._rows, *self._waiting] if row is not None and row.stream.cancelled.is_set()]
        for row in gone:
            self._rows = [None if other is row else other for other in self._rows]
            self._waiting = deque(other for other in self._waiting if other is not row)
            row.stream.finish(CancelledError("the request was cancelled"))

    def _admit(self) -> None:
        for slot, occupant in enumerate(self._rows):
            if occupant is None and self._waiting:
                # In its slot before it runs, so that a failure finds it.
                row = self._rows[slot] = self._waiting.popleft()
                self._prefill(slot, row)

    def _prefill(self, slot: int, row: Row) -> None:
        if row.want_prompt_logprobs:
            row.stream.prompt_logprobs = self._judge_prompt(row)
        if row.max_tokens == 0:
            self._end(slot, row, "length")
            return
        self._fit_cache()
        assert self._cache is not None
        T = self._cache.k.shape[2]
        for start in range(0, len(row.prompt), PREFILL_CHUNK):
            part = row.prompt[start : start + PREFILL_CHUNK]
            size = _bucket(len(part))
            tokens, positions = np.zeros((1, size), np.int32), np.full((1, size), T, np.int32)
            tokens[0, : len(part)] = part
            positions[0, : len(part)] = np.arange(start, start + len(part))
            want = row.wants_logprobs
            self._cache, choice = self._steps.prefill(
                self._cache, slot, tokens, positions, len(part) - 1, sampling_options([row]), want
            )
        self._take(slot, row, _on_host(choice), 0)

    def _decode(self) -> None:
        if not self.active:
            return
        self._fit_cache()
        assert self._cache is not None
        rows = self._rows
        idle = self._cache.k.shape[2]
        tokens = np.array([row.generated[-1] if row else 0 for row in rows], np.int32)
        positions = np.array([row.length - 1 if row else idle for row in rows], np.int32)
        want = any(row is not None and row.wants_logprobs for row in rows)
        self._cache, choice = self._steps.decode(self._cache, tokens, positions, sampling_options(rows), want)
        choice = _on_host(choice)
        for slot, row in enumerate(rows):
            if row is not None:
                self._take(slot, row, choice, slot)

    def _fit_cache(self) -> None:
        """Makes the cache as long as the longest row needs, and shorter again when that is long past."""
        fit = self._steps.cache_length(max(row.length for row in self._rows if row is not None))
        if self._cache is None:
            self._cache = self._steps.new_cache(fit)
            return
        length = self._cache.k.shape[2]
        # Shrinking at a quarter rather than at half keeps two rows from resizing it back and forth.
        if fit > length or fit * 4 <= length:
            self._cache = self._steps.resize(self._cache, fit)

    def _take(self, slot: int, row: Row, choice: Choice, index: int) -> None:
        if (reason := row.take(choice, index)) is not None:
            self._end(slot, row, reason)

    def _end(self, slot: int, row: Row, reason: FinishReason) -> None:
        # Freed first: who has an answer in hand must not find its slot still taken.
        self._rows[slot] = None
        row.finish(reason)

    def _judge_prompt(self, row: Row) -> tuple[TokenLogprob, ...]:
        ids = row.prompt
        alternatives = row.request.logprobs or 0
        own, top_ids, top = prompt_logprobs(self.config, self._steps.params, ids, alternatives, self._steps.dtype)
        first = row.logprob(ids[0], float("nan"), (), ())
        return (first, *(row.logprob(ids[i + 1], own[i], top_ids[i], top[i]) for i in range(len(ids) - 1)))


def _bucket(size: int) -> int:
    length = SHORTEST_CHUNK
    while length < size:
        length *= 2
    return length


def _on_host(choice: Choice) -> Choice:
    return Choice(*map(np.asarray, choice))
