"""OpenAI's batch API: a file of requests goes up, a batch is made of it, files of answers and of errors come down."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation import openai_protocol
from demiurgic_jax.distillation.batch_api import CLOCK_SECONDS, TRANSFER_SECONDS, Endpoint, Sought, Standing
from demiurgic_jax.distillation.failures import AnswerLostError, BusyError, RequestRefusedError
from demiurgic_jax.distillation.result_lines import json_lines

# Our name for a batch, among its metadata.
_TAG = "demiurgic_batch"
_CUT_SHORT = {"expired": "expired", "cancelled": "cancelled"}
_CODES = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


class OpenAIBatches:
    """The batches of one OpenAI-compatible teacher."""

    most_requests = 50_000
    most_bytes = 200_000_000

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint

    def kind(self, request: CompletionRequest) -> str:
        """The path that the batch's requests are for, e.g. /v1/chat/completions."""
        return httpx.URL(self._endpoint.base_url).path.rstrip("/") + openai_protocol.path(request)

    def line(self, custom_id: str, request: CompletionRequest) -> bytes:
        body = openai_protocol.body(self._endpoint.model, request)
        line = {"custom_id": custom_id, "method": "POST", "url": self.kind(request), "body": body}
        return json.dumps(line).encode() + b"\n"

    async def prepare(self, tag: str, kind: str, lines: Sequence[bytes]) -> bytes:
        """Uploads the file of requests."""
        form = httpx.Request(
            "POST",
            self._endpoint.base_url,
            data={"purpose": "batch"},
            files={"file": (f"{tag}.jsonl", b"".join(lines), "application/jsonl")},
        )
        sent = await self._endpoint.send(
            "POST", "/files", form.read(), {"content-type": form.headers["content-type"]}, TRANSFER_SECONDS
        )
        file = self._endpoint.decoded(sent)
        if not isinstance(file.get("id"), str):
            raise AnswerLostError("another format", "the answer to an upload names no file")
        batch = {
            "input_file_id": file["id"],
            "endpoint": kind,
            "completion_window": "24h",
            "metadata": {_TAG: tag},
        }
        return json.dumps(batch).encode()

    async def create(self, content: bytes) -> str:
        batch = self._endpoint.decoded(await self._endpoint.send("POST", "/batches", content))
        if not isinstance(batch.get("id"), str):
            raise AnswerLostError("another format", "the answer to a new batch names no batch")
        return batch["id"]

    async def find(self, tag: str, custom_ids: set[str], since: float, known: set[str]) -> Sought:
        """By our tag in the metadata; newest batches first."""
        after = ""
        while True:
            page = self._endpoint.decoded(await self._endpoint.send("GET", f"/batches?limit=100{after}"))
            for batch in page.get("data") or ():
                if (batch.get("metadata") or {}).get(_TAG) == tag:
                    return Sought(batch["id"], sure=True)
                if batch.get("created_at", since) < since - CLOCK_SECONDS:
                    return Sought(None, sure=True)
            if not page.get("has_more") or not page.get("data"):
                return Sought(None, sure=True)
            after = f"&after={page['data'][-1]['id']}"

    async def standing(self, batch_id: str) -> Standing:
        batch = await self._batch(batch_id)
        counts, status = batch.get("request_counts") or {}, batch.get("status", "")
        done = sum(max(0, openai_protocol.count(counts.get(name))) for name in ("completed", "failed"))
        if status == "failed":
            errors = (batch.get("errors") or {}).get("data") or [{}]
            return Standing(
                ended=True,
                done=done,
                refused=str(errors[0].get("message") or "it says no reason"),
                too_much=any(error.get("code") == "token_limit_exceeded" for error in errors),
            )
        return Standing(status in ("completed", *_CUT_SHORT), done, cut_short=_CUT_SHORT.get(status, ""))

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        batch = await self._batch(batch_id)
        for name in ("output_file_id", "error_file_id"):
            if file := batch.get(name):
                sent = await self._endpoint.send("GET", f"/files/{file}/content", timeout=TRANSFER_SECONDS)
                for line in json_lines(self._endpoint.whole(sent)):
                    yield str(line.get("custom_id")), line

    def read(self, request: CompletionRequest, result: Mapping[str, Any]) -> Completion:
        try:
            if error := result.get("error"):
                reason = _CODES.get(error.get("code"), "server error")
                raise BusyError(reason, f"the teacher's batch says: {error.get('message') or error.get('code')}")
            status, body = result["response"]["status_code"], result["response"]["body"]
        except (KeyError, TypeError, AttributeError) as error:
            raise AnswerLostError("another format", f"a result lacks a part of its format ({error!r})") from error
        said = f"the teacher's batch answers {status}: {json.dumps(body)[:300]}"
        if status == 429 or status >= 500:
            raise BusyError("rate limited" if status == 429 else "server error", said)
        if status >= 400:
            raise RequestRefusedError("refused", said)
        return openai_protocol.read_answer(request, body)

    async def _batch(self, batch_id: str) -> dict[str, Any]:
        return self._endpoint.decoded(await self._endpoint.send("GET", f"/batches/{batch_id}"))
