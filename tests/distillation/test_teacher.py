"""The HTTP teacher against a real server with real faults."""

import asyncio
import datetime
import email.utils
import socket

import pytest
from faulty_server import PROMPT_TOKENS, serving

from demiurgic_jax.data.completer import CompletionRequest, Message, TokenLogprob
from demiurgic_jax.distillation.failures import AnswerLostError, BusyError, RequestRefusedError
from demiurgic_jax.distillation.teacher import HttpTeacher, seconds
from demiurgic_jax.errors import UserError

CHAT = CompletionRequest(messages=(Message("user", "hi"),), max_tokens=5)


def run(server_url, call, **options):
    async def inside():
        async with HttpTeacher(server_url, "test-model", **options) as teacher:
            return await call(teacher)

    return asyncio.run(inside())


def complete(url, request=CHAT, **options):
    return run(url, lambda teacher: teacher.complete(request), **options)


def test_chat_and_raw_completions_carry_every_parameter():
    request = CompletionRequest(
        prompt="a", suffix="b", max_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("\n",), seed=11, logprobs=2
    )
    with serving(lambda body: "text") as server:
        answer = complete(server.url, request)
        assert (answer.text, answer.finish_reason) == ("text", "stop")
        assert (answer.prompt_tokens, answer.completion_tokens) == (PROMPT_TOKENS, 7)
        assert answer.logprobs == (
            TokenLogprob("t", -0.5, (("t", -0.5), ("other", -3.0))),
            TokenLogprob("ext", -1.5, (("ext", -1.5), ("other", -3.0))),
        )
        chat = CompletionRequest(messages=(Message("system", "s"), Message("user", "u")), logprobs=1)
        assert complete(server.url, chat).logprobs == (
            TokenLogprob("t", -0.5, (("t", -0.5),)),
            TokenLogprob("ext", -1.5, (("ext", -1.5),)),
        )
        assert complete(server.url, CHAT).logprobs is None
    raw, chat_body, plain = server.bodies
    assert raw == {
        "model": "test-model", "prompt": "a", "suffix": "b", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9,
        "top_k": 3, "stop": ["\n"], "seed": 11, "logprobs": 2,
    }  # fmt: skip
    assert chat_body["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert (chat_body["logprobs"], chat_body["top_logprobs"]) == (True, 1)
    assert set(plain) == {"model", "messages", "max_tokens", "temperature"}


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("429", BusyError, "rate limited"),
        ("500", BusyError, "server error"),
        ("502", BusyError, "server error"),
        ("503", BusyError, "server error"),
        ("504", AnswerLostError, "server error"),
        ("reset", AnswerLostError, "connection broke"),
        ("truncated", AnswerLostError, "connection broke"),
        ("garbage", AnswerLostError, "broken JSON"),
        ("no choices", AnswerLostError, "another format"),
        ("html", AnswerLostError, "web page"),
        ("silence", AnswerLostError, "too slow"),
    ],
)
def test_every_fault_has_its_name_and_says_whether_it_may_be_billed(fault, kind, reason):
    with serving() as server:
        server.faults.append(fault)
        with pytest.raises(kind) as failure:
            complete(server.url, timeout=0.5)
        assert failure.value.reason == reason
        assert len(server.bodies) == 1
        assert complete(server.url).text == "answer"


def test_retry_after_is_read_in_both_its_forms():
    with serving() as server:
        server.faults.append("429 after 7")
        with pytest.raises(BusyError) as busy:
            complete(server.url)
        assert busy.value.retry_after == 7.0
    in_a_minute = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    assert 55 < seconds(email.utils.format_datetime(in_a_minute, usegmt=True)) <= 60
    assert seconds("soon") is None


def test_a_refused_connection_names_the_url_and_the_mend():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    sentence = rf"{url} refuses connections .*start the server or fix config\.teacher\.url"
    with pytest.raises(UserError, match=sentence):
        run(url, lambda teacher: teacher.check())
    with pytest.raises(BusyError, match=sentence):
        complete(url)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("html", "answers with a web page"),
        ("404", r"answers 404 Not Found for /v1/models: fix config\.teacher\.url"),
        ("401", "answers 401 Unauthorized to no key"),
        ("500", "answers 500 .*try again later"),
        ("truncated", "stops in the middle of its answer"),
        ("garbage", "broken JSON"),
        ("no choices", "does not list its models"),
    ],
)
def test_the_check_says_in_one_sentence_what_is_wrong(fault, sentence):
    with serving() as server:
        assert run(server.url, lambda teacher: teacher.check()) == ["test-model"]
        server.faults.append(fault)
        with pytest.raises(UserError, match=sentence):
            run(server.url, lambda teacher: teacher.check())


def test_an_unknown_model_lists_the_known_ones():
    async def inside(url):
        async with HttpTeacher(url, "other") as teacher:
            await teacher.check()

    with serving() as server, pytest.raises(UserError, match=r"no model 'other' \(it offers test-model\)"):
        asyncio.run(inside(server.url))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://[::1", ""])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UserError, match=r"config\.teacher\.url"):
        HttpTeacher(url, "m")


def test_a_bad_request_is_refused_for_good():
    with serving() as server:
        server.faults.append("400")
        with pytest.raises(RequestRefusedError, match="400"):
            complete(server.url)
        assert len(server.bodies) == 1


def test_the_key_comes_from_the_environment_and_shows_nowhere_else(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "sk-secret")
    with serving() as server:
        complete(server.url, api_key_env="TEACHER_KEY")
        assert server.headers[0]["authorization"] == "Bearer sk-secret"
        server.faults.append("401")
        with pytest.raises(UserError, match="environment variable TEACHER_KEY") as error:
            complete(server.url, api_key_env="TEACHER_KEY")
        assert "sk-secret" not in str(error.value)
        complete(server.url)
        assert "authorization" not in server.headers[-1]
    teacher = HttpTeacher("http://127.0.0.1:1/v1", "m", api_key_env="TEACHER_KEY")
    assert "sk-secret" not in repr(vars(teacher))
    for value in ("", "  ", "sk-\nsecret", "sk-ä"):
        monkeypatch.setenv("TEACHER_KEY", value)
        with pytest.raises(UserError, match="TEACHER_KEY") as error:
            HttpTeacher("http://127.0.0.1:1/v1", "m", api_key_env="TEACHER_KEY")
        assert "secret" not in str(error.value)
