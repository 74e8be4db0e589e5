"""A real HTTP server that speaks both batch APIs, bills for them, and stops where a test wants to kill its client."""

import contextlib
import datetime
import email
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Where the server can be made to stop, in the order of a batch's life.
STOPS = {
    "openai": ("upload", "before create", "after create", "standing", "first results", "second results"),
    "anthropic": ("before create", "after create", "standing", "first results"),
}


@dataclass
class ServedBatch:
    """`outcomes` by custom id; `looks` more at its standing, and it has ended."""

    id: str
    protocol: str
    requests: list[dict[str, Any]]
    metadata: dict[str, str]
    looks: int
    created: float = field(default_factory=time.time)
    refused: dict[str, str] | None = None
    ending: str = "completed"

    @property
    def ended(self) -> bool:
        return self.looks <= 0


class BatchServer(ThreadingHTTPServer):
    """`outcome` says of each prompt what becomes of it: "answer", "twice", "missing", "broken line", "expired",
    "cancelled", or an error's status. `refusals` are what the next batches fail at. At `stop_at`, requests wait until
    `going_on` is set, with `reached` set meanwhile; with `drop`, what waited before a creation then creates nothing.
    `billed` is in nanodollars, at half of $1 and $10 a million tokens."""

    daemon_threads = True

    def __init__(self, outcome: Callable[[str], str], looks: int, page: int):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.outcome, self.looks, self.page = outcome, looks, page
        self.files: dict[str, bytes] = {}
        self.batches: list[ServedBatch] = []
        self.asked: Counter[str] = Counter()
        self.billed = 0
        self.refusals: deque[dict[str, str]] = deque()
        self.most_queued: int | None = None
        self.ending = "completed"
        self.stop_at, self.drop, self.faults = "", False, deque[str]()
        self.reached, self.going_on, self.lock = threading.Event(), threading.Event(), threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass  # killed clients

    def stop(self, where: str) -> None:
        if where == self.stop_at:
            self.reached.set()
            self.going_on.wait(30)

    def create(self, protocol: str, requests: list[dict[str, Any]], metadata: dict[str, str]) -> ServedBatch:
        with self.lock:
            batch = ServedBatch(f"batch_{len(self.batches)}", protocol, requests, metadata, self.looks)
            batch.ending = self.ending
            queued = sum(len(each.requests) for each in self.batches if not each.ended)
            if self.refusals:
                batch.refused = self.refusals.popleft()
            elif self.most_queued is not None and queued + len(requests) > self.most_queued:
                batch.refused = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
            elif len({each["custom_id"] for each in requests}) < len(requests):
                batch.refused = {"code": "duplicate_custom_id", "message": "custom_id is there twice"}
            self.batches.append(batch)
            if batch.refused:
                batch.looks = 0
                return batch
            for prompt in map(prompt_of, requests):
                self.asked[prompt] += 1
                if self.outcome(prompt) in ("answer", "twice", "missing", "broken line"):
                    self.billed += (10 * 1 + 20 * 10) * 1000 // 2
            return batch


def prompt_of(request: dict[str, Any]) -> str:
    body = request.get("body") or request["params"]
    return body.get("prompt") or body["messages"][-1]["content"]


