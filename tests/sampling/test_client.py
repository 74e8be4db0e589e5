"""The client without JAX: against our server, and against servers that misbehave."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.client import HttpCompleter, stream_completion
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serving

REQUESTS = [
    CompletionRequest(prompt="for", max_tokens=12),
    CompletionRequest(prompt="for", max_tokens=12, temperature=1.0, top_k=9, top_p=0.9, seed=3, logprobs=4),
    CompletionRequest(prompt="for", suffix="return", max_tokens=12, stop=("zz",)),
    CompletionRequest(messages=(Message("system", "a"), Message("user", "b")), max_tokens=12, logprobs=2),
]


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with serving(engine, "tiny") as url:
        yield url


def complete(url: str, request: CompletionRequest) -> Completion:
    async def ask() -> Completion:
        async with HttpCompleter(url) as completer:
            return await completer.complete(request)

    return asyncio.run(ask())


def streamed(url: str, request: CompletionRequest) -> tuple[list[str], Completion]:
    pieces, generator = [], stream_completion(url, request)
    while True:
        try:
            pieces.append(next(generator).text)
        except StopIteration as end:
            return pieces, end.value


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_comes_over_http_is_what_the_engine_says(engine: Engine, url: str, request_: CompletionRequest):
    expected = asyncio.run(engine.complete(request_))
    assert complete(url, request_) == expected
    pieces, completion = streamed(url, request_)
    assert completion == expected
    assert "".join(pieces) == expected.text
    assert len(pieces) > 1


def test_importing_the_client_imports_no_jax():
    code = "import sys, demiurgic_jax.sampling.client; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@contextmanager
def answering(status: int, content_type: str, body: bytes) -> Iterator[str]:
    """A server that says the same to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


ASK_EITHER_WAY = pytest.mark.parametrize("ask", [complete, streamed])


@ASK_EITHER_WAY
@pytest.mark.parametrize(
    ("status", "content_type", "body", "sentence"),
    [
        (200, "text/html", b"<html>router login</html>", "answers text/html instead of JSON"),
        (
            401,
            "application/json",
            b'{"error": {"message": "no such key"}}',
            r"refused the request \(401\): no such key",
        ),
        (502, "text/html", b"<html>", r"refused the request \(502\): Bad Gateway"),
        (200, "application/json", b'{"data": []}', "lists no models"),
        (200, "application/json", b"[]", "lists no models"),
    ],
)
def test_a_server_that_is_none_is_named(ask: Callable, status: int, content_type: str, body: bytes, sentence: str):
    with answering(status, content_type, body) as url, pytest.raises(UserError, match=sentence) as caught:
        ask(url, REQUESTS[0])
    assert url in str(caught.value)


@ASK_EITHER_WAY
def test_a_server_that_refuses_connections_is_named(ask: Callable):
    with answering(200, "text/plain", b"") as url:
        pass
    with pytest.raises(UserError, match="cannot be reached"):
        ask(url, REQUESTS[0])


@ASK_EITHER_WAY
def test_a_url_without_scheme_is_refused(ask: Callable):
    with pytest.raises(UserError, match="neither http:// nor https://"):
        ask("localhost:8000/v1", REQUESTS[0])


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (b'data: {"choices": [{"text": "half an an"}]}\n\n', "stopped in the middle"),
        (b'data: {"error": {"message": "out of memory"}}\n\n', "broke off: out of memory"),
        (b'data: {"choices": [{}]}\n\n', "none of the OpenAI API"),
        (b"data: {half\n\n", "none of the OpenAI API"),
    ],
)
def test_a_stream_that_goes_wrong_is_an_error_and_no_answer(events: bytes, sentence: str):
    with answering(200, "text/event-stream", events) as url, pytest.raises(UserError, match=sentence):
        list(stream_completion(url, REQUESTS[0], model="m"))
