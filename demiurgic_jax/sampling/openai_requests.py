"""Bodies of the OpenAI API, read strictly: what cannot be honoured is refused by name, never ignored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from demiurgic_jax.data.completer import CompletionRequest, Message, Role
from demiurgic_jax.sampling.request_fields import CHAT, COMPLETION, MAX_CHOICES, read_body, wrong


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
    values = read_body(body, COMPLETION)
    shared = _shared_options(values) | {"max_tokens": values["max_tokens"], "logprobs": values["logprobs"]}
    if values["suffix"] is not None:
        shared["suffix"] = values["suffix"]
    prompts = values["prompt"]
    if isinstance(prompts, str) or not isinstance(prompts[0], str | list):
        prompts = [prompts]
    requests = [
        CompletionRequest(prompt=prompt, **shared)
        if isinstance(prompt, str)
        else CompletionRequest(prompt_tokens=tuple(map(int, prompt)), **shared)
        for prompt in prompts
    ]
    if values["suffix"] is not None and requests[0].prompt is None:
        raise wrong("suffix", "goes with a prompt that is text: token ids are taken as they are")
    return _api_request(values, requests)


def chat_request(body: Mapping[str, Any], *, max_context: int) -> ApiRequest:
    """Reads the body of /v1/chat/completions. Without a limit the answer may fill the context.

    Raises ApiError naming the field that is wrong.
    """
    values = read_body(body, CHAT)
    limits = (values["max_tokens"], values["max_completion_tokens"], max_context)
    shared = _shared_options(values) | {"max_tokens": next(limit for limit in limits if limit is not None)}
    if values["logprobs"]:
        shared["logprobs"] = values["top_logprobs"]
    elif values["top_logprobs"]:
        raise wrong("top_logprobs", "goes with logprobs=true")
    return _api_request(values, [CompletionRequest(messages=tuple(map(_message, values["messages"])), **shared)])


def _api_request(values: Mapping[str, Any], prompts: list[CompletionRequest]) -> ApiRequest:
    n = values["n"]
    if n * len(prompts) > MAX_CHOICES:
        raise wrong("n", f"is {n} for each of {len(prompts)} prompts: {MAX_CHOICES} choices at most over all of them")
    return ApiRequest(
        requests=tuple(_with_seed(prompt, choice) for prompt in prompts for choice in range(n)),
        choices_per_prompt=n,
        stream=values["stream"],
        include_usage=bool(values["stream_options"].get("include_usage")),
        echo=values.get("echo", False),
    )


def _with_seed(request: CompletionRequest, choice: int) -> CompletionRequest:
    """Choices of one prompt draw differently, and repeatably where a seed is given."""
    return request if request.seed is None else replace(request, seed=request.seed + choice)


def _shared_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """What every route's request has, as CompletionRequest names it."""
    same = ("top_k", "seed", "max_seconds", "truncate")
    numbers = ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
    return {
        **{name: values[name] for name in same},
        **{name: float(values[name]) for name in numbers},
        "stop": stop_strings(values["stop"]),
        "stop_tokens": tuple(map(int, values["stop_token_ids"])),
    }


def stop_strings(stop: Any) -> tuple[str, ...]:
    """`stop` as the field allows it, always as a tuple."""
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _message(value: Mapping[str, Any]) -> Message:
    role = "system" if value["role"] == "developer" else value["role"]
    content = value["content"]
    return Message(cast(Role, role), content if isinstance(content, str) else "".join(part["text"] for part in content))
