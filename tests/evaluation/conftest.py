"""A small benchmark of real problems, models that answer what they are told to, and a web server of files."""

import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.evaluation.benchmark import Benchmark
from demiurgic_jax.evaluation.humaneval import humaneval_problems
from demiurgic_jax.sandbox.bubblewrap import why_unavailable

needs_sandbox = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")

FUNCTIONS = {
    "double": ("    return 2 * x\n", "assert candidate(3) == 6"),
    "negate": ("    return -x\n", "assert candidate(3) == -3"),
    "square": ("    return x * x\n", "assert candidate(3) == 9"),
    "halve": ("    return x / 2\n", "assert candidate(3) == 1.5"),
}


def humaneval_rows() -> list[dict[str, str]]:
    """Rows of HumanEval's form, about sums that everybody can do."""
    return [
        {
            "task_id": f"Sums/{number}",
            "prompt": f'def {name}(x):\n    """Return x, {name}d."""\n',
            "entry_point": name,
            "canonical_solution": body,
            "test": f"def check(candidate):\n    {check}\n",
        }
        for number, (name, (body, check)) in enumerate(FUNCTIONS.items())
    ]


@pytest.fixture
def sums() -> Benchmark:
    return Benchmark("sums", tuple(humaneval_problems(humaneval_rows())), {"sums.jsonl": "00"}, 64)


class Answering:
    """A model that answers with what `answer` makes of a request, and counts how often it was asked."""

    def __init__(self, answer: Callable[[CompletionRequest], str]):
        self.answer, self.asked = answer, []

    async def complete(self, request: CompletionRequest) -> Completion:
        self.asked.append(request)
        text = self.answer(request)
        return Completion(text, "stop", 1, len(text))


def right_body(request: CompletionRequest) -> str:
    """What a model that can do sums writes."""
    found = re.search(r"def (\w+)\(x\)", request.prompt or request.messages[-1].content)
    return "\n" + FUNCTIONS[found[1]][0]


class _Files(BaseHTTPRequestHandler):
    """Serves `content`, from the byte asked for; breaks off after `breaks_after` bytes while `breaks` lasts."""

    def __init__(self, server: "FileServer", *args):
        self.files = server
        super().__init__(*args)

    def do_GET(self) -> None:
        content, begin = self.files.content, 0
        self.files.ranges.append(self.headers.get("Range"))
        self.files.paths.append(self.path)
        if asked := self.headers.get("Range"):
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if begin >= len(content):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        part = content[begin:]
        if self.files.breaks:
            self.files.breaks -= 1
            part = part[: self.files.breaks_after]
        self.wfile.write(part)
        self.close_connection = True

    def log_message(self, *_) -> None:
        pass


class FileServer:
    def __init__(self, content: bytes, breaks: int = 0, breaks_after: int = 0):
        self.content, self.breaks, self.breaks_after = content, breaks, breaks_after
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, self))
        self.address = f"http://127.0.0.1:{self._server.server_port}/file.jsonl"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., FileServer]]:
    servers = []

    def start(content: bytes, **more) -> FileServer:
        servers.append(FileServer(content, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
