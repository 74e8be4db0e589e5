"""Anthropic's Message Batches: all requests in one body, all results in one file of lines."""

import datetime
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation import anthropic_protocol
from demiurgic_jax.distillation.batch_api import CLOCK_SECONDS, TRANSFER_SECONDS, Endpoint, Sought, Standing
from demiurgic_jax.distillation.failures import AnswerLostError, BusyError, RequestRefusedError
from demiurgic_jax.distillation.openai_protocol import count
from demiurgic_jax.distillation.result_lines import json_lines

_PATH = "/messages/batches"
_ENDED = ("succeeded", "errored", "canceled", "expired")
_CUT_SHORT = {"canceled": "cancelled", "expired": "expired"}


class AnthropicBatches:
    """The batches of one teacher behind Anthropic's API."""

    most_requests = 100_000
    most_bytes = 256_000_000

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint

    def kind(self, request: CompletionRequest) -> str:
        return _PATH

    def line(self, custom_id: str, request: CompletionRequest) -> bytes:
        params = anthropic_protocol.body(self._endpoint.model, request)
        return json.dumps({"custom_id": custom_id, "params": params}).encode() + b","

    async def prepare(self, tag: str, kind: str, lines: Sequence[bytes]) -> bytes:
        return b'{"requests": [' + b"".join(lines)[:-1] + b"]}"

    async def create(self, content: bytes) -> str:
        batch = self._endpoint.decoded(await self._endpoint.send("POST", _PATH, content, timeout=TRANSFER_SECONDS))
        if not isinstance(batch.get("id"), str):
            raise AnswerLostError("another format", "the answer to a new batch names no batch")
        return batch["id"]

    async def find(self, tag: str, custom_ids: set[str], since: float, known: set[str]) -> Sought:
        """The API keeps no tag of ours. Batches of that time with as many requests may be ours; which one is, its
        results say once it has ended."""
        sure, after = True, ""
        while True:
            page = self._endpoint.decoded(await self._endpoint.send("GET", f"{_PATH}?limit=100{after}"))
            batches = page.get("data") or ()
            for batch in batches:
                created = _unix_time(batch.get("created_at"))
                if created is not None and created < since - CLOCK_SECONDS:
                    return Sought(None, sure)
                if batch["id"] in known or _total(batch) != len(custom_ids):
                    continue
                if batch.get("processing_status") != "ended":
                    sure = False
                    continue
                async for custom_id, _ in self.results(batch["id"]):
                    if custom_id in custom_ids:
                        return Sought(batch["id"], sure=True)
                    break
            if not page.get("has_more") or not batches:
                return Sought(None, sure)
            after = f"&after_id={batches[-1]['id']}"

    async def standing(self, batch_id: str) -> Standing:
        batch = self._endpoint.decoded(await self._endpoint.send("GET", f"{_PATH}/{batch_id}"))
        counts = batch.get("request_counts") or {}
        done = sum(max(0, count(counts.get(name))) for name in _ENDED)
        return Standing(batch.get("processing_status") == "ended", done)

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        sent = await self._endpoint.send("GET", f"{_PATH}/{batch_id}/results", timeout=TRANSFER_SECONDS)
        for line in json_lines(self._endpoint.whole(sent)):
            yield str(line.get("custom_id")), line

    def read(self, request: CompletionRequest, result: Mapping[str, Any]) -> Completion:
        try:
            of_request = result["result"]
            kind = of_request["type"]
            if kind == "succeeded":
                return anthropic_protocol.read_answer(request, of_request["message"])
            error = of_request.get("error") or {}
            error = error.get("error") or error
            said = f"the teacher's batch says {kind}: {error.get('type', '')} {error.get('message', '')}".rstrip(": ")
        except (KeyError, TypeError, AttributeError) as missing:
            raise AnswerLostError("another format", f"a result lacks a part of its format ({missing!r})") from missing
        if kind == "errored" and error.get("type") == "invalid_request_error":
            raise RequestRefusedError("refused", said)
        raise BusyError(_CUT_SHORT.get(kind, "server error"), said)


def _total(batch: Mapping[str, Any]) -> int:
    counts = batch.get("request_counts") or {}
    return sum(max(0, count(counts.get(name))) for name in ("processing", *_ENDED))


def _unix_time(moment: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(moment).timestamp() if moment else None
    except (ValueError, TypeError):
        return None
