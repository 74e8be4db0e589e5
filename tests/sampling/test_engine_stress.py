"""Many requests of random length, a fifth of them cancelled: all the others right, nothing leaked."""

import asyncio
import random
import resource
import statistics
import sys
import time
from pathlib import Path

import pytest

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.engine import CancelledError, Engine

TEXT = "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n    print(add(number, 1))\n"


def made_up_requests(count: int) -> list[CompletionRequest]:
    draw = random.Random(0)
    return [
        CompletionRequest(
            prompt=(TEXT * 8)[draw.randrange(60) :][: draw.randrange(1, 600)],
            max_tokens=draw.randrange(1, 80),
            temperature=draw.choice([0.0, 0.9]),
            top_p=draw.choice([1.0, 0.9]),
            seed=i,
        )
        for i in range(count)
    ]


class Load:
    """So many requests at once, as long as there are any; every fifth is cancelled on its way."""

    def __init__(self, engine: Engine, requests: list[CompletionRequest], concurrent: int) -> None:
        self.answers: dict[int, Completion] = {}
        self.seconds_per_token: list[float] = []
        self.cancelled = 0
        self.memory: list[int] = []  # bytes, after each answer
        self._engine = engine
        self._queue = list(enumerate(requests))[::-1]
        self._concurrent = concurrent

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self._concurrent)))

    async def _client(self) -> None:
        while self._queue:
            index, request = self._queue.pop()
            stream = self._engine.submit(request)
            if index % 5 == 0:
                await self._give_up(stream, after=index % 3)
                continue
            began = None
            async for _ in stream:
                began = began or time.monotonic()
            answer = self.answers[index] = stream.result()
            if began is not None and answer.completion_tokens > 16:
                self.seconds_per_token.append((time.monotonic() - began) / (answer.completion_tokens - 1))
            self.memory.append(resident_bytes())

    async def _give_up(self, stream, after: int) -> None:
        try:
            seen = 0
            if after == 0:
                stream.cancel()
            async for _ in stream:
                seen += 1
                if seen >= after:
                    stream.cancel()
        except CancelledError:
            pass
        self.cancelled += 1


def resident_bytes() -> int:
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def load(engine: Engine, requests: list[CompletionRequest], concurrent: int) -> Load:
    load = Load(engine, requests, concurrent)
    asyncio.run(load.run())
    assert engine.drain(60)
    assert (engine.active, engine.waiting) == (0, 0)
    done = engine.statistics
    assert done.requests_failed == 0
    assert done.requests_finished + done.requests_cancelled == len(requests)
    assert len(load.answers) + load.cancelled == len(requests)
    return load


def test_a_crowd_is_served_and_leaves_nothing_behind(
    engine: Engine, config: ModelConfig, params: dict, tokenizer: Tokenizer
):
    requests = made_up_requests(60)
    with Engine(config, params, tokenizer, slots=4) as crowded:
        served = load(crowded, requests, 16)
    for index in list(served.answers)[::6]:
        alone = asyncio.run(engine.complete(requests[index]))
        assert served.answers[index] == alone


@pytest.mark.full_size
def test_a_thousand_requests_at_64_at_once(config: ModelConfig, params: dict, tokenizer: Tokenizer):
    requests = made_up_requests(1000)
    with Engine(config, params, tokenizer, slots=8).warm_up() as engine:
        served = load(engine, requests, 64)
    pace = sorted(served.seconds_per_token)
    median, p99 = statistics.median(pace), pace[int(len(pace) * 0.99)]
    quarter = len(served.memory) // 4
    grown = served.memory[-1] - served.memory[quarter]
    print(f"\nmedian {median * 1e3:.1f} ms a token, p99 {p99 * 1e3:.1f}; memory grew by {grown / 1e6:.1f} MB")
    assert grown < 50e6
    assert p99 <= 2 * median
