"""A teacher behind an HTTP API: one request, one attempt, and what came of it."""

import asyncio
import datetime
import email.utils
import json
import os
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol, Self

import httpx

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation import openai_protocol
from demiurgic_jax.distillation.connections import Http1Transport
from demiurgic_jax.distillation.failures import AnswerLostError, BusyError, RequestRefusedError
from demiurgic_jax.distillation.limits import Limiter, StatedLimit
from demiurgic_jax.distillation.pricing import Price
from demiurgic_jax.errors import UserError

_CONNECT_SECONDS = 10.0
# Errors of a gateway that waited for the model in vain: the model may have answered, and been paid.
_MAYBE_BILLED = {408, 499, 504, 520, 524}


class WireProtocol(Protocol):
    """What an API's module knows: how requests and answers look on the wire."""

    NAME: str
    COUNTS_MAX_TOKENS: bool

    def headers(self, key: str | None) -> dict[str, str]: ...
    def path(self, request: CompletionRequest) -> str: ...
    def body(self, model: str, request: CompletionRequest) -> dict[str, Any]: ...
    def read_answer(self, request: CompletionRequest, answer: Mapping[str, Any]) -> Completion: ...
    def read_models(self, answer: Mapping[str, Any]) -> list[str]: ...
    def stated_limits(self, headers: Mapping[str, str]) -> tuple[StatedLimit | None, StatedLimit | None]: ...


class Teacher(Protocol):
    """Whom requests are sent to. `complete` is one attempt; how often it is repeated, the ledger decides."""

    name: str
    model: str
    price: Price
    weight: float
    limiter: Limiter

    async def complete(self, request: CompletionRequest) -> Completion: ...