@contextlib.contextmanager
def serving_batches(
    outcome: Callable[[str], str] = lambda prompt: "answer", looks: int = 2, page: int = 2
) -> Iterator[BatchServer]:
    server = BatchServer(outcome, looks, page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.going_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BatchServer

    def log_message(self, *_):
        pass

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self._fault():
            return
        if self.path == "/v1/files":
            self._upload(content)
        elif self.path == "/v1/batches":
            asked = json.loads(content)
            requests = [json.loads(line) for line in self.server.files[asked["input_file_id"]].splitlines()]
            assert asked["completion_window"] == "24h"
            assert {each["url"] for each in requests} == {asked["endpoint"]}
            self._create("openai", requests, asked["metadata"])
        elif self.path == "/v1/messages/batches":
            requests = json.loads(content)["requests"]
            assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each["custom_id"]) for each in requests)
            assert self.headers["anthropic-version"]
            self._create("anthropic", requests, {})
        else:
            self._send(404, {"error": {"message": "no such thing"}})

    def do_GET(self):
        if self._fault():
            return
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/v1")
        if path == "/models":
            self._send(200, {"data": [{"id": "test-model"}]})
        elif path in ("/batches", "/messages/batches"):
            self._list("anthropic" if "messages" in path else "openai", query)
        elif path.startswith("/files/"):
            name, _, which = path.split("/")[2].partition("-")
            self.server.stop("first results" if which == "output" else "second results")
            self._lines(self._batch(name), which)
        elif path.endswith("/results"):
            self.server.stop("first results")
            self._lines(self._batch(path.split("/")[-2]), "output", "error")
        else:
            self.server.stop("standing")
            name = path.split("/")[-1]
            if name not in [each.id for each in self.server.batches]:
                self._send(404, {"error": {"message": "no such batch"}})
                return
            batch = self._batch(name)
            batch.looks -= 1
            self._send(200, shown(batch))

    def _upload(self, content: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in email.message_from_bytes(head + content).get_payload()
        }
        assert parts["purpose"] == b"batch"
        name = f"file{len(self.server.files)}"
        self.server.files[name] = parts["file"]
        self.server.stop("upload")
        self._send(200, {"id": name, "object": "file", "purpose": "batch"})

    def _create(self, protocol: str, requests: list[dict[str, Any]], metadata: dict[str, str]) -> None:
        self.server.stop("before create")
        if self.server.drop:
            self.close_connection = True
            return
        batch = self.server.create(protocol, requests, metadata)
        self.server.stop("after create")
        self._send(200, shown(batch))

    def _list(self, protocol: str, query: dict[str, str]) -> None:
        newest_first = [each for each in reversed(self.server.batches) if each.protocol == protocol]
        after = query.get("after") or query.get("after_id")
        start = [each.id for each in newest_first].index(after) + 1 if after else 0
        page = newest_first[start : start + self.server.page]
        for batch in page:
            batch.looks -= 1
        more = start + self.server.page < len(newest_first)
        self._send(200, {"data": list(map(shown, page)), "has_more": more})

    def _batch(self, name: str) -> ServedBatch:
        return next(each for each in self.server.batches if each.id == name)

    def _lines(self, batch: ServedBatch, *which: str) -> None:
        lines = []
        for request in reversed(batch.requests):  # "in any order"
            prompt = prompt_of(request)
            outcome = self.server.outcome(prompt)
            good = outcome in ("answer", "twice", "broken line")
            if outcome == "missing" or ("output" if good else "error") not in which:
                continue
            line = json.dumps(result(batch.protocol, request["custom_id"], prompt, outcome))
            lines += [line[: len(line) // 2]] if outcome == "broken line" else [line] * (1 + (outcome == "twice"))
        self._send(200, "\n".join(lines), "application/octet-stream")

    def _fault(self) -> bool:
        if not self.server.faults or "models" in self.path:
            return False
        self._send(int(self.server.faults.popleft()), {"error": {"message": "no"}})
        return True

    def _send(self, status: int, content: Any, kind: str = "application/json") -> None:
        wire = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(wire)))
        self.end_headers()
        self.wfile.write(wire)


def shown(batch: ServedBatch) -> dict[str, Any]:
    """The batch object of its API."""
    count = len(batch.requests)
    if batch.protocol == "anthropic":
        counts = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0)
        counts |= {"processing": 0 if batch.ended else count, "succeeded": count if batch.ended else 0}
        return {
            "id": batch.id, "type": "message_batch", "request_counts": counts,
            "processing_status": "ended" if batch.ended else "in_progress",
            "created_at": datetime.datetime.fromtimestamp(batch.created, datetime.UTC).isoformat(),
        }  # fmt: skip
    status = "failed" if batch.refused else batch.ending if batch.ended else "in_progress"
    return {
        "id": batch.id, "object": "batch", "status": status, "metadata": batch.metadata,
        "created_at": int(batch.created), "errors": {"data": [batch.refused]} if batch.refused else None,
        "request_counts": {"total": count, "completed": count if batch.ended else count // 2, "failed": 0},
        "output_file_id": f"{batch.id}-output" if batch.ended else None,
        "error_file_id": f"{batch.id}-error" if batch.ended else None,
    }  # fmt: skip


def result(protocol: str, custom_id: str, prompt: str, outcome: str) -> dict[str, Any]:
    """One line of results."""
    text = f"answer to {prompt}: " + "word " * 12
    if protocol == "openai":
        line: dict[str, Any] = {"id": "r", "custom_id": custom_id, "response": None, "error": None}
        if outcome in ("expired", "cancelled"):
            return line | {"error": {"code": f"batch_{outcome}", "message": f"it was {outcome}"}}
        if outcome.isdigit():
            return line | {"response": {"status_code": int(outcome), "body": {"error": {"message": "no"}}}}
        body = {
            "choices": [{"finish_reason": "stop", "text": text, "message": {"content": text}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 20},
        }
        return line | {"response": {"status_code": 200, "body": body}}
    if outcome in ("expired", "cancelled"):
        return {"custom_id": custom_id, "result": {"type": {"cancelled": "canceled"}.get(outcome, outcome)}}
    if outcome.isdigit():
        kind = "invalid_request_error" if outcome == "400" else "api_error"
        error = {"type": "error", "error": {"type": kind, "message": "no"}}
        return {"custom_id": custom_id, "result": {"type": "errored", "error": error}}
    message = {
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 20},
    }  # fmt: skip
    return {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}
