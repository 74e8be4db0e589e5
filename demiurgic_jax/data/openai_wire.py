"""The OpenAI wire format: CompletionRequest to JSON, and the parts of an answer that mean the same everywhere."""

from math import nan
from typing import Any

from demiurgic_jax.data.completer import CompletionRequest, TokenLogprob


def endpoint(request: CompletionRequest) -> str:
    """Path under the base URL. Raises ValueError unless exactly one of messages, prompt and prompt_tokens is set."""
    if (bool(request.messages), request.prompt is not None, request.prompt_tokens is not None).count(True) != 1:
        raise ValueError("a completion request needs either messages or a prompt")
    return "/chat/completions" if request.messages else "/completions"


def request_body(model: str, request: CompletionRequest) -> dict[str, Any]:
    """JSON body for `endpoint(request)`; parameters at their neutral value are left out."""
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens, "temperature": request.temperature}
    if request.messages:
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
        if request.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
    else:
        body["prompt"] = request.prompt if request.prompt_tokens is None else list(request.prompt_tokens)
        if request.suffix is not None:
            body["suffix"] = request.suffix
        if request.logprobs is not None:
            body["logprobs"] = request.logprobs
        if request.echo:
            body["echo"] = True
    if request.top_p != 1.0:
        body["top_p"] = request.top_p
    for name in ("frequency_penalty", "presence_penalty"):
        if value := getattr(request, name):
            body[name] = value
    # Extensions, the first four in vLLM's words: sent only where they are wanted.
    if request.top_k:
        body["top_k"] = request.top_k
    if request.min_p:
        body["min_p"] = request.min_p
    if request.repetition_penalty != 1.0:
        body["repetition_penalty"] = request.repetition_penalty
    if request.stop_tokens:
        body["stop_token_ids"] = list(request.stop_tokens)
    if request.max_seconds is not None:
        body["max_seconds"] = request.max_seconds
    if request.truncate:
        body["truncate"] = True
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["seed"] = request.seed
    return body


def read_logprobs(logprobs: dict[str, Any] | None) -> tuple[TokenLogprob, ...] | None:
    """The `logprobs` of a choice, in the form of chats or of raw completions; None where there are none.

    Raises KeyError, TypeError or ValueError for anything else.
    """
    if not logprobs:
        return None
    if "content" in logprobs:
        return tuple(
            TokenLogprob(
                entry["token"],
                float(entry["logprob"]),
                tuple((top["token"], float(top["logprob"])) for top in entry.get("top_logprobs") or ()),
            )
            for entry in logprobs["content"] or ()
        )
    tokens, values = logprobs["tokens"], logprobs["token_logprobs"]
    tops = [tuple((top or {}).items()) for top in logprobs.get("top_logprobs") or [None] * len(tokens)]
    return tuple(
        # The first token of an echoed prompt has no probability.
        TokenLogprob(token, nan if value is None else float(value), top)
        for token, value, top in zip(tokens, values, tops, strict=True)
    )
