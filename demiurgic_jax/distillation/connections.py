"""HTTP/1.1 for a thousand requests at once: what httpx's own pool spends most of its time on, without the search.

httpx looks through all of its connections at every request, so that a thousand of them cost 25 ms of CPU a request
(docs/performance.md). Here a free connection is the top of a stack, and bytes go from the event loop to the parser
(h11, which httpx uses too) with nothing in between.
"""

import asyncio
import ssl
from collections.abc import Iterator

import h11
import httpx


class Http1Transport(httpx.AsyncBaseTransport):
    """An httpx transport for one server, as many connections as there are requests at once, each used again.

    Answers are read whole before they are returned. Raises httpx.ConnectError or ConnectTimeout where no connection
    came about, ReadError or RemoteProtocolError where the answer broke off or is no HTTP.
    """

    def __init__(self, *, connect_timeout: float, verify: ssl.SSLContext | None = None):
        self._connect_timeout, self._verify = connect_timeout, verify
        self._idle: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        connection = self._reusable() or await self._connect(request)
        try:
            status, headers, content = await connection.exchange(request)
        except BaseException:
            connection.abort()
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.abort()
        return httpx.Response(status, headers=headers, content=content)

    async def aclose(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _reusable(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _connect(self, request: httpx.Request) -> "_Connection":
        url = request.url
        verify = (self._verify or ssl.create_default_context()) if url.scheme == "https" else None
        port = url.port or (443 if verify else 80)
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, url.host, port, ssl=verify
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {self._connect_timeout:g} s", request=request) from error
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return connection


class _Connection(asyncio.Protocol):
    """One exchange at a time. `reusable` once an exchange has ended cleanly and nothing has come since."""

    def __init__(self) -> None:
        self.reusable = False
        self._parser = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, list[tuple[bytes, bytes]], bytes]] | None = None
        self._head: h11.Response | None = None
        self._body: list[bytes] = []

    async def exchange(self, request: httpx.Request) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Status, headers and body of the answer to `request`, whose content is bytes."""
        assert self._transport is not None
        self.reusable, self._head, self._body = False, None, []
        self._answer = asyncio.get_running_loop().create_future()
        target, headers = request.url.raw_path, request.headers.raw
        head = self._parser.send(h11.Request(method=request.method, target=target, headers=headers))
        body = self._parser.send(h11.Data(data=request.content)) if request.content else b""
        end = self._parser.send(h11.EndOfMessage())
        self._transport.write(b"".join(part for part in (head, body, end) if part))
        return await self._answer

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        self._broken(httpx.ReadError(str(error) if error else "the connection was closed"))

    def eof_received(self) -> None:
        self._read(b"")

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nobody has asked: what comes now must not be taken for the next answer
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            return
        try:
            self._parser.receive_data(data)
            for event in self._events():
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._finish()
                    return
                elif isinstance(event, h11.ConnectionClosed):
                    self._broken(httpx.ReadError("the connection was closed"))
                    return
        except h11.RemoteProtocolError as error:
            self._broken(httpx.RemoteProtocolError(str(error)))

    def _events(self) -> Iterator[object]:
        while (event := self._parser.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
            yield event

    def _finish(self) -> None:
        assert self._head is not None
        assert self._answer is not None
        # Bytes behind the answer belong to no request of ours.
        if self._parser.trailing_data == (b"", False) and self._parser.states == {
            h11.CLIENT: h11.DONE,
            h11.SERVER: h11.DONE,
        }:
            self._parser.start_next_cycle()
            self.reusable = True
        self._answer.set_result((self._head.status_code, list(self._head.headers), b"".join(self._body)))

    def _broken(self, error: httpx.TransportError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
