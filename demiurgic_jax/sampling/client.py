"""A thin client of any OpenAI-compatible server: streams for a terminal, whole completions for evaluation.

Imports no JAX, so that the command line starts at once.
"""

import json
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any, Literal

import httpx

from demiurgic_jax.data.completer import Completion, CompletionRequest, TokenLogprob, UnanswerableError
from demiurgic_jax.data.openai_wire import endpoint, read_logprobs, request_body
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.stream import Piece

# Answers take as long as they take; a connection does not.
TIMEOUT = httpx.Timeout(600, connect=10)
MAX_CONNECTIONS = 64


def stream_completion(
    url: str, request: CompletionRequest, *, model: str | None = None, api_key: str | None = None
) -> Generator[Piece, None, Completion]:
    """Pieces of text as they arrive from the server at `url` ("http://HOST:PORT/v1"); returns the Completion.

    `model` defaults to the first that the server lists. Raises UserError when the server cannot be
    reached, refuses the request, or stops before the end.
    """
    with httpx.Client(headers=_headers(api_key), timeout=TIMEOUT) as client:
        try:
            model = model or _first_model(client.get(f"{_base(url)}/models"), url)
            body = request_body(model, request) | {"stream": True, "stream_options": {"include_usage": True}}
            with client.stream("POST", f"{_base(url)}{endpoint(request)}", json=body) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response, url)
                return (yield from _read_events(response, request, url))
        except httpx.HTTPError as error:
            raise _unreachable(url, error) from error


def list_models(url: str, *, api_key: str | None = None) -> list[dict[str, Any]]:
    """The models that the server at `url` lists, at least one, each an object with an `id`. Raises UserError when the
    server cannot be reached or refuses."""
    with httpx.Client(headers=_headers(api_key), timeout=TIMEOUT) as client:
        try:
            return _models(client.get(f"{_base(url)}/models"), url)
        except httpx.HTTPError as error:
            raise _unreachable(url, error) from error


class HttpCompleter:
    """Implements `Completer` over HTTP. Open it with `async with`, or close it with `aclose`."""

    def __init__(self, url: str, *, model: str | None = None, api_key: str | None = None) -> None:
        """`url` is the API's base, "http://HOST:PORT/v1"; `model` defaults to the first that it lists."""
        import asyncio  # not with the module: the command line, which never awaits, starts sooner without it

        self._url = url
        self._model = model
        self._model_asked = asyncio.Lock()
        self._client = httpx.AsyncClient(
            headers=_headers(api_key), timeout=TIMEOUT, limits=httpx.Limits(max_connections=MAX_CONNECTIONS)
        )

    async def __aenter__(self) -> "HttpCompleter":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def complete(self, request: CompletionRequest) -> Completion:
        """The whole completion. Raises UserError when the server cannot be reached or refuses the request
        (UnanswerableError: that request alone)."""
        try:
            async with self._model_asked:
                if self._model is None:
                    self._model = _first_model(await self._client.get(f"{_base(self._url)}/models"), self._url)
            body = request_body(self._model, request)
            response = await self._client.post(f"{_base(self._url)}{endpoint(request)}", json=body)
        except httpx.HTTPError as error:
            raise _unreachable(self._url, error) from error
        if not response.is_success:
            raise _refusal(response, self._url)
        return _completion(_json(response, self._url), request, self._url)


def _base(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise UserError(f"the URL {url!r} begins with neither http:// nor https://: give one like http://HOST:PORT/v1")
    return url.rstrip("/")


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _completion(answer: Mapping[str, Any], request: CompletionRequest, url: str) -> Completion:
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        text = choice["message"]["content"] if request.messages else choice["text"]
        return Completion(
            text=text or "",
            finish_reason=_finish_reason(choice.get("finish_reason")),
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
            logprobs=read_logprobs(choice.get("logprobs")),
            raw=dict(answer),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{url} answered without {error}: it is no OpenAI-compatible server") from error


def _read_events(response: httpx.Response, request: CompletionRequest, url: str) -> Generator[Piece, None, Completion]:
    """Yields the pieces of a stream of server-sent events, and returns the Completion."""
    text, reason = "", None
    logprobs: list[TokenLogprob] = []
    usage: dict[str, int] = {}
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue
        if (content := line.removeprefix("data:").strip()) == "[DONE]":
            break
        try:
            event = json.loads(content)
            if "error" in event:
                raise UserError(f"{url} broke off: {_message(event)}")
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                new = choice["delta"].get("content") if request.messages else choice["text"]
                piece = Piece(new or "", read_logprobs(choice.get("logprobs")) or ())
                text += piece.text
                logprobs += piece.logprobs
                reason = choice.get("finish_reason") or reason
                if piece.text:
                    yield piece
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{url} sent an event that is none of the OpenAI API ({error}): {content[:80]}") from error
    if reason is None:
        raise UserError(f"{url} stopped in the middle of its answer: ask again")
    return Completion(
        text=text,
        finish_reason=_finish_reason(reason),
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        logprobs=tuple(logprobs) if request.logprobs is not None else None,
    )


def _finish_reason(reason: str | None) -> Literal["stop", "length"]:
    return "length" if reason == "length" else "stop"


def _first_model(response: httpx.Response, url: str) -> str:
    return _models(response, url)[0]["id"]


def _models(response: httpx.Response, url: str) -> list[dict[str, Any]]:
    if not response.is_success:
        raise _refusal(response, url)
    try:
        models = _json(response, url)["data"]
        if not models or not all(isinstance(model["id"], str) for model in models):
            raise KeyError("data")
        return list(models)
    except (KeyError, TypeError) as error:
        raise UserError(f"{url} lists no models: is it the base URL of an OpenAI-compatible API (…/v1)?") from error


def _json(response: httpx.Response, url: str) -> Any:
    try:
        return response.json()
    except ValueError as error:
        kind = response.headers.get("content-type", "nothing known")
        raise UserError(f"{url} answers {kind} instead of JSON: give the base URL of the API (…/v1)") from error


def _refusal(response: httpx.Response, url: str) -> UserError:
    try:
        message = _message(response.json())
    except ValueError:
        message = response.reason_phrase or "no reason given"
    # Of the request's own fault; a key or a model that is unknown would meet every request.
    kind = UnanswerableError if response.status_code in (400, 413, 422) else UserError
    return kind(f"{url} refused the request ({response.status_code}): {message}")


def _message(content: Any) -> str:
    error = content.get("error", content) if isinstance(content, dict) else content
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _unreachable(url: str, error: httpx.HTTPError) -> UserError:
    return UserError(f"{url} cannot be reached ({error or type(error).__name__}): is the server running there?")
