"""The engine: right tokens, the same in any company, and no request left hanging."""

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from whole_answers import complete, whole

from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sampling.engine import CancelledError, Engine, EngineStoppedError

LONG = "def add(a, b):\n    return a + b\n" * 14  # crosses the shortest cache while it decodes


PADDED = 640


@pytest.fixture(scope="module")
def full_logits(config: ModelConfig, params: dict) -> Callable[[list[int]], np.ndarray]:
    """Token ids to logits [n, V] by one forward pass without a cache."""
    decoder = Decoder(config)

    @jax.jit
    def forward(row: jax.Array) -> jax.Array:
        hidden, _ = decoder.apply({"params": params}, row[None], jnp.arange(PADDED)[None])
        return decoder.apply({"params": params}, hidden[0], method="unembed")

    return lambda ids: np.asarray(forward(jnp.asarray(ids + [0] * (PADDED - len(ids)))))[: len(ids)]


@pytest.mark.parametrize(("prompt", "max_tokens"), [("x", 30), ("for number in", 30), (LONG, 60)])
def test_cached_decoding_takes_the_argmax_of_full_forward_passes(
    engine: Engine, tokenizer: Tokenizer, full_logits: Callable, prompt: str, max_tokens: int
):
    ids = prompt_ids = tokenizer.encode(prompt)
    for _ in range(max_tokens):
        ids = [*ids, int(full_logits(ids)[-1].argmax())]
    answer = complete(engine, prompt=prompt, max_tokens=max_tokens)
    assert answer.text == tokenizer.decode(ids[len(prompt_ids) :])
    assert (answer.prompt_tokens, answer.completion_tokens) == (len(prompt_ids), max_tokens)


def test_an_end_token_ends_the_answer_and_is_no_text(
    config: ModelConfig, params: dict, tokenizer: Tokenizer, engine: Engine
):
    free = complete(engine, prompt="for", max_tokens=12, logprobs=0)
    tokens = [entry.token for entry in free.logprobs]
    last = next(i for i in range(3, 12) if tokens[i] not in tokens[:i] and len(tokenizer.encode(tokens[i])) == 1)
    (token,) = tokenizer.encode(tokens[last])
    # An end token twice as likely (in logits) as the one that was chosen there.
    embedding = params["embedding"].at[tokenizer.special.eos].set(2 * params["embedding"][token])
    with Engine(config, params | {"embedding": embedding}, tokenizer, slots=1) as ending:
        answer = complete(ending, prompt="for", max_tokens=12, logprobs=0)
    assert answer.finish_reason == "stop"
    assert free.text.startswith(answer.text)
    assert len(answer.logprobs) == answer.completion_tokens - 1 <= last


def test_logprobs_are_the_models_own(engine: Engine, tokenizer: Tokenizer, full_logits: Callable):
    request = CompletionRequest(prompt="print(add(", max_tokens=0, logprobs=5)
    stream = engine.submit(request, prompt_logprobs=True)
    assert whole(stream).text == ""
    ids = tokenizer.encode(request.prompt)
    logits = full_logits(ids)
    logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    first, *others = stream.prompt_logprobs
    assert math.isnan(first.logprob)
    assert len(others) == len(ids) - 1
    for position, entry in enumerate(others):
        assert entry.token == tokenizer.token_bytes(ids[position + 1]).decode()
        assert entry.logprob == pytest.approx(logprobs[position, ids[position + 1]], abs=1e-4)
        assert [p for _, p in entry.top] == pytest.approx(np.sort(logprobs[position])[:-6:-1].tolist(), abs=1e-4)
    answer = complete(engine, prompt=request.prompt, max_tokens=1, logprobs=5)
    assert answer.logprobs[0].logprob == pytest.approx(logprobs[-1].max(), abs=1e-4)
    assert len(answer.logprobs[0].top) == 5


