"""An OpenAI-compatible HTTP server over one engine."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from demiurgic_jax.data.completer import Completion
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.openai_answers import ChatAnswer, CompletionAnswer, usage
from demiurgic_jax.sampling.openai_requests import ApiError, ApiRequest, chat_request, completion_request
from demiurgic_jax.sampling.stream import Piece, Stream

MAX_BODY_BYTES = 8 * 2**20
SHUTDOWN_SECONDS = 3

logger = logging.getLogger(__name__)
T = TypeVar("T")


def application(engine: Engine, model_name: str) -> Starlette:
    """The ASGI app. The engine must be running; it is not stopped with the app."""
    api = _Api(engine, model_name)
    return Starlette(
        routes=[
            Route("/v1/models", api.models),
            Route("/v1/models/{model:path}", api.model),
            Route("/v1/completions", api.completions, methods=["POST"]),
            Route("/v1/chat/completions", api.chat_completions, methods=["POST"]),
            Route("/health", api.health),
        ],
        exception_handlers={
            ApiError: _refusal,
            HTTPException: _http_refusal,
            ClientDisconnect: _gone,
            Exception: _failure,
        },
    )


def serve(engine: Engine, model_name: str, host: str, port: int) -> None:
    """Serves until interrupted. Raises UserError when the address cannot be had."""
    with _listen(host, port) as listener:
        _uvicorn(engine, model_name).run(sockets=[listener])


@contextmanager
def serving(engine: Engine, model_name: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves from a background thread while the block runs; gives the base URL, "http://HOST:PORT/v1".

    Port 0 takes a free one.
    """
    with _listen(host, port) as listener:
        server = _uvicorn(engine, model_name)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
        thread.start()
        try:
            # Connections queue at the listening socket until the server takes them, so nothing needs waiting for.
            yield f"http://{host}:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"cannot listen on {host} port {port} ({error}): choose another --host or --port") from error
    return listener


def _uvicorn(engine: Engine, model_name: str) -> uvicorn.Server:
    config = uvicorn.Config(
        application(engine, model_name),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


class _Api:
    def __init__(self, engine: Engine, model_name: str) -> None:
        self._engine = engine
        self._model_name = model_name
        self._card = {"id": model_name, "object": "model", "created": 0, "owned_by": "demiurgic"}

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "active": self._engine.active})

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card]})

    async def model(self, request: Request) -> Response:
        self._check_model(request.path_params["model"])
        return JSONResponse(self._card)

    async def completions(self, request: Request) -> Response:
        body = await _read_body(request)
        self._check_model(body.get("model", self._model_name))
        asked = completion_request(body)
        answer = CompletionAnswer(self._model_name, [len(r.prompt or "") * (not asked.echo) for r in asked.requests])
        return await self._answer(request, body, asked, answer)

    async def chat_completions(self, request: Request) -> Response:
        body = await _read_body(request)
        self._check_model(body.get("model", self._model_name))
        asked = chat_request(body, max_context=self._engine.max_context)
        return await self._answer(request, body, asked, ChatAnswer(self._model_name))

    def _check_model(self, model: Any) -> None:
        if model != self._model_name:
            raise ApiError(
                404,
                f"model {model!r} is not served here: use {self._model_name!r}",
                param="model",
                code="model_not_found",
            )

    async def _answer(
        self, request: Request, body: dict[str, Any], asked: ApiRequest, answer: CompletionAnswer | ChatAnswer
    ) -> Response:
        streams: list[Stream] = []
        try:
            for one in asked.requests:
                judge = asked.echo and one.logprobs is not None
                streams.append(self._engine.submit(one, prompt_logprobs=judge))
        except UserError as error:
            _cancel(streams)
            # The engine's sentences begin with the option that they are about.
            option = str(error).split(" ", 1)[0]
            raise ApiError(400, str(error), param=option if option in body else None) from error
        if asked.stream:
            return StreamingResponse(_events(asked, answer, streams), media_type="text/event-stream")
        try:
            completions = await _unless_disconnected(request, _completions(streams))
        finally:
            _cancel(streams)
        choices = [
            answer.choice(index, completion, _echo(asked, index, streams[index]))
            for index, completion in enumerate(completions)
        ]
        return JSONResponse(answer.whole(choices, usage(completions, asked.choices_per_prompt)))


def _echo(asked: ApiRequest, index: int, stream: Stream) -> Piece | None:
    """The prompt of a choice, where it is to be repeated."""
    return Piece(asked.requests[index].prompt or "", stream.prompt_logprobs) if asked.echo else None


async def _completions(streams: Sequence[Stream]) -> list[Completion]:
    for stream in streams:
        async for _ in stream:
            pass
    return [stream.result() for stream in streams]


async def _events(
    asked: ApiRequest, answer: CompletionAnswer | ChatAnswer, streams: Sequence[Stream]
) -> AsyncIterator[str]:
    """Server-sent events. When the client goes, Starlette closes this generator and the slots are freed."""
    try:
        async for index, piece in _merged(streams):
            stream = streams[index]
            if isinstance(piece, Piece):
                yield _event(answer.chunk(index, piece, logprobs=asked.requests[index].logprobs is not None))
            elif piece is None:
                for chunk in answer.opening(index, _echo(asked, index, stream)):
                    yield _event(chunk)
            else:
                yield _event(answer.closing(index, piece))
        if asked.include_usage:
            counts = usage([stream.result() for stream in streams], asked.choices_per_prompt)
            yield _event(answer.usage_chunk(counts))
        yield "data: [DONE]\n\n"
    except Exception as error:  # the status line is long sent: an event has to tell
        logger.exception("a streamed completion failed")
        yield _event(ApiError(500, f"the completion failed: {error}").content)
    finally:
        _cancel(streams)


async def _merged(streams: Sequence[Stream]) -> AsyncIterator[tuple[int, Piece | Completion | None]]:
    """Of each stream: None as it begins, its pieces, its completion. Raises what any stream raises."""
    arrived: asyncio.Queue[tuple[int, Piece | Completion | BaseException | None]] = asyncio.Queue()

    async def pump(index: int, stream: Stream) -> None:
        begun = False
        try:
            async for piece in stream:
                if not begun:
                    arrived.put_nowait((index, None))
                begun = True
                arrived.put_nowait((index, piece))
            if not begun:
                arrived.put_nowait((index, None))
            arrived.put_nowait((index, stream.result()))
        except Exception as error:
            arrived.put_nowait((index, error))

    tasks = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        ended = 0
        while ended < len(streams):
            index, item = await arrived.get()
            if isinstance(item, BaseException):
                raise item
            ended += isinstance(item, Completion)
            yield index, item
    finally:
        for task in tasks:
            task.cancel()


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.create_task(work), asyncio.create_task(disconnected())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


def _cancel(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.cancel()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _read_body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY_BYTES:
            raise ApiError(413, f"the body is larger than {MAX_BODY_BYTES} bytes: send less text")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


async def _refusal(request: Request, error: Any) -> Response:
    return JSONResponse(error.content, status_code=error.status)


async def _http_refusal(request: Request, error: Any) -> Response:
    message = f"{request.method} {request.url.path}: {error.detail.lower()}"
    return JSONResponse(ApiError(error.status_code, message).content, error.status_code, headers=error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; nginx's code for a client that closed the connection


async def _failure(request: Request, error: Exception) -> Response:
    return JSONResponse(ApiError(500, f"the server failed: {error}").content, status_code=500)
