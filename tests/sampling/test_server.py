"""The HTTP server, asked by the `openai` package and by hand."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from demiurgic_jax.data.completer import CompletionRequest, Message
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serve, serving
from demiurgic_jax.sampling.server_config import ServerConfig

CHAT = [{"role": "user", "content": "add"}]


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with serving(engine, "tiny") as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client


def engine_text(engine: Engine, **options) -> str:
    stream = engine.submit(CompletionRequest(**options))
    return "".join(piece.text for piece in stream)


def test_openai_lists_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_openai_completes(client: openai.OpenAI, engine: Engine):
    answer = client.completions.create(model="tiny", prompt="for", max_tokens=9, temperature=0)
    assert answer.choices[0].text == engine_text(engine, prompt="for", max_tokens=9)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == len(engine.tokenizer.encode("for"))
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 9 + answer.usage.prompt_tokens)


def test_openai_streams_a_completion(client: openai.OpenAI, engine: Engine):
    options = {"model": "tiny", "prompt": "for", "max_tokens": 20, "temperature": 0.9, "seed": 5, "stop": ["zzz"]}
    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == client.completions.create(**options).choices[0].text
    assert len(chunks) > 5
    assert chunks[-1].usage.completion_tokens == client.completions.create(**options).usage.completion_tokens


def test_openai_chats(client: openai.OpenAI, engine: Engine):
    expected = engine_text(engine, messages=(Message("user", "add"),), max_tokens=12)
    answer = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=12, temperature=0)
    assert (answer.choices[0].message.role, answer.choices[0].message.content) == ("assistant", expected)
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=CHAT, max_completion_tokens=12, temperature=0, stream=True
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["length"]


def test_openai_gets_logprobs(client: openai.OpenAI, engine: Engine):
    options = {"model": "tiny", "messages": CHAT, "max_tokens": 6, "temperature": 0, "logprobs": True}
    content = client.chat.completions.create(**options, top_logprobs=3).choices[0].logprobs.content
    assert len(content) == 6
    for entry in content:
        # Greedy: what was chosen is the first of the alternatives.
        assert (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob) == (entry.token, entry.logprob)
        assert len({alternative.token for alternative in entry.top_logprobs}) == 3
        assert entry.token in (bytes(entry.bytes).decode(errors="ignore"), f"bytes:{repr(bytes(entry.bytes))[2:-1]}")
    chunks = client.chat.completions.create(**options, top_logprobs=3, stream=True)
    streamed = [e for c in chunks if c.choices[0].logprobs for e in c.choices[0].logprobs.content]
    assert streamed == content


def test_echo_judges_the_prompt_as_generation_would(client: openai.OpenAI):
    options = {"model": "tiny", "temperature": 0, "logprobs": 2}
    answer = client.completions.create(**options, prompt="def add(", max_tokens=4).choices[0]
    whole = client.completions.create(**options, prompt="def add(", max_tokens=4, echo=True).choices[0]
    assert whole.text == "def add(" + answer.text
    assert (whole.logprobs.text_offset[0], whole.logprobs.token_logprobs[0]) == (0, None)
    assert whole.logprobs.tokens[-4:] == answer.logprobs.tokens
    assert whole.logprobs.token_logprobs[-4:] == answer.logprobs.token_logprobs
    assert "".join(whole.logprobs.tokens[:-4]) == "def add("
    only = client.completions.create(**options, prompt="def add(", max_tokens=0, echo=True).choices[0]
    assert only.logprobs.token_logprobs == whole.logprobs.token_logprobs[:-4]
    # What generation thought of its own first token is what judging thinks of it in a prompt.
    longer = client.completions.create(**options, prompt="def add(a", max_tokens=0, echo=True).choices[0]
    assert longer.logprobs.tokens[-1] == "a"
    assert longer.logprobs.top_logprobs[-1] == pytest.approx(answer.logprobs.top_logprobs[0], abs=1e-4)
    streamed = list(client.completions.create(**options, prompt="def add(", max_tokens=4, echo=True, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == "def add(" + answer.text


def test_n_choices_and_several_prompts_come_in_order(client: openai.OpenAI):
    options = {"model": "tiny", "max_tokens": 8, "temperature": 1.0, "seed": 1}
    answer = client.completions.create(**options, prompt=["for", "def"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in answer.choices}) == 4
    assert answer.choices[2].text == client.completions.create(**options, prompt="def").choices[0].text
    texts = ["", "", "", ""]
    for chunk in client.completions.create(**options, prompt=["for", "def"], n=2, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in answer.choices]


def test_a_suffix_is_filled_in_the_middle(client: openai.OpenAI, engine: Engine):
    answer = client.completions.create(model="tiny", prompt="def", suffix="return", max_tokens=8, temperature=0)
    assert answer.choices[0].text == engine_text(engine, prompt="def", suffix="return", max_tokens=8)


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("completions", {}, "prompt"),
        ("completions", {"prompt": [1, "a"]}, "prompt"),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": [[1], "a"]}, "prompt"),
        ("completions", {"prompt": [99999]}, "prompt"),
        ("completions", {"prompt": [1], "suffix": "x"}, "suffix"),
        ("completions", {"prompt": "x", "best_of": 3}, "best_of"),
        ("completions", {"prompt": "x", "min_p": 1.5}, "min_p"),
        ("completions", {"prompt": "x", "stop_token_ids": [99999]}, "stop_token_ids"),
        ("completions", {"prompt": "x", "stop": ""}, "stop"),
        ("completions", {"prompt": "x", "temperature": -1}, "temperature"),
        ("completions", {"prompt": "x", "temperature": "hot"}, "temperature"),
        ("completions", {"prompt": "x", "top_p": 2}, "top_p"),
        ("completions", {"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ("completions", {"prompt": "x", "max_tokens": True}, "max_tokens"),
        ("completions", {"prompt": "x", "n": 0}, "n"),
        ("completions", {"prompt": "x", "logprobs": 21}, "logprobs"),
        ("completions", {"prompt": "x", "stop": [1]}, "stop"),
        ("completions", {"prompt": "x", "temprature": 1}, "temprature"),
        ("completions", {"prompt": "x", "presence_penalty": 2.5}, "presence_penalty"),
        ("completions", {"prompt": "\ud800"}, None),
        ("completions", {"prompt": "word " * 3000}, None),
        ("chat/completions", {}, "messages"),
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": [{"role": "wizard", "content": "x"}]}, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": 7}]}, "messages"),
        ("chat/completions", {"messages": CHAT, "top_logprobs": 3}, "top_logprobs"),
        ("chat/completions", {"messages": CHAT, "tools": [{"type": "function"}]}, "tools"),
    ],
)
def test_a_bad_field_is_refused_by_name(url: str, route: str, body: dict, param: str | None):
    content = json.dumps(body).replace("\\\\\\\\", "\\\\")
    response = httpx.post(f"{url}/{route}", content=content)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert (param or "") in error["message"]


def test_what_is_not_there_or_not_json_gets_the_error_object(url: str):
    answers: dict[int, Callable[[], httpx.Response]] = {
        404: lambda: httpx.get(f"{url}/nothing"),
        405: lambda: httpx.get(f"{url}/completions"),
        400: lambda: httpx.post(f"{url}/completions", content=b"{nonsense"),
        413: lambda: httpx.post(f"{url}/completions", content=b" " * (ServerConfig().max_body_bytes + 1)),
    }
    for status, ask in answers.items():
        response = ask()
        assert response.status_code == status
        assert response.json()["error"]["message"]
    model = httpx.post(f"{url}/completions", json={"model": "gpt-4", "prompt": "x"})
    assert (model.status_code, model.json()["error"]["code"]) == (404, "model_not_found")


def free_within(engine: Engine, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while engine.active and time.monotonic() < end:
        time.sleep(0.01)
    return engine.active == 0


LONG = {"prompt": "for", "max_tokens": 900, "temperature": 0, "n": 60}  # fifteen seconds of work on two idle cores
PATIENCE = 10


def test_a_client_that_leaves_a_stream_frees_its_slot(url: str, engine: Engine):
    with httpx.stream("POST", f"{url}/completions", json=LONG | {"stream": True}) as response:
        next(response.iter_lines())
        assert engine.active > 0
    assert free_within(engine, PATIENCE)


def test_a_client_that_leaves_while_it_waits_frees_its_slot(url: str, engine: Engine):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/completions", json=LONG, timeout=0.3)
    assert free_within(engine, PATIENCE)


def test_fifty_clients_at_once_get_what_they_would_alone(client: openai.OpenAI):
    def ask(seed: int) -> str:
        options = {"model": "tiny", "prompt": f"for {seed}", "max_tokens": 10, "temperature": 0.8, "seed": seed}
        return client.completions.create(**options).choices[0].text

    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(ask, range(50)))
    assert [ask(seed) for seed in range(0, 50, 7)] == together[::7]


def test_health_tells_what_runs(url: str):
    health = httpx.get(url.removesuffix("/v1") + "/health")
    assert health.json() == {"status": "ok", "active": 0, "waiting": 0, "slots": 4}


def test_a_port_in_use_is_a_users_mistake(engine: Engine):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1 port {port}"):
            serve(engine, "tiny", "127.0.0.1", port)


def test_an_engine_that_fails_answers_500_and_goes_on(url: str, engine: Engine):
    body = {"prompt": "for", "max_tokens": 20}
    decode = engine._steps.decode

    def fail(*arguments):
        engine._steps.decode = decode
        raise MemoryError("no room")

    engine._steps.decode = fail
    response = httpx.post(f"{url}/completions", json=body)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    engine._steps.decode = fail
    streamed = httpx.post(f"{url}/completions", json=body | {"stream": True}).text
    assert "no room" in streamed
    assert "[DONE]" not in streamed
    assert httpx.post(f"{url}/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200
