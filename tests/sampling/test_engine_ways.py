"""Whichever way serves a request, its tokens are those of the plain way: one row, no cache, one token a step."""

import asyncio
import dataclasses
import itertools
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from whole_answers import complete, whole

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.quantized_weight import SUMMED, quantize
from demiurgic_jax.sampling import engine as engine_module
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh

FILE = "".join(f"def add{i}(a, b):\n    return a + b * {i}\n\n\n" for i in range(12))


@pytest.fixture(scope="module")
def plain(config: ModelConfig, params: dict, tokenizer: Tokenizer) -> Iterator[Engine]:
    with Engine(config, params, tokenizer, slots=1, prefix_cache=False, speculate=False) as engine:
        yield engine


def requests() -> list[CompletionRequest]:
    """Long prompts with common beginnings and short ones, greedy and not, with penalties and without."""
    prompts = [FILE, FILE + "def", FILE[:600] + "return", "for", FILE[40:], "x = add(1, 2)\n" * 9]
    return [
        CompletionRequest(
            prompt=prompts[i % 6],
            max_tokens=10 + 9 * (i % 4),
            temperature=[0.0, 0.0, 0.9][i % 3],
            min_p=[0.0, 0.02][i % 2],
            repetition_penalty=[1.0, 1.0, 1.0, 1.3][i % 4],
            frequency_penalty=[0.0, 0.0, 0.0, 0.0, 0.4][i % 5],
            seed=i,
        )
        for i in range(18)
    ]


@pytest.fixture(scope="module")
def expected(plain: Engine) -> list[Completion]:
    return [complete(plain, **vars(request)) for request in requests()]


async def all_of(engine: Engine, asked: list[CompletionRequest]) -> list[Completion]:
    return list(await asyncio.gather(*map(engine.complete, asked)))


def test_all_ways_together_give_the_plain_answers(
    config: ModelConfig, params: dict, tokenizer: Tokenizer, expected: list[Completion]
):
    with Engine(config, params, tokenizer, slots=4) as engine:
        assert asyncio.run(all_of(engine, requests())) == expected
        assert asyncio.run(all_of(engine, requests())) == expected
        done = engine.statistics
    assert done.requests_finished == 36
    assert done.generated_tokens == 2 * sum(answer.completion_tokens for answer in expected)
    assert done.prompt_tokens == 2 * sum(answer.prompt_tokens for answer in expected)
    # Of the second round nearly all was there, and of the first what the prompts share.
    assert done.cached_prompt_tokens > 0.6 * done.prompt_tokens


def test_what_a_prompt_shares_with_a_running_one_is_copied(engine: Engine, plain: Engine):
    running = engine.submit(CompletionRequest(prompt=FILE, max_tokens=400))
    next(iter(running))
    before = engine.statistics
    answer = complete(engine, prompt=FILE + "for", max_tokens=20)
    assert engine.statistics.cached_prompt_tokens - before.cached_prompt_tokens >= answer.prompt_tokens - 3
    running.cancel()
    assert answer == complete(plain, prompt=FILE + "for", max_tokens=20)


def test_a_long_prompt_is_read_between_the_steps_of_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
):
    steps, calls = engine._steps, []

    def spied(name: str) -> None:
        inner = getattr(steps, name)
        monkeypatch.setattr(steps, name, lambda *a, **k: (calls.append(name), inner(*a, **k))[1])

    for name in ("prefill", "decode", "verify"):
        spied(name)
    running = engine.submit(CompletionRequest(prompt="for", max_tokens=600, temperature=1.0, seed=3))
    next(iter(running))
    calls.clear()
    prompt = "print(1)\n" + FILE * 3
    assert len(tokenizer.encode(prompt)) > 2 * 256
    complete(engine, prompt=prompt, max_tokens=1)
    running.cancel()
    reading = [i for i, name in enumerate(calls) if name == "prefill"]
    assert len(reading) >= 3
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(reading))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_guesses_that_come_true_are_the_plain_answer(
    config: ModelConfig, params: dict, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, temperature: float
):
    # Quiet layers leave the network to repeat itself, which is what guesses are good at.
    layers = {name: value / 3 for name, value in params["layers"].items()}
    requests = [
        CompletionRequest(prompt=prompt, max_tokens=90, temperature=temperature, seed=5, top_k=3, logprobs=1)
        for prompt in ("add add add add", "for number in", FILE[:200])
    ]
    with Engine(config, params | {"layers": layers}, tokenizer, slots=1, speculate=False) as plain:
        expected = [whole(plain.submit(request)) for request in requests]
    with Engine(config, params | {"layers": layers}, tokenizer, slots=4) as engine:
        # Whatever verifying costs on this machine: it is always preferred.
        monkeypatch.setattr(engine._pace, "prefers", lambda *a: True)
        alone = [whole(engine.submit(request)) for request in requests]
        done = engine.statistics
        together = asyncio.run(all_of(engine, requests))
    assert [answer.text for answer in alone] == [answer.text for answer in expected]
    assert [answer.text for answer in together] == [answer.text for answer in expected]
    for one, other in zip(alone, expected, strict=True):
        assert [e.logprob for e in one.logprobs] == pytest.approx([e.logprob for e in other.logprobs], abs=1e-4)
    assert 0 < done.accepted_tokens <= done.drafted_tokens
    assert temperature > 0 or done.accepted_tokens > done.generated_tokens / 3


