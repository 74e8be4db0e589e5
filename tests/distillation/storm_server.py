"""A teacher with the faults of the real ones, in a process of its own: python storm_server.py '{"fault_rate": 0.2}'.

Speaks OpenAI's chat and completion APIs and Anthropic's over HTTP/1.1, bills like them, and counts what it
billed. The first line that it prints is its port; GET /counts tells what it saw.
"""

import asyncio
import json
import random
import socket
import struct
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

FAULTS = (
    "429", "429 after", "500", "503", "reset", "stall", "slow", "truncated", "garbage", "html", "twice", "wrong usage",
)  # fmt: skip
# What answers of these kinds cost is billed; errors are not.
UNBILLED = {"429", "429 after", "500", "503"}
WRONG_USAGE: tuple[Any, ...] = (
    None, {}, {"prompt_tokens": -5, "completion_tokens": -1}, {"prompt_tokens": 10**9, "completion_tokens": 10**9},
    {"prompt_tokens": "many", "completion_tokens": None}, {"prompt_tokens": 0, "completion_tokens": 0},
)  # fmt: skip


@dataclass
class Options:
    """`fault_rate` of the requests meet one of `faults`. `per_minute` requests are let through (0: all), saved up for
    `burst_seconds`; what is above gets 429, told `retry_after` if that is set, and the limit `stated` in headers."""

    seed: int = 0
    fault_rate: float = 0.0
    faults: tuple[str, ...] = FAULTS
    latency: float = 0.02
    stall_seconds: float = 30.0
    per_minute: float = 0.0
    burst_seconds: float = 1.0
    retry_after: bool = False
    stated: bool = False
    input_per_million: float = 1.0
    output_per_million: float = 10.0


@dataclass
class Counts:
    """`asked` and `answered` are by prompt; `billed` is in nanodollars and only grows."""

    requests: int = 0
    billed: int = 0
    limited: int = 0
    connections: int = 0
    most_at_once: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)


class Storm:
    def __init__(self, options: Options):
        self.options, self.counts, self.rng = options, Counts(), random.Random(options.seed)
        self.at_once = 0
        self._tokens = options.per_minute / 60 * options.burst_seconds
        self._filled = time.monotonic()

    def fault(self) -> str | None:
        fault = self.rng.choice(self.options.faults) if self.rng.random() < self.options.fault_rate else None
        if fault:
            self.counts.faults[fault] += 1
        return fault

    def lets_through(self) -> bool:
        rate, now = self.options.per_minute / 60, time.monotonic()
        if not rate:
            return True
        self._tokens = min(rate * self.options.burst_seconds, self._tokens + (now - self._filled) * rate)
        self._filled = now
        if self._tokens < 1:
            self.counts.limited += 1
            return False
        self._tokens -= 1
        return True

    def limit_headers(self) -> dict[str, str]:
        if not self.options.stated:
            return {}
        return {
            "x-ratelimit-limit-requests": str(round(self.options.per_minute)),
            "x-ratelimit-remaining-requests": str(int(self._tokens)),
        }

    def answer(self, path: str, body: dict[str, Any], *, discount: float = 1.0) -> dict[str, Any]:
        """The whole answer; what it costs is billed from here on."""
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        text = f"answer to {prompt}: " + "word " * 12
        tokens_in, tokens_out = len(prompt) // 4 + 8, len(text) // 4
        price = tokens_in * self.options.input_per_million + tokens_out * self.options.output_per_million
        self.counts.billed += round(price * 1000 * discount)
        if path.endswith("/messages"):
            return {
                "id": "msg", "type": "message", "role": "assistant", "model": body["model"],
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
                "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out},
            }  # fmt: skip
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if path.endswith("/chat/completions"):
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        return {"id": "x", "model": body["model"], "choices": [choice], "usage": usage}


class Connection(asyncio.Protocol):
    """Reads requests of one connection, one after the other."""

    def __init__(self, storm: Storm):
        self.storm, self.buffer, self.waiting = storm, b"", deque[tuple[str, str, dict[str, str], bytes]]()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport):
        self.transport = transport
        self.storm.counts.connections += 1

    def connection_lost(self, exc):
        if self.task:
            self.task.cancel()

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = int(headers.get("content-length", 0))
            if len(self.buffer) < end + 4 + length:
                return
            method, path, _ = first.split(" ")
            self.waiting.append((method, path, headers, self.buffer[end + 4 : end + 4 + length]))
            self.buffer = self.buffer[end + 4 + length :]
        if self.waiting and (self.task is None or self.task.done()):
            self.task = asyncio.create_task(self.work())

    async def work(self):
        while self.waiting:
            method, path, headers, content = self.waiting.popleft()
            key = headers.get("authorization", headers.get("x-api-key"))
            if key:
                self.storm.counts.keys[key] += 1
            if path == "/counts":
                self.send(200, json.dumps(vars(self.storm.counts)))
            elif method == "GET":
                self.send(200, json.dumps({"data": [{"id": "test-model"}, {"id": "other-model"}]}))
            else:
                await self.ask(path, json.loads(content))

    async def ask(self, path: str, body: dict[str, Any]) -> None:
        storm, options = self.storm, self.storm.options
        storm.counts.requests += 1
        storm.at_once += 1
        storm.counts.most_at_once = max(storm.counts.most_at_once, storm.at_once)
        try:
            if not storm.lets_through():
                after = {"retry-after": "1"} if options.retry_after else {}
                self.send(429, '{"error": {"message": "too many"}}', storm.limit_headers() | after)
                return
            prompt = body.get("prompt") or body["messages"][-1]["content"]
            storm.counts.asked[prompt] += 1
            fault = storm.fault()
            whole = "" if fault in UNBILLED else json.dumps(storm.answer(path, body))
            await asyncio.sleep(options.latency * storm.rng.uniform(0.5, 1.5))
            if fault:
                await self.fail(fault, whole)
            else:
                self.send(200, whole, storm.limit_headers())
            if fault in (None, "slow", "twice", "wrong usage"):
                storm.counts.answered[prompt] += 1
        finally:
            storm.at_once -= 1

    async def fail(self, fault: str, whole: str) -> None:
        if fault in UNBILLED:
            status, _, after = fault.partition(" ")
            self.send(int(status), '{"error": {"message": "no"}}', {"retry-after": "0.2"} if after else {})
        elif fault == "reset":
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif fault == "stall":
            await asyncio.sleep(self.storm.options.stall_seconds)
        elif fault == "slow":
            wire = self.wire(200, whole)
            for start in range(0, len(wire), len(wire) // 8):
                self.transport.write(wire[start : start + len(wire) // 8])
                await asyncio.sleep(0.02)
        elif fault == "truncated":
            self.transport.write(self.wire(200, whole)[: -len(whole) // 2])
            self.transport.close()
        elif fault == "garbage":
            self.send(200, whole[: len(whole) // 2])
        elif fault == "html":
            self.send(200, "<!DOCTYPE html><html><body>Sign in</body></html>", {"content-type": "text/html"})
        elif fault == "twice":
            self.transport.write(self.wire(200, whole) * 2)
        else:
            answer = json.loads(whole)
            answer["usage"] = self.storm.rng.choice(WRONG_USAGE)
            self.send(200, json.dumps(answer))

    def send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.transport.write(self.wire(status, text, headers))

    def wire(self, status: int, text: str, headers: dict[str, str] | None = None) -> bytes:
        content = text.encode()
        lines = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content


async def serve(options: Options) -> None:
    storm = Storm(options)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(storm), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Options(**json.loads(sys.argv[1]))))