def requests_of_all_kinds(count: int) -> list[CompletionRequest]:
    prompts = ["def add(", "for number in range(", LONG, "x", "世界", "return a + b"]
    return [
        CompletionRequest(
            prompt=prompts[i % len(prompts)] + str(i),
            max_tokens=12 + 7 * (i % 5),
            temperature=[0.0, 0.8, 1.2][i % 3],
            top_p=[1.0, 0.9][i % 2],
            top_k=[0, 0, 0, 40][i % 4],
            seed=i,
            logprobs=[None, 2][i % 2],
        )
        for i in range(count)
    ]


async def all_of(engine: Engine, requests: list[CompletionRequest]) -> list[Completion]:
    return list(await asyncio.gather(*map(engine.complete, requests)))


def assert_same(one: Completion, other: Completion) -> None:
    """The same tokens; their log-probabilities to the last bits of float32."""
    assert dataclasses.replace(one, logprobs=None) == dataclasses.replace(other, logprobs=None)
    for entry, its_twin in zip(one.logprobs or (), other.logprobs or (), strict=True):
        assert entry.token == its_twin.token
        assert entry.logprob == pytest.approx(its_twin.logprob, abs=1e-4)
        assert [p for _, p in entry.top] == pytest.approx([p for _, p in its_twin.top], abs=1e-4)


def test_a_request_gives_the_same_answer_alone_and_beside_sixteen_others(engine: Engine):
    requests = requests_of_all_kinds(16)
    together = asyncio.run(all_of(engine, requests))
    alone = [asyncio.run(engine.complete(request)) for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
    assert len({answer.text for answer in alone}) == 16


def test_fifty_requests_at_once_are_all_answered(engine: Engine):
    answers = asyncio.run(all_of(engine, requests_of_all_kinds(50)))
    for request, answer in zip(requests_of_all_kinds(50), answers, strict=True):
        assert answer.finish_reason == "stop" or answer.completion_tokens == request.max_tokens
    assert engine.active == 0


def test_a_seed_repeats_and_another_seed_differs(engine: Engine):
    def text(seed: int | None) -> str:
        return complete(engine, prompt="for", max_tokens=20, temperature=1.0, seed=seed).text

    assert text(7) == text(7)
    assert len({text(7), text(8), text(None), text(None)}) == 4


def test_streamed_pieces_joined_are_the_whole_text(engine: Engine, tokenizer: Tokenizer):
    for request in requests_of_all_kinds(6):
        stream = engine.submit(request)
        pieces = [piece.text for piece in stream]
        assert len(pieces) > 1
        assert "".join(pieces) == stream.result().text == complete(engine, **vars(request)).text


def test_a_stop_string_ends_the_text_before_itself(engine: Engine):
    free = complete(engine, prompt="for", max_tokens=40)
    for start in (5, 11, 17):
        stop = free.text[start : start + 4]
        stream = engine.submit(CompletionRequest(prompt="for", max_tokens=40, stop=("not there", stop)))
        text = "".join(piece.text for piece in stream)
        assert text == free.text[: free.text.index(stop)]
        assert stream.result().finish_reason == "stop"


def test_an_answer_ends_where_the_context_does(config: ModelConfig, params: dict, tokenizer: Tokenizer):
    with Engine(config, params, tokenizer, slots=1, max_context=48) as engine:
        answer = complete(engine, prompt="for number in", max_tokens=1000)
        assert answer.finish_reason == "length"
        assert answer.prompt_tokens + answer.completion_tokens == 48
        with pytest.raises(UserError, match=r"the prompt has \d+ tokens and the context holds 48"):
            engine.submit(CompletionRequest(prompt="number " * 100))


def test_a_chat_is_the_template_rendered(engine: Engine):
    messages = (Message("user", "add"), Message("assistant", "a + b"), Message("user", "range"))
    rendered = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages) + "<|im_start|>assistant\n"
    ids = engine.tokenizer.encode(rendered, allow_special=True)
    answer = complete(engine, messages=messages, max_tokens=5)
    assert answer.prompt_tokens == len(ids)


