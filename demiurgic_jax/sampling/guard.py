"""What every request passes before it reaches its route: key, size, queue; and what it leaves behind: a log line."""

import asyncio
import hmac
import json
import logging
import math
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demiurgic_jax.sampling.api_error import ApiError
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.observing import Observer, RequestRecord, request_id
from demiurgic_jax.sampling.server_config import ServerConfig

# They say nothing about anybody's work, and answer also while the server drains.
OPEN_ROUTES = ("/", "/health", "/openapi.json")
UNCOUNTED_ROUTES = ("/health", "/metrics")
GENERATING_ROUTES = ("/v1/completions", "/v1/chat/completions", "/infill")
# A client that is still sending would not read a refusal; so much longer its body is taken in and thrown away.
DISCARD_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60
CLOSED_BY_CLIENT = 499  # nobody reads it; nginx's code for a client that closed the connection

logger = logging.getLogger(__name__)


class Guard:
    """ASGI middleware. `scope["demiurgic.record"]` is the request's RequestRecord."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        engine: Engine,
        config: ServerConfig,
        keys: Sequence[str],
        observer: Observer,
        gate: "Gate",
    ) -> None:
        self._app = app
        self._gate = gate
        self._engine = engine
        self._config = config
        self._keys = [key.encode() for key in keys]
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = RequestRecord(request_id(headers.get("x-request-id")), scope["method"], scope["path"])
        record.route = next((r.path for r in scope["app"].routes if r.matches(scope)[0] != Match.NONE), record.route)
        scope["demiurgic.record"] = record
        counted = scope["path"] not in UNCOUNTED_ROUTES
        self._gate.running += counted
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", record.id.encode())]
            await send(message)

        try:
            await self._admit(scope, headers, receive)
            await self._app(scope, _Limited(receive, self._config.max_body_bytes), answer)
            if record.stream and record.answer is None:
                record.status = CLOSED_BY_CLIENT
        except ApiError as error:
            await _send(answer, error)
        except ClientDisconnect:
            record.status = CLOSED_BY_CLIENT
        except Exception as error:
            logger.exception("request %s failed", record.id)
            if started:
                raise  # half an answer is out: the connection has to break
            await _send(answer, ApiError(500, f"the server failed: {error}"))
        finally:
            self._gate.running -= counted
            self._observer.finished(record)

    async def _admit(self, scope: Scope, headers: Headers, receive: Receive) -> None:
        """Raises ApiError for a request that goes no further."""
        path = scope["path"]
        if path in OPEN_ROUTES:
            return
        if self._gate.draining:
            raise ApiError(
                503, "the server is about to end: ask again soon", headers={"retry-after": "5", "connection": "close"}
            )
        self._check_key(headers.get("authorization", ""))
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._config.max_body_bytes:
            if headers.get("expect", "").lower() != "100-continue":
                await _discard(receive)
            raise _too_large(self._config.max_body_bytes)
        if path in GENERATING_ROUTES and (waiting := self._engine.waiting) > 0 and waiting >= self._config.max_queue:
            seconds = math.ceil(self._observer.recent_seconds * waiting / self._engine.slots)
            retry = max(1, min(seconds, LONGEST_RETRY_SECONDS))
            raise ApiError(
                429, f"{waiting} requests wait already: ask again in {retry} s", headers={"retry-after": str(retry)}
            )

    def _check_key(self, authorization: str) -> None:
        if not self._keys:
            return
        scheme, _, given = authorization.partition(" ")
        # All of them are compared, each in constant time: how long it takes tells nothing about any.
        known = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]
        if scheme.lower() != "bearer" or not any(known):
            raise ApiError(
                401,
                "this server wants an API key: send the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


class Gate:
    """Whether requests are taken, and how many run."""

    def __init__(self) -> None:
        self.draining = False
        self.running = 0


class _Limited:
    """Receives the body and refuses what goes beyond the limit."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._left = most

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            if message.get("more_body"):
                await _discard(self._receive)
            raise _too_large(self._most)
        return message


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body is larger than {most} bytes: send less text")


async def _discard(receive: Receive) -> None:
    """Takes in the rest of a body, for a while."""
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass


async def _send(send: Send, error: ApiError) -> None:
    content = json.dumps(error.content).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content)), **error.headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