class HttpTeacher:
    """Completes over HTTP. An async context manager; one event loop per instance.

    `base_url` ends like OpenAI's ("http://127.0.0.1:8000/v1"); `protocol` is the module of its API. `api_key_env` names
    the environment variable with the key, which is read for the requests' headers and kept nowhere else. `timeout`
    (seconds) bounds one attempt, whatever arrives meanwhile. Among several teachers it gets `weight` parts of the
    requests.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        protocol: WireProtocol = openai_protocol,
        name: str = "",
        api_key_env: str | None = None,
        price: Price = Price(),  # noqa: B008 (frozen)
        weight: float = 1.0,
        timeout: float = 120.0,
        requests_per_minute: float = 0.0,
        tokens_per_minute: float = 0.0,
    ):
        self.base_url, self.model, self.name, self.protocol = base_url.rstrip("/"), model, name or model, protocol
        self.price, self.weight, self.timeout, self.api_key_env = price, weight, timeout, api_key_env
        self.limiter = Limiter(requests_per_minute, tokens_per_minute)
        try:
            self._url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise UserError(f"teacher URL {base_url!r} is not a URL ({error}): fix config.teacher.url") from error
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise UserError(f"teacher URL {base_url!r} must begin with http:// or https://: fix config.teacher.url")
        self._headers = httpx.Headers(
            {
                "host": self._url.netloc.decode(),
                "accept": "application/json",
                "accept-encoding": "gzip",
                "content-type": "application/json",
                "user-agent": "demiurgic",
                **protocol.headers(api_key(api_key_env)),
            }
        )
        self._transport: httpx.AsyncBaseTransport | None = None
        self._negotiating = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def complete(self, request: CompletionRequest) -> Completion:
        """One attempt. Usage figures are the teacher's own, -1 where it tells none.

        Raises BusyError, AnswerLostError or RequestRefusedError, and UserError for an address, key or model that
        cannot work.
        """
        content = json.dumps(self.protocol.body(self.model, request)).encode()
        try:
            response = await self.send("POST", self.protocol.path(request), content)
        except AnswerLostError:
            self.limiter.let_through()
            raise
        if response.status_code != 429:
            self.limiter.let_through(*self.protocol.stated_limits(response.headers))
        answer = self.decoded(response)
        return self.protocol.read_answer(request, answer)

    async def send(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The whole response to one HTTP request. Raises BusyError where no connection came about, AnswerLostError
        where the response broke off."""
        async with self._negotiating:
            self._transport = self._transport or await self._negotiated()
        sent = httpx.Headers(self._headers)
        sent.update(headers or {})
        if content or method == "POST":
            sent["content-length"] = str(len(content))
        request = httpx.Request(
            method,
            self.base_url + path,
            headers=sent,
            content=content,
            extensions={"timeout": {"connect": _CONNECT_SECONDS}},
        )
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._transport.handle_async_request(request)
                await response.aread()
        except TimeoutError as error:
            raise AnswerLostError(
                "too slow", f"teacher URL {self.base_url} gave no whole answer within {self.timeout:g} s"
            ) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            refuses = "refuses connections" if isinstance(error, httpx.ConnectError) else "does not answer"
            raise BusyError(
                "unreachable",
                f"teacher URL {self.base_url} {refuses} ({_say(error)}): start the server or fix config.teacher.url",
            ) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise AnswerLostError(
                "connection broke", f"teacher URL {self.base_url} broke off its answer ({_say(error)})"
            ) from error
        response.request = request
        return response

    async def check(self) -> list[str]:
        """Names of the models that the teacher offers, `self.model` among them.

        One GET /models, free of charge. Raises UserError naming what is wrong with address, key or model.
        """
        try:
            response = await self.send("GET", "/models")
            models = self.protocol.read_models(self.decoded(response))
        except BusyError as error:
            again = "" if error.reason == "unreachable" else ": try again later"
            raise UserError(f"{error}{again}") from error
        except AnswerLostError as error:
            if error.reason in ("connection broke", "too slow"):
                raise UserError(
                    f"teacher URL {self.base_url} stops in the middle of its answer ({error}): "
                    "restart the server or fix config.teacher.url"
                ) from error
            raise self._lists_no_models(error) from error
        except (RequestRefusedError, KeyError, TypeError) as error:
            raise self._lists_no_models(error) from error
        if self.model not in models:
            known = ", ".join(models[:10]) or "none"
            raise UserError(
                f"teacher URL {self.base_url} has no model {self.model!r} (it offers {known}): fix config.teacher.model"
            )
        return models

    def decoded(self, response: httpx.Response) -> dict[str, Any]:
        """The JSON object of a good response; raises what `complete` raises for any other."""
        status, kind = response.status_code, response.headers.get("content-type", "")
        if status == 429:
            wait = seconds(response.headers.get("retry-after"))
            self.limiter.refused(wait)
            raise BusyError("rate limited", f"teacher URL {self.base_url} answers {_status(response)}", wait)
        if status in _MAYBE_BILLED:
            raise AnswerLostError("server error", f"teacher URL {self.base_url} answers {_status(response)}")
        if status >= 500:
            wait = seconds(response.headers.get("retry-after"))
            raise BusyError("server error", f"teacher URL {self.base_url} answers {_status(response)}", wait)
        if status in (401, 403):
            key = f"the key in the environment variable {self.api_key_env}" if self.api_key_env else "no key"
            raise UserError(
                f"teacher URL {self.base_url} answers {_status(response)} to {key}: "
                "set config.teacher.api_key_env to a variable that holds a valid key"
            )
        if "html" in kind or response.content.lstrip()[:1] == b"<":
            # Behind a gateway the model may have answered all the same.
            raise AnswerLostError(
                "web page",
                f"teacher URL {self.base_url} answers with a web page, not JSON: "
                "config.teacher.url must be the API's address, usually ending in /v1",
            )
        if status == 404 or 300 <= status < 400:
            raise UserError(
                f"teacher URL {self.base_url} answers {_status(response)} for {response.request.url.path}: "
                "fix config.teacher.url or config.teacher.model"
            )
        if status >= 400:
            raise RequestRefusedError("refused", f"the teacher answers {_status(response)}: {response.text[:300]}")
        try:
            answer = json.loads(response.content)
        except ValueError as error:
            raise AnswerLostError("broken JSON", f"teacher URL {self.base_url} sent broken JSON ({error})") from error
        if not isinstance(answer, dict):
            raise AnswerLostError("another format", f"teacher URL {self.base_url} sent JSON that is not an object")
        return answer

    async def _negotiated(self) -> httpx.AsyncBaseTransport:
        """HTTP/2 where the server speaks it, many requests on one connection; else HTTP/1.1, a connection for each
        that is under way. Through a proxy, httpx's own pool."""
        if proxy := _proxy(self._url):
            return httpx.AsyncHTTPTransport(http2=True, proxy=proxy)
        if self._url.scheme == "http":
            return Http1Transport(connect_timeout=_CONNECT_SECONDS)
        verify = httpx.create_ssl_context()
        if await _speaks_http2(self._url):
            return httpx.AsyncHTTPTransport(
                http2=True, verify=verify, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None)
            )
        return Http1Transport(connect_timeout=_CONNECT_SECONDS, verify=verify)

    def _lists_no_models(self, error: Exception) -> UserError:
        return UserError(
            f"teacher URL {self.base_url} does not list its models as an API of the kind {self.protocol.NAME} does "
            f"({error}): fix config.teacher.url"
        )


def api_key(variable: str | None) -> str | None:
    """The key in the environment variable, None where no variable is named. UserError when it is not set, or holds
    what no key does; the error does not show it."""
    if not variable:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"the environment variable {variable} is not set: put the teacher's API key into it")
    if not key.isascii() or not key.isprintable():
        raise UserError(f"the environment variable {variable} holds characters that no API key has: set it again")
    return key


def seconds(retry_after: str | None) -> float | None:
    """Retry-After is a number of seconds or an HTTP date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (until - datetime.datetime.now(datetime.UTC)).total_seconds())


async def _speaks_http2(url: httpx.URL) -> bool:
    """Whether the server chooses HTTP/2 in the TLS handshake. Where no connection comes about, the request itself
    will say why."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(url.host, url.port or 443, ssl=context)
    except (OSError, TimeoutError):
        return False
    chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()
    return chosen == "h2"


def _proxy(url: httpx.URL) -> str | None:
    """The proxy that the environment names for the URL."""
    if urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__
