"""A real HTTP server whose words are known: it speaks the OpenAI API, streams piece by piece, and keeps what it got."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Scripted:
    """`answers` in their order, the last one for ever. A piece is a word with the space behind it."""

    url: str = ""
    answers: Sequence[str] = ("ok",)
    finish_reason: str = "stop"
    pause: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: frozenset[str] = frozenset()  # parameters that this server does not know
    models: Sequence[str] = ("scripted",)
    owner: str = "test"

    def next_answer(self) -> str:
        return self.answers[min(len(self.bodies), len(self.answers)) - 1]


def pieces(text: str) -> Iterator[str]:
    start = 0
    for at, character in enumerate(text):
        if character in " \n":
            yield text[start : at + 1]
            start = at + 1
    if text[start:]:
        yield text[start:]


@contextmanager
def scripted_server(**script: Any) -> Iterator[Scripted]:
    """Serves while the block runs."""
    state = Scripted(**script)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            models = [{"id": name, "object": "model", "owned_by": state.owner} for name in state.models]
            self._json(200, {"object": "list", "data": models})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.headers.append(dict(self.headers))
            if unknown := sorted(state.refused & body.keys()):
                return self._json(400, {"error": {"message": f"Unrecognized request argument supplied: {unknown[0]}"}})
            state.bodies.append(body | {"path": self.path})
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            chat = "messages" in body
            for piece in pieces(state.next_answer()):
                self._event([{"index": 0, **({"delta": {"content": piece}} if chat else {"text": piece})}])
                time.sleep(state.pause)
            last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
            self._event([{"index": 0, **last, "finish_reason": state.finish_reason}])
            self._event([], usage={"prompt_tokens": 7, "completion_tokens": 9})
            self._line("[DONE]")

        def _event(self, choices: list[dict[str, Any]], **more: Any) -> None:
            self._line(json.dumps({"choices": choices} | more))

        def _line(self, data: str) -> None:
            try:
                self.wfile.write(f"data: {data}\n\n".encode())
                self.wfile.flush()
            except OSError:  # the client has gone: nobody is to be told
                state.pause = 0

        def _json(self, status: int, content: dict[str, Any]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
