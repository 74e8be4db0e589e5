"""A real OpenAI-compatible HTTP server that answers as a test wants, faults included."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 10, 20


class FaultyServer(ThreadingHTTPServer):
    """`faults` are used up by the next requests, one each; afterwards `reply` makes the texts.

    A fault is a status ("429", "500", …), "429 after SECONDS", "reset", "truncated", "garbage", "html", "silence" or
    "no choices". `bodies` and `headers` keep what was asked, and `times` when.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, reply: Callable[[dict[str, Any]], str], delay: float = 0.0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.delay = reply, delay
        self.faults: deque[str] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass  # clients that are killed in mid-answer are what these tests are about


@contextlib.contextmanager
def serving(
    reply: Callable[[dict[str, Any]], str] = lambda body: "answer", delay: float = 0.0
) -> Iterator[FaultyServer]:
    server = FaultyServer(reply, delay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault:
            self._fail(fault)
        else:
            self._send(200, json.dumps({"object": "list", "data": [{"id": "test-model"}]}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.times.append(time.monotonic())
        self.server.headers.append(dict(self.headers))
        fault = self.server.faults.popleft() if self.server.faults else None
        self.server.bodies.append(body)
        if fault:
            self._fail(fault)
            return
        time.sleep(self.server.delay)
        self._send(200, json.dumps(answer_to(body, self.server.reply(body), self.path)))

    def _fail(self, fault: str) -> None:
        whole = json.dumps(answer_to({"prompt": ""}, "lost", self.path))
        if fault[:3].isdigit():
            status, _, after = fault.partition(" after ")
            self._send(int(status), json.dumps({"error": {"message": "no"}}), {"Retry-After": after} if after else {})
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault == "truncated":
            self._send(200, whole, cut=len(whole) // 2)
        elif fault == "garbage":
            self._send(200, whole[: len(whole) // 2])
        elif fault == "html":
            self._send(200, "<!DOCTYPE html><html><body>Welcome</body></html>", {"Content-Type": "text/html"})
        elif fault == "silence":
            time.sleep(2.0)
            self.close_connection = True
        elif fault == "no choices":
            self._send(200, json.dumps({"choices": []}))
        else:
            raise AssertionError(f"unknown fault {fault}")

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = cut is not None


def answer_to(body: dict[str, Any], text: str, path: str) -> dict[str, Any]:
    """An answer in OpenAI's format, with logprobs where they are asked for."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    tokens = [(text[:1], -0.5), (text[1:], -1.5)]
    if path.endswith("/chat/completions"):
        choice["message"] = {"role": "assistant", "content": text}
        if body.get("logprobs"):
            choice["logprobs"] = {
                "content": [
                    {"token": token, "logprob": value, "top_logprobs": [{"token": token, "logprob": value}]}
                    for token, value in tokens
                ]
            }
    else:
        choice["text"] = text
        if body.get("logprobs") is not None:
            choice["logprobs"] = {
                "tokens": [token for token, _ in tokens],
                "token_logprobs": [value for _, value in tokens],
                "top_logprobs": [{token: value, "other": -3.0} for token, value in tokens],
            }
    asked = body.get("prompt") or "".join(message["content"] for message in body.get("messages", ()))
    usage = {
        "prompt_tokens": max(PROMPT_TOKENS, len(asked) // 4),
        "completion_tokens": min(max(COMPLETION_TOKENS, len(text) // 4), body.get("max_tokens", 10**6)),
    }
    return {"id": "x", "model": "test-model", "choices": [choice], "usage": usage}
