"""OpenAI's API as OpenAI, vLLM, llama.cpp and our own server speak it: requests out, answers in, stated limits."""

from collections.abc import Mapping
from typing import Any, Literal

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.data.openai_wire import endpoint, read_logprobs, request_body
from demiurgic_jax.distillation.failures import AnswerLostError, RequestRefusedError
from demiurgic_jax.distillation.limits import StatedLimit, duration, stated_limit

NAME = "openai"
# Its tokens per minute count what an answer may take, not what it took.
COUNTS_MAX_TOKENS = True
# Models that think before they answer take their limit under another name, and no temperature.
_REASONING = ("o1", "o3", "o4", "gpt-5")


def headers(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def path(request: CompletionRequest) -> str:
    """Under the base URL."""
    return endpoint(request)


def body(model: str, request: CompletionRequest) -> dict[str, Any]:
    """The JSON body of one request."""
    content = request_body(model, request)
    if model.startswith(_REASONING):
        content["max_completion_tokens"] = content.pop("max_tokens")
        content.pop("temperature")
    return content


def read_answer(request: CompletionRequest, answer: Mapping[str, Any]) -> Completion:
    """The completion in a decoded answer. Usage that the server does not tell is -1.

    Raises RequestRefusedError where a content filter ended the answer and AnswerLostError where parts are missing.
    """
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"] if request.messages else choice["text"]
        usage = answer.get("usage") or {}
        completion = Completion(
            text=text or "",
            finish_reason=_finish_reason(choice.get("finish_reason")),
            prompt_tokens=count(usage.get("prompt_tokens")),
            completion_tokens=count(usage.get("completion_tokens")),
            logprobs=read_logprobs(choice.get("logprobs")),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise AnswerLostError("another format", f"the answer lacks a part of the OpenAI format ({error!r})") from error
    if not isinstance(completion.text, str):
        raise AnswerLostError("another format", "the answer's text is no text")
    return completion


def read_models(answer: Mapping[str, Any]) -> list[str]:
    """Names in the answer to GET /models."""
    return [str(entry["id"]) for entry in answer["data"]]


def stated_limits(headers: Mapping[str, str]) -> tuple[StatedLimit | None, StatedLimit | None]:
    """What the server says of requests and of tokens, in headers `x-ratelimit-…`."""
    found = []
    for what in ("requests", "tokens"):
        limit = headers.get(f"x-ratelimit-limit-{what}")
        remaining, reset = headers.get(f"x-ratelimit-remaining-{what}"), headers.get(f"x-ratelimit-reset-{what}")
        found.append(stated_limit(limit, remaining, duration(reset)) if limit else None)
    return found[0], found[1]


def count(value: Any) -> int:
    """A token count that a server tells; -1 for anything that is no count."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _finish_reason(reason: str | None) -> Literal["stop", "length"]:
    if reason == "length":
        return "length"
    if reason == "content_filter":
        raise RequestRefusedError("content filter", "the teacher's content filter ended the answer")
    return "stop"
