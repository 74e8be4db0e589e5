"""What goes over the wire to each kind of API, what is read back, and what is believed of it."""

import asyncio
from dataclasses import replace

import pytest
from storm import counts, storm_server

from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.distillation import anthropic_protocol, openai_protocol
from demiurgic_jax.distillation.failures import AnswerLostError, RequestRefusedError
from demiurgic_jax.distillation.limits import Limiter, StatedLimit, duration, stated_limit
from demiurgic_jax.distillation.price_table import LIST_PRICES, list_price
from demiurgic_jax.distillation.pricing import credible, prompt_tokens_at_most
from demiurgic_jax.distillation.teacher import HttpTeacher
from demiurgic_jax.errors import UserError

CHAT = CompletionRequest(messages=(Message("system", "brief"), Message("user", "hi")), max_tokens=40, stop=("END",))


def test_anthropic_is_asked_and_read_in_its_own_format(monkeypatch):
    assert anthropic_protocol.body("claude", CHAT) == {
        "model": "claude", "max_tokens": 40, "temperature": 0.0, "system": "brief",
        "messages": [{"role": "user", "content": "hi"}], "stop_sequences": ["END"],
    }  # fmt: skip
    with pytest.raises(RequestRefusedError, match="suffix"):
        anthropic_protocol.body("claude", CompletionRequest(prompt="a", suffix="b"))
    monkeypatch.setenv("CLAUDE_KEY", "sk-ant")

    async def ask(url):
        async with HttpTeacher(url, "m", protocol=anthropic_protocol, api_key_env="CLAUDE_KEY") as teacher:
            return await teacher.complete(CHAT)

    with storm_server() as url:
        answer = asyncio.run(ask(url))
        assert counts(url)["keys"] == {"sk-ant": 1}
    assert answer.text.startswith("answer to hi: word")
    assert (answer.prompt_tokens, answer.completion_tokens) == (8, len(answer.text) // 4)


def test_answers_of_another_shape_or_refused_are_told_apart():
    said = {"content": [{"type": "text", "text": "x"}], "stop_reason": "max_tokens"}
    usage = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}
    read = anthropic_protocol.read_answer(CHAT, said | {"usage": usage})
    assert (read.finish_reason, read.prompt_tokens, read.completion_tokens) == ("length", 7, 5)
    with pytest.raises(RequestRefusedError, match="refused"):
        anthropic_protocol.read_answer(CHAT, said | {"stop_reason": "refusal"})
    for wrong in ({}, {"content": "x"}, {"choices": []}):
        with pytest.raises(AnswerLostError):
            anthropic_protocol.read_answer(CHAT, wrong)
    for wrong in ({}, {"choices": [{"message": {"content": 7}}]}):
        with pytest.raises(AnswerLostError):
            openai_protocol.read_answer(CHAT, wrong)


def test_models_that_think_get_their_limit_under_its_other_name():
    assert openai_protocol.body("o4-mini", CHAT)["max_completion_tokens"] == 40
    assert "max_tokens" not in openai_protocol.body("o4-mini", CHAT)
    assert openai_protocol.body("gpt-4.1", CHAT)["max_tokens"] == 40


def test_impossible_usage_is_booked_at_the_most_that_it_can_be():
    fair = Completion("word " * 16, "stop", 10, 20)
    assert credible(CHAT, fair) == (fair, True)
    for wrong in (-1, 41, 10**9, 0, 4):
        booked, believed = credible(CHAT, replace(fair, completion_tokens=wrong))
        assert (booked.completion_tokens, believed) == (40, False)
    booked, believed = credible(CHAT, replace(fair, prompt_tokens=10**9))
    assert (booked.prompt_tokens, believed) == (prompt_tokens_at_most(CHAT), False)


def test_limits_are_read_from_what_servers_state():
    headers = {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599"}
    assert openai_protocol.stated_limits(headers) == (StatedLimit(600, 599), None)
    # 10,000 a day, of which 5,000 come back in 12 hours, are not 10,000 a minute.
    assert stated_limit("10000", "5000", 43200.0) == StatedLimit(pytest.approx(6.94, abs=0.01), 5000)
    assert [duration(text) for text in ("6m0s", "20ms", "1.5s", "soon", None)] == [360, 0.02, 1.5, None, None]
    assert stated_limit("many", None, None) is None


def test_a_limit_on_tokens_paces_large_requests():
    async def three():
        limiter = Limiter(tokens_per_minute=60_000)  # 1,000 a second
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(4):
            await limiter.acquire(400)
        return loop.time() - started

    assert 0.8 <= asyncio.run(three()) < 3.0


def test_prices_have_a_source_and_a_date_and_unknown_models_none():
    assert all(row.source and len(row.as_of) == 7 for row in LIST_PRICES)
    assert list_price("gpt-4.1").price.cost(1_000_000, 0) == 2 * 10**9
    with pytest.raises(UserError, match=r"no price is known for the teacher 'gpt-9'.*dollars_per_million_input"):
        list_price("gpt-9")