def test_many_steps_in_one_dispatch_are_the_plain_answer(
    engine: Engine, plain: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_module, "DISPATCH_SECONDS", 1000.0)
    monkeypatch.setattr(engine._pace, "prefers", lambda *a: False)
    dispatches, decode = [], engine._steps.decode
    monkeypatch.setattr(engine._steps, "decode", lambda *a: (dispatches.append(a[-1]), decode(*a))[1])
    complete(engine, prompt="for", max_tokens=8, seed=1)  # the pace is known from here on
    dispatches.clear()
    for temperature in (0.0, 1.1):
        asked = {"prompt": "return a", "max_tokens": 60, "temperature": temperature, "seed": 4, "logprobs": 1}
        answer, other = complete(engine, **asked), complete(plain, **asked)
        assert answer.text == other.text
        assert [e.logprob for e in answer.logprobs] == pytest.approx([e.logprob for e in other.logprobs], abs=1e-4)
    assert max(dispatches) == 8


def test_eight_devices_give_the_tokens_of_one(
    config: ModelConfig, params: dict, tokenizer: Tokenizer, expected: list[Completion]
):
    assert jax.device_count() == 8
    mesh = make_mesh(MeshShape(data=2, fsdp=2, context=1, tensor=2))
    with Engine(config, params, tokenizer, slots=4, mesh=mesh) as engine:
        assert asyncio.run(all_of(engine, requests()[:9])) == expected[:9]
    with pytest.raises(UserError, match="does not divide the 2 kv_heads"):
        Engine(config, params, tokenizer, mesh=make_mesh(MeshShape(data=2, fsdp=1, context=1, tensor=4)))


def test_eight_bit_weights_are_the_network_with_rounded_weights(
    config: ModelConfig, params: dict, tokenizer: Tokenizer
):
    def rounded(name: str, weight: jax.Array) -> np.ndarray:
        return np.asarray(quantize(np.asarray(weight), SUMMED[name]).astype(np.float32)) if name in SUMMED else weight

    embedding = np.asarray(quantize(np.asarray(params["embedding"]), (1,)).astype(np.float32))
    layers = {name: rounded(name, weight) for name, weight in params["layers"].items()}
    asked = [request for request in requests()[:9] if request.temperature == 0]
    asked = [dataclasses.replace(request, logprobs=2) for request in asked]
    with Engine(config, params | {"embedding": embedding, "layers": layers}, tokenizer, slots=4) as engine:
        expected = asyncio.run(all_of(engine, asked))
    with Engine(config, params, tokenizer, slots=4, int8_weights=True) as engine:
        answers = asyncio.run(all_of(engine, asked))
    # The activations' fifteen bits show in the fourth digit, in these loud layers.
    for one, other in zip(answers, expected, strict=True):
        first, its_twin = one.logprobs[0], other.logprobs[0]
        assert first.token == its_twin.token
        assert first.logprob == pytest.approx(its_twin.logprob, abs=0.02)
    assert sum(one.text == other.text for one, other in zip(answers, expected, strict=True)) >= len(asked) - 1


def test_an_eight_bit_cache_stays_near_the_exact_one(config: ModelConfig, params: dict, tokenizer: Tokenizer):
    # At its initial scale a network is as smooth as a trained one.
    layers = {name: value / 3 for name, value in params["layers"].items()}
    answers = []
    for int8_cache in (False, True):
        with Engine(config, params | {"layers": layers}, tokenizer, slots=4, int8_cache=int8_cache) as engine:
            answers.append(complete(engine, prompt=FILE, max_tokens=1, logprobs=20))
    exact, rounded = (dict(answer.logprobs[0].top) for answer in answers)
    apart = [abs(exact[token] - rounded[token]) for token in exact.keys() & rounded.keys()]
    assert len(apart) >= 15
    assert 0 < max(apart) < 0.05


def test_nothing_is_compiled_after_the_warm_up(config: ModelConfig, params: dict, tokenizer: Tokenizer):
    compiled = []

    def listen(event: str, seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    # A shape that no other test uses.
    odd = dataclasses.replace(config, max_context=1000)
    engine = Engine(odd, params, tokenizer, slots=3).warm_up()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with engine:
            asyncio.run(all_of(engine, requests()))
            whole(engine.submit(CompletionRequest(prompt=FILE, max_tokens=9, logprobs=3), prompt_logprobs=True))
            assert compiled == []
            assert engine.statistics.cached_prompt_tokens > 0
        with pytest.raises(RuntimeError, match="before it is started"), engine:
            engine.warm_up()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
