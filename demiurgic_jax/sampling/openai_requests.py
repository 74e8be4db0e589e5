"""Bodies of the OpenAI API, read strictly: what cannot be honoured is refused by name, never ignored."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from demiurgic_jax.data.completer import CompletionRequest, Message, Role

MAX_CHOICES = 64

SHARED_FIELDS = {
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "stream",
    "stream_options",
    "stop",
    "seed",
}
COMPLETION_FIELDS = SHARED_FIELDS | {"prompt", "suffix", "echo", "logprobs"}
CHAT_FIELDS = SHARED_FIELDS | {"messages", "max_completion_tokens", "logprobs", "top_logprobs"}
# Labels for the sender's own books: they change no text.
IGNORED_FIELDS = {"user", "metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier"}
# Understood only at the value that does nothing.
NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (0, None),
    "frequency_penalty": (0, None),
    "logit_bias": ({}, None),
    "response_format": ({"type": "text"}, None),
    "tools": ([], None),
    "tool_choice": ("none", "auto", None),
    "parallel_tool_calls": (True, False, None),
    "best_of": (1, None),
}


class ApiError(Exception):
    """A refusal, as the OpenAI error object with its HTTP status."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.content = {
            "error": {
                "message": message,
                "type": "invalid_request_error" if status < 500 else "server_error",
                "param": param,
                "code": code,
            }
        }


@dataclass(frozen=True)
class ApiRequest:
    """What one body asks for: each of `requests` is a choice of the answer, prompt by prompt."""

    requests: tuple[CompletionRequest, ...]
    choices_per_prompt: int
    stream: bool
    include_usage: bool
    echo: bool = False


def completion_request(body: Mapping[str, Any]) -> ApiRequest:
    """Reads the body of /v1/completions. Raises ApiError naming the field that is wrong."""
    _check_fields(body, COMPLETION_FIELDS)
    prompts = body.get("prompt")
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, list) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise _wrong("prompt", "must be a string or a list of strings")
    shared = _shared_options(body, default_max_tokens=16) | {
        "suffix": _typed(body, "suffix", str, None),
        "logprobs": _typed(body, "logprobs", int, None),
    }
    return _api_request(body, [CompletionRequest(prompt=prompt, **shared) for prompt in prompts])


def chat_request(body: Mapping[str, Any], *, max_context: int) -> ApiRequest:
    """Reads the body of /v1/chat/completions. Without a limit the answer may fill the context.

    Raises ApiError naming the field that is wrong.
    """
    _check_fields(body, CHAT_FIELDS)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "must be a list of at least one message")
    limit = _typed(body, "max_completion_tokens", int, None)
    shared = _shared_options(body, default_max_tokens=max_context if limit is None else limit)
    top_logprobs = _typed(body, "top_logprobs", int, 0)
    shared["logprobs"] = top_logprobs if _typed(body, "logprobs", bool, False) else None
    if top_logprobs and shared["logprobs"] is None:
        raise _wrong("top_logprobs", "goes with logprobs=true")
    request = CompletionRequest(messages=tuple(_message(m, i) for i, m in enumerate(messages)), **shared)
    return _api_request(body, [request])


def _api_request(body: Mapping[str, Any], prompts: list[CompletionRequest]) -> ApiRequest:
    n = _typed(body, "n", int, 1)
    if n < 1 or n * len(prompts) > MAX_CHOICES:
        raise _wrong("n", f"must be at least 1, and {MAX_CHOICES} choices at most over all prompts")
    options = _typed(body, "stream_options", dict, {})
    return ApiRequest(
        requests=tuple(_with_seed(prompt, choice) for prompt in prompts for choice in range(n)),
        choices_per_prompt=n,
        stream=_typed(body, "stream", bool, False),
        include_usage=bool(options.get("include_usage")),
        echo=_typed(body, "echo", bool, False),
    )


def _with_seed(request: CompletionRequest, choice: int) -> CompletionRequest:
    """Choices of one prompt draw differently, and repeatably where a seed is given."""
    return request if request.seed is None else replace(request, seed=request.seed + choice)


def _check_fields(body: Mapping[str, Any], known: set[str]) -> None:
    for name, value in body.items():
        if name in NEUTRAL_VALUES:
            if value not in NEUTRAL_VALUES[name]:
                raise _wrong(name, "is not supported by this server: leave it out")
        elif name not in known and name not in IGNORED_FIELDS:
            near = difflib.get_close_matches(name, known, 1)
            raise _wrong(name, f"is unknown: did you mean {near[0]!r}?" if near else "is unknown: leave it out")


def _shared_options(body: Mapping[str, Any], *, default_max_tokens: int) -> dict[str, Any]:
    stop = body.get("stop")
    if stop is None or isinstance(stop, str):
        stop = [] if stop is None else [stop]
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in stop):
        raise _wrong("stop", "must be a string or a list of strings")
    return {
        "max_tokens": _typed(body, "max_tokens", int, default_max_tokens),
        "temperature": _typed(body, "temperature", float, 1.0),
        "top_p": _typed(body, "top_p", float, 1.0),
        "top_k": _typed(body, "top_k", int, 0),
        "stop": tuple(stop),
        "seed": _typed(body, "seed", int, None),
    }


def _message(value: Any, index: int) -> Message:
    if not isinstance(value, dict):
        raise _wrong("messages", f"has at {index} something that is not an object with role and content")
    role = "system" if value.get("role") == "developer" else value.get("role")
    if role not in ("system", "user", "assistant"):
        raise _wrong("messages", f"has at {index} the role {role!r}: known are system, user, assistant")
    content = value.get("content")
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise _wrong("messages", f"has at {index} a content that is no text: give a string or text parts")
    return Message(cast(Role, role), content)


def _typed(body: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """The field's value, `default` where it is absent or null."""
    value = body.get(name)
    if value is None:
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", dict: "an object"}
        raise _wrong(name, f"is {value!r}: give {names[kind]}")
    return value


def _wrong(name: str, what: str) -> ApiError:
    return ApiError(400, f"{name} {what}", param=name)