def test_a_suffix_makes_a_fill_in_the_middle_prompt(engine: Engine, tokenizer: Tokenizer, full_logits: Callable):
    special = tokenizer.special
    ids = [special.fim_prefix, *tokenizer.encode("def add("), special.fim_suffix, *tokenizer.encode("return a")]
    ids.append(special.fim_middle)
    answer = complete(engine, prompt="def add(", suffix="return a", max_tokens=1, logprobs=0)
    assert answer.prompt_tokens == len(ids)
    logits = full_logits(ids)[-1]
    assert answer.logprobs[0].logprob == pytest.approx(logits.max() - np.logaddexp.reduce(logits), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": -1}, "temperature is -1: give at least 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5: give at least 0 and at most 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"min_p": 1.5}, "min_p is 1.5: give at least 0 and at most 1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"frequency_penalty": -2.5}, "frequency_penalty is -2.5: give at least -2 and at most 2"),
        ({"presence_penalty": 3}, "presence_penalty is 3"),
        ({"max_seconds": -1}, "max_seconds is -1"),
        ({"stop_tokens": (-1,)}, "stop_tokens has -1, but this model's ids are 0 to"),
        ({"stop_tokens": (1,) * 17}, "stop_tokens has 17 ids"),
        ({"prompt": None, "prompt_tokens": (1, 10**6)}, "prompt_tokens has 1000000"),
        ({"prompt": "x", "prompt_tokens": (1,)}, "exactly one of prompt"),
        ({"prompt": None, "prompt_tokens": (1,), "suffix": "x"}, "suffix goes with prompt"),
        ({"echo": True}, "echo is what a server does"),
        ({"logprobs": 21}, "logprobs is 21"),
        ({"stop": ("",)}, "stop has an empty string"),
        ({"messages": (Message("user", "x"),)}, "exactly one of prompt"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(engine: Engine, options: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        engine.submit(CompletionRequest(**({"prompt": "x"} | options)))


ENDLESS = CompletionRequest(prompt="for", max_tokens=1 << 15)


@pytest.fixture
def small_engine(config: ModelConfig, params: dict, tokenizer: Tokenizer) -> Iterator[Engine]:
    """One slot, and a context that no test fills."""
    with Engine(dataclasses.replace(config, max_context=1 << 15), params, tokenizer, slots=1) as engine:
        yield engine


def test_cancelling_frees_the_slot(small_engine: Engine):
    running, waiting = small_engine.submit(ENDLESS), small_engine.submit(ENDLESS)
    next(iter(running))
    assert small_engine.active == 1
    waiting.cancel()
    running.cancel()
    assert complete(small_engine, prompt="x", max_tokens=2).completion_tokens > 0
    for stream in (running, waiting):
        with pytest.raises(CancelledError):
            whole(stream)


def test_cancelling_a_task_frees_the_slot(small_engine: Engine):
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(small_engine.complete(ENDLESS), 0.5)
        assert (await small_engine.complete(CompletionRequest(prompt="x", max_tokens=2))).completion_tokens > 0

    asyncio.run(give_up())
    assert small_engine.active == 0


def test_a_step_that_fails_is_told_to_its_requests_and_the_next_one_works(small_engine: Engine):
    before = complete(small_engine, prompt="for", max_tokens=5)
    steps, decode = small_engine._steps, small_engine._steps.decode

    def out_of_memory(*arguments):
        if small_engine.active + len(small_engine._waiting) < 3:
            return decode(*arguments)  # those that come later would not be hit
        steps.decode = decode
        decode(*arguments)  # the cache is donated, as in a step that fails half-way
        raise MemoryError("no room for the step")

    steps.decode = out_of_memory
    streams = [small_engine.submit(ENDLESS) for _ in range(3)]
    for stream in streams:
        with pytest.raises(MemoryError, match="no room"):
            whole(stream)
    assert complete(small_engine, prompt="for", max_tokens=5) == before
    assert small_engine.statistics.requests_failed == 3


def test_stopping_ends_what_runs_and_what_waits(small_engine: Engine):
    streams = [small_engine.submit(ENDLESS) for _ in range(3)]
    next(iter(streams[0]))
    began = time.monotonic()
    small_engine.stop()
    for stream in streams:
        with pytest.raises(EngineStoppedError):
            whole(stream)
    assert time.monotonic() - began < 5
    with pytest.raises(RuntimeError, match="not running"):
        small_engine.submit(ENDLESS)
