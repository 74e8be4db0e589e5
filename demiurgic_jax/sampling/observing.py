"""What the server counts (Prometheus) and writes down (one JSON line per request)."""

import json
import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from demiurgic_jax.data.completer import Completion
from demiurgic_jax.sampling.engine import Engine

# A line of JSON per request goes here, at level INFO; `serve` writes it to stderr.
requests_log = logging.getLogger("demiurgic_jax.requests")

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# How much of the past says how long a request takes.
RECENT = 0.2


@dataclass
class RequestRecord:
    """One HTTP request. Prompts and answers are kept only where they are to be logged."""

    id: str
    method: str
    path: str
    started: float = field(default_factory=time.monotonic)
    route: str = "other"
    status: int = 0
    stream: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float | None = None
    error: str | None = None
    prompt: Any = None
    answer: list[str] | None = None

    def saw_token(self) -> None:
        """Text has arrived from the engine."""
        if self.first_token_seconds is None:
            self.first_token_seconds = time.monotonic() - self.started

    def ended(self, completions: Sequence[Completion], choices_per_prompt: int = 1) -> None:
        """All the answers are there."""
        self.prompt_tokens = sum(completion.prompt_tokens for completion in completions[::choices_per_prompt])
        self.completion_tokens = sum(completion.completion_tokens for completion in completions)
        self.answer = [completion.text for completion in completions]


def request_id(given: str | None) -> str:
    """The client's own id where it is a plain one, so that its log and ours can be laid side by side."""
    return given if given and SAFE_ID.fullmatch(given) else uuid.uuid4().hex


class Observer:
    """Counters of one server."""

    def __init__(self, engine: Engine, *, log_prompts: bool) -> None:
        self._log_prompts = log_prompts
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine))
        self._requests = Counter(
            "demiurgic_http_requests", "HTTP requests.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "demiurgic_http_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._first = Histogram(
            "demiurgic_first_token_seconds",
            "From a request to the first text of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        # Seconds that an answer took lately: what a client is told to wait for a place in the queue.
        self.recent_seconds = 1.0

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def finished(self, record: RequestRecord) -> None:
        """Counts the request and writes its line."""
        seconds = time.monotonic() - record.started
        self._requests.labels(record.route, str(record.status)).inc()
        self._seconds.labels(record.route).observe(seconds)
        if record.first_token_seconds is not None:
            self._first.labels(record.route).observe(record.first_token_seconds)
            self.recent_seconds += RECENT * (seconds - self.recent_seconds)
        if requests_log.isEnabledFor(logging.INFO):
            requests_log.info(json.dumps(self._line(record, seconds), ensure_ascii=False))

    def _line(self, record: RequestRecord, seconds: float) -> dict[str, Any]:
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": record.id,
            "method": record.method,
            "route": record.route,
            "status": record.status,
            "ms": round(seconds * 1000, 1),
            "stream": record.stream,
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.completion_tokens,
        }
        if record.first_token_seconds is not None:
            line["first_token_ms"] = round(record.first_token_seconds * 1000, 1)
        if self._log_prompts:
            # A refusal quotes what it refuses, which may be a part of the prompt.
            line |= {"error": record.error, "prompt": record.prompt, "answer": record.answer}
        return line


class _EngineCollector(Collector):
    """The engine's own figures, read when they are asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self):
        for name, value, what in (
            ("slots", self._engine.slots, "Requests that can be decoded at once."),
            ("slots_busy", self._engine.active, "Requests that are being decoded."),
            ("requests_waiting", self._engine.waiting, "Requests that wait for a slot."),
        ):
            yield GaugeMetricFamily(f"demiurgic_{name}", what, value=value)
        totals = self._engine.statistics
        for name, what in (
            ("prompt_tokens", "Tokens of prompts."),
            ("cached_prompt_tokens", "Of these, found in the cache."),
            ("generated_tokens", "Tokens of answers."),
            ("drafted_tokens", "Tokens that speculation guessed."),
            ("accepted_tokens", "Of these, right."),
            ("busy_seconds", "Time in which the engine had work."),
        ):
            yield CounterMetricFamily(f"demiurgic_engine_{name}", what, value=getattr(totals, name))
        ended = CounterMetricFamily("demiurgic_engine_requests", "Requests that left the engine.", labels=["outcome"])
        ended.add_metric(["finished"], totals.requests_finished)
        ended.add_metric(["cancelled"], totals.requests_cancelled)
        ended.add_metric(["failed"], totals.requests_failed)
        yield ended
