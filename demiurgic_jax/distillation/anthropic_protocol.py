"""Anthropic's Messages API: requests out, answers in, stated limits. It gives no log-probabilities."""

import datetime
from collections.abc import Mapping
from typing import Any

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.failures import AnswerLostError, RequestRefusedError
from demiurgic_jax.distillation.limits import StatedLimit, stated_limit
from demiurgic_jax.distillation.openai_protocol import count
from demiurgic_jax.distillation.openai_protocol import read_models as read_models

NAME = "anthropic"
COUNTS_MAX_TOKENS = False
VERSION = "2023-06-01"


def headers(key: str | None) -> dict[str, str]:
    return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})


def path(request: CompletionRequest) -> str:
    """Under the base URL."""
    return "/messages"


def body(model: str, request: CompletionRequest) -> dict[str, Any]:
    """The JSON body of one request. Raw prompts become one turn of the user. Raises RequestRefusedError for what the
    API has no way to say."""
    if request.suffix is not None:
        raise RequestRefusedError("refused", "the Messages API knows no suffix, so it cannot fill in the middle")
    turns = [(message.role, message.content) for message in request.messages if message.role != "system"]
    if request.prompt is not None:
        turns = [("user", request.prompt)]
    content: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": min(request.temperature, 1.0),
        "messages": [{"role": role, "content": text} for role, text in turns],
    }
    if system := "\n\n".join(message.content for message in request.messages if message.role == "system"):
        content["system"] = system
    # Both together are refused by the newer models; temperature says enough.
    if request.top_p != 1.0 and request.temperature == 1.0:
        content["top_p"] = request.top_p
        del content["temperature"]
    if request.top_k:
        content["top_k"] = request.top_k
    if request.stop:
        content["stop_sequences"] = list(request.stop)
    return content


def read_answer(request: CompletionRequest, answer: Mapping[str, Any]) -> Completion:
    """The completion in a decoded answer. Usage that the server does not tell is -1.

    Raises RequestRefusedError where the model refused and AnswerLostError where parts are missing.
    """
    try:
        text = "".join(block["text"] for block in answer["content"] if block["type"] == "text")
        usage = answer.get("usage") or {}
        if answer.get("stop_reason") == "refusal":
            raise RequestRefusedError("content filter", "the teacher refused to answer")
        # What was read from or written to a cache is not in `input_tokens`, but in the bill.
        cached = [usage.get(f"cache_{what}_input_tokens") or 0 for what in ("creation", "read")]
        read = count(usage.get("input_tokens"))
        return Completion(
            text=text,
            finish_reason="length" if answer.get("stop_reason") == "max_tokens" else "stop",
            prompt_tokens=read + sum(map(count, cached)) if read >= 0 else -1,
            completion_tokens=count(usage.get("output_tokens")),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise AnswerLostError(
            "another format", f"the answer lacks a part of the Messages format ({error!r})"
        ) from error


def stated_limits(headers: Mapping[str, str]) -> tuple[StatedLimit | None, StatedLimit | None]:
    """What the server says of requests and of tokens, in headers `anthropic-ratelimit-…`."""
    found = []
    for what in ("requests", "tokens"):
        limit, remaining, reset = (
            headers.get(f"anthropic-ratelimit-{what}-{part}") for part in ("limit", "remaining", "reset")
        )
        found.append(stated_limit(limit, remaining, _until(reset)) if limit else None)
    return found[0], found[1]


def _until(moment: str | None) -> float | None:
    """Seconds until an RFC 3339 time."""
    try:
        until = datetime.datetime.fromisoformat(moment) if moment else None
        return None if until is None else (until - datetime.datetime.now(datetime.UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
