"""The decoding engine: requests come and go, one background thread decodes all of them together."""

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.decoding import Choice
from demiurgic_jax.sampling.drafting import Drafter
from demiurgic_jax.sampling.pace import Pace
from demiurgic_jax.sampling.prefixes import HeldPrefixes
from demiurgic_jax.sampling.prompt import check_request, encode_prompt, fit_prompt
from demiurgic_jax.sampling.row import Row, sampling_options
from demiurgic_jax.sampling.statistics import EngineStatistics
from demiurgic_jax.sampling.steps import DRAFT_TOKENS, MAX_STEPS, STOP_TOKENS, DecodingSteps, Rows, next_chunk
from demiurgic_jax.sampling.stream import FinishReason, Stream

# Between two steps of the rows that decode, prompts are read until so many tokens of them are done.
PROMPT_TOKENS_BETWEEN_STEPS = 64
# Steps are dispatched together as long as they take no longer than this: a reader sees text come evenly.
DISPATCH_SECONDS = 0.04

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

    Prompts are read in chunks between the steps of the rows that decode. What a prompt has in common with one that a
    slot still holds is not read again. Where a row repeats itself or its prompt, several tokens are guessed and
    verified in one step.

    Every row's randomness comes from its own seed and position, so a request gives the same text whatever runs beside
    it, whichever of these ways served it, and again after a restart. That holds for tokens; their log-probabilities may
    differ in the last bits of the compute dtype, because a matrix product of one row is rounded otherwise than that of
    many, and so may a token whose likeliest rival is as near as that (about 1e-5 in float32). A request without a seed
    is given a random one.
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
        int8_weights: bool = False,
        int8_cache: bool = False,
        prefix_cache: bool = True,
        speculate: bool = True,
        mesh: Mesh | None = None,
    ) -> None:
        """`params` is laid out anew in `compute_dtype` (`decoding_weights`), over the devices of `mesh` if given.

        `max_context` counts prompt and answer together (default: the model's); the cache has room for as many tokens in
        every slot from the start. Raises UserError for slots below 1, a context beyond the model's, or a mesh that does
        not divide the weights.
        """
        self.max_context = config.max_context if max_context is None else max_context
        if slots < 1:
            raise UserError(f"slots is {slots}: give at least 1")
        if not 2 <= self.max_context <= config.max_context:
            raise UserError(f"max_context is {self.max_context}: give 2 to the model's {config.max_context}")
        self.config = config
        self.tokenizer = tokenizer
        self._steps = DecodingSteps(
            config,
            params,
            slots=slots,
            max_context=self.max_context,
            compute_dtype=compute_dtype,
            int8_weights=int8_weights,
            int8_cache=int8_cache,
            mesh=mesh,
        )
        self._prefix_cache = prefix_cache
        self._speculate = speculate
        self._inbox: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._waiting: deque[Row] = deque()
        self._rows: list[Row | None] = [None] * slots
        self._held = HeldPrefixes(slots)
        self._pace = Pace()
        self._thread: threading.Thread | None = None
        self._accepting = threading.Lock()
        self._draining = False
        self._settled = threading.Condition()
        self._statistics = EngineStatistics()

    # Lifecycle

    def start(self) -> "Engine":
        """Starts the background thread."""
        if self._thread is None:
            self._draining = False
            self._thread = threading.Thread(target=self._run, name="decoding-engine", daemon=True)
            self._thread.start()
        return self

    def warm_up(self) -> "Engine":
        """Compiles every program that requests can need, before the first one: nothing is compiled after it. To be
        called while the engine is not running."""
        if self._thread is not None:
            raise RuntimeError("warm up the engine before it is started")
        self._steps.warm_up()
        return self

    def stop(self) -> None:
        """Ends the thread; requests that wait or run fail with EngineStoppedError."""
        with self._accepting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            thread.join()

    def drain(self, timeout: float | None = None) -> bool:
        """Takes no more requests (`submit` raises EngineStoppedError) and waits until all that it has are done.

        False when that took longer than `timeout` seconds; they go on then, until `stop`.
        """
        with self._accepting:
            self._draining = True
        with self._settled:
            return self._settled.wait_for(lambda: not self.active and not self.waiting, timeout)

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

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._inbox.qsize() + len(self._waiting)

    @property
    def slots(self) -> int:
        """Requests that run at once, at most."""
        return len(self._rows)

    @property
    def statistics(self) -> EngineStatistics:
        """Totals up to now, a snapshot."""
        return self._statistics

    # Asking

    def submit(self, request: CompletionRequest, *, prompt_logprobs: bool = False) -> Stream:
        """Queues a request. Raises UserError for options out of range and for a prompt beyond the context.

        `prompt_logprobs` also has the prompt's own tokens judged (Stream.prompt_logprobs).
        """
        check_request(request)
        prompt = fit_prompt(self.tokenizer, request, encode_prompt(self.tokenizer, request), self.max_context)
        row = Row(
            request,
            prompt,
            tokenizer=self.tokenizer,
            max_tokens=min(request.max_tokens, self.max_context - len(prompt)),
            seed=int.from_bytes(os.urandom(4)) if request.seed is None else request.seed % 2**32,
            want_prompt_logprobs=prompt_logprobs,
        )
        with self._accepting:
            if self._thread is None:
                raise RuntimeError("the engine is not running: use `with engine:` or start()")
            if self._draining:
                raise EngineStoppedError("the engine takes no more requests: it is about to stop")
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
                began = time.monotonic()
                self._sweep()
                self._read_prompts()
                self._decode()
                self._count(busy_seconds=time.monotonic() - began)
            except Exception as error:  # every request that it hits is told
                logger.exception("a decoding step failed")
                self._fail_all(error)
                # Donated to the step that failed.
                self._steps.reset()
                self._held.forget()

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
        self._count(requests_failed=len(failed))
        for row in failed:
            row.stream.finish(error)

    def _sweep(self) -> None:
        """Lets go of the requests that are cancelled, stopped or out of time."""
        for row in [row for row in [*self._rows, *self._waiting] if row is not None]:
            if row.stream.cancelled.is_set():
                self._release(row)
                self._count(requests_cancelled=1)
                row.stream.finish(CancelledError("the request was cancelled"))
            elif (reason := row.ending) is not None:
                self._end(row, reason)

    def _release(self, row: Row) -> None:
        if row in self._rows:
            slot = self._rows.index(row)
            self._held.hold(slot, row.in_cache)
            self._rows[slot] = None
        else:
            self._waiting = deque(other for other in self._waiting if other is not row)

    def _count(self, **more: float) -> None:
        self._statistics = self._statistics.plus(**more)
        with self._settled:
            self._settled.notify_all()

    # Prompts

    def _read_prompts(self) -> None:
        """Reads prompts, one after the other, for about as long as those who decode should have to wait."""
        done = 0
        while done < PROMPT_TOKENS_BETWEEN_STEPS:
            slot = next((slot for slot, row in enumerate(self._rows) if row is not None and not row.decoding), None)
            if slot is None:
                slot = self._admit()
            if slot is None:
                return
            done += self._read_chunk(slot)

    def _admit(self) -> int | None:
        """Gives the next request that waits a slot, and what it has in common with what is in the cache."""
        free = [slot for slot, row in enumerate(self._rows) if row is None]
        if not free or not self._waiting:
            return None
        row = self._waiting[0]
        for slot, other in enumerate(self._rows):
            if other is not None:
                self._held.hold(slot, other.in_cache)
        place = self._held.choose(row.prompt, free)
        # In its slot before it runs, so that a failure finds it.
        self._rows[place.slot] = self._waiting.popleft()
        row.begin()
        row.read = place.length if self._prefix_cache and not row.want_prompt_logprobs else 0
        self._held.hold(place.slot, row.in_cache)
        if row.read and place.source != place.slot:
            self._steps.copy_prefix(place.source, place.slot, row.read)
        if row.penalized:
            self._steps.begin(place.slot, row.prompt)
        self._count(prompt_tokens=len(row.prompt), cached_prompt_tokens=row.read)
        return place.slot

    def _read_chunk(self, slot: int) -> int:
        """Reads the next tokens of the prompt in `slot`, and chooses the first of the answer at its end. Returns how
        many were read."""
        row = self._rows[slot]
        assert row is not None
        assert row.read is not None
        if row.max_tokens == 0 and not row.want_prompt_logprobs:
            self._end(row, "length")
            return 0
        start = row.read
        chunk = row.prompt[start : start + next_chunk(len(row.prompt) - start)]
        final = start + len(chunk) == len(row.prompt)
        rows = Rows(slot, sampling_options([row]), row.wants_logprobs)
        choice, hidden_CE = self._steps.prefill(chunk, start, rows, final=final)
        row.read += len(chunk)
        if row.want_prompt_logprobs:
            targets = row.prompt[start + 1 : row.read + 1]
            row.judged(start + 1, self._steps.judge(hidden_CE, targets))
        if not final:
            return len(chunk)
        if row.max_tokens == 0:
            self._end(row, "length")
            return len(chunk)
        if self._speculate and not row.penalized and row.max_tokens > 2:
            row.drafter = Drafter(row.prompt)
        self._take(row, _on_host(choice), [(0,)])
        return len(chunk)

    # Answers

    def _decode(self) -> None:
        running = [(slot, row) for slot, row in enumerate(self._rows) if row is not None and row.decoding]
        if not running:
            return
        # One row alone is not made to wait for the arithmetic of idle ones.
        first, count = (running[0][0], 1) if len(running) == 1 else (0, len(self._rows))
        rows: list[Row | None] = [None] * count
        for slot, row in running:
            rows[slot - first] = row
        drafts = self._drafts(rows)
        want = any(row is not None and row.wants_logprobs for row in rows)
        step = Rows(first, sampling_options(rows), want)
        if any(drafts):
            self._verify(rows, drafts, step)
        else:
            self._write(rows, step)

    def _write(self, rows: Sequence[Row | None], step: Rows) -> None:
        """Some tokens more for every row."""
        idle = self._steps.nowhere
        alone = not self._waiting and all(row is None or row.decoding for row in self._rows)
        steps = self._pace.fitting(("write", len(rows)), DISPATCH_SECONDS, MAX_STEPS) if alone else 1
        steps = min(steps, max(row.remaining for row in rows if row is not None))
        with self._pace.timed(("write", len(rows)), steps):
            choice = self._steps.decode(
                np.array([row.generated[-1] if row else 0 for row in rows], np.int32),
                np.array([row.position if row else idle for row in rows], np.int32),
                np.array([row.remaining if row else 0 for row in rows], np.int32),
                np.stack([row.stop_tokens if row else _NO_STOPS for row in rows]),
                step,
                steps,
            )
            choice = _on_host(choice)
        for b, row in enumerate(rows):
            if row is not None:
                self._take(row, choice, [(i, b) for i in range(steps) if choice.tokens[i, b] >= 0])

    def _drafts(self, rows: Sequence[Row | None]) -> list[list[int]]:
        """Guesses for every row; none at all where verifying them would take longer than it is likely to save."""
        drafts = [
            row.drafter.draft(min(DRAFT_TOKENS, row.remaining - 1)) if row is not None and row.drafter else []
            for row in rows
        ]
        if not any(drafts):
            return drafts
        running = sum(row is not None for row in rows)
        expected = sum(
            min(row.drafter.expected, len(draft))
            for row, draft in zip(rows, drafts, strict=True)
            if row is not None and row.drafter is not None
        )
        if self._pace.prefers(("verify", len(rows)), ("write", len(rows)), (running + expected) / running):
            return drafts
        for row, draft in zip(rows, drafts, strict=True):
            if row is not None and row.drafter is not None and draft:
                row.drafter.skip()
        return [[] for _ in rows]

    def _verify(self, rows: Sequence[Row | None], drafts: Sequence[list[int]], step: Rows) -> None:
        """One token more for every row, and the guesses that turn out to be what it would have written."""
        tokens = np.zeros((len(rows), 1 + DRAFT_TOKENS), np.int32)
        positions = np.full_like(tokens, self._steps.nowhere)
        for b, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            if row is not None:
                tokens[b, : 1 + len(draft)] = [row.generated[-1], *draft]
                positions[b, : 1 + len(draft)] = row.position + np.arange(1 + len(draft))
        with self._pace.timed(("verify", len(rows))):
            choice = _on_host(self._steps.verify(tokens, positions, step))
        for b, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            if row is None:
                continue
            right = 0
            while right < len(draft) and choice.tokens[b, right] == draft[right]:
                right += 1
            if row.drafter is not None and draft:
                row.drafter.learn(right)
                self._count(drafted_tokens=len(draft), accepted_tokens=right)
            self._take(row, choice, [(b, s) for s in range(right + 1)])

    def _take(self, row: Row, choice: Choice, places: Sequence[tuple[int, ...]]) -> None:
        """The row goes on with the chosen tokens at `places`, up to the one that ends it."""
        for taken, at in enumerate(places, start=1):
            reason = row.take(int(choice.tokens[at]), choice.logprobs[at], choice.top_ids[at], choice.top_logprobs[at])
            if reason is not None:
                self._count(generated_tokens=taken)
                self._end(row, reason)
                return
        self._count(generated_tokens=len(places))

    def _end(self, row: Row, reason: FinishReason) -> None:
        # Freed first: who has an answer in hand must not find its slot still taken.
        self._release(row)
        self._count(requests_finished=1)
        row.finish(reason)


_NO_STOPS = np.full(STOP_TOKENS, -1, np.int32)


def _on_host(choice: Choice) -> Choice:
    return Choice(*map(np.asarray, choice))
