"""From the engine's streams to HTTP: whole answers, server-sent events, and an end when the client goes."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.api_error import ApiError
from demiurgic_jax.sampling.engine import Engine, EngineStoppedError
from demiurgic_jax.sampling.observing import RequestRecord
from demiurgic_jax.sampling.stream import Piece, Stream

T = TypeVar("T")

# What the API calls the options of a CompletionRequest, where it is something else.
API_NAMES = {"prompt_tokens": "prompt", "stop_tokens": "stop_token_ids"}


async def submit(
    engine: Engine, requests: Sequence[CompletionRequest], body: dict[str, Any], *, echo: bool = False
) -> list[Stream]:
    """A stream for each request. Raises ApiError, with none left running, where one is refused.

    Prompts are encoded in a thread: that of a large one takes longer than other requests want to wait.
    """
    streams: list[Stream] = []

    def each() -> None:
        for request in requests:
            streams.append(engine.submit(request, prompt_logprobs=echo and request.logprobs is not None))

    try:
        await asyncio.to_thread(each)
    except UserError as error:
        cancel(streams)
        # The engine's sentences begin with the option that they are about.
        option, _, rest = str(error).partition(" ")
        name = API_NAMES.get(option, option)
        raise ApiError(400, f"{name} {rest}", param=name if name in body else None) from error
    except EngineStoppedError as error:
        cancel(streams)
        raise ApiError(503, f"{error}: ask again soon", headers={"retry-after": "5"}) from error
    return streams


async def completions(streams: Sequence[Stream], record: RequestRecord) -> list[Completion]:
    """The whole answers."""
    for stream in streams:
        async for _ in stream:
            record.saw_token()
    return [stream.result() for stream in streams]


async def merged(
    streams: Sequence[Stream], record: RequestRecord
) -> AsyncIterator[tuple[int, Piece | Completion | None]]:
    """Of each stream: None as it begins, its pieces, its completion. Raises what any stream raises."""
    arrived: asyncio.Queue[tuple[int, Piece | Completion | BaseException | None]] = asyncio.Queue()

    async def pump(index: int, stream: Stream) -> None:
        begun = False
        try:
            async for piece in stream:
                record.saw_token()
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


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
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


def cancel(streams: Sequence[Stream]) -> None:
    """Nobody wants the rest."""
    for stream in streams:
        stream.cancel()


def event(content: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def read_json(request: Request) -> dict[str, Any]:
    """The body as an object. Raises ApiError for anything else."""
    content = b"".join([part async for part in request.stream()])
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8 at byte {error.start}: send JSON in UTF-8") from error
    try:
        body = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
