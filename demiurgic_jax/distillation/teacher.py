"""A teacher behind an OpenAI-compatible HTTP API."""

import asyncio
import datetime
import email.utils
import os
import random
from typing import Any, Self

import httpx

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.data.openai_wire import endpoint, request_body
from demiurgic_jax.distillation.failures import AnswerLostError, RequestRefusedError, TeacherError
from demiurgic_jax.distillation.openai_protocol import read_answer
from demiurgic_jax.errors import UserError

_LONGEST_WAIT_SECONDS = 60.0


class HttpTeacher:
    """Completes over HTTP, with retries. An async context manager; one event loop per instance.

    `base_url` ends like OpenAI's ("http://127.0.0.1:8000/v1"). `api_key_env` names the environment variable with the
    key, which is read for the requests' headers and kept nowhere else. `timeout` (seconds) bounds one attempt.
    Attempts that failed before anything can have been billed (refused connection, 429, 5xx) are repeated up to
    `max_attempts` with exponential, jittered waits from `backoff_seconds` on, or as long as Retry-After says.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout: float = 120.0,
        max_attempts: int = 5,
        max_connections: int = 64,
        backoff_seconds: float = 0.5,
    ):
        self.base_url, self.model, self.api_key_env = base_url.rstrip("/"), model, api_key_env
        self.max_attempts, self.backoff_seconds = max_attempts, backoff_seconds
        self._jitter = random.Random()
        try:
            self._client = httpx.AsyncClient(
                headers=_authorization(api_key_env),
                timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
                limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            )
            scheme = httpx.URL(self.base_url).scheme
        except httpx.InvalidURL as error:
            raise UserError(f"teacher URL {base_url!r} is not a URL ({error}): fix config.teacher.url") from error
        if scheme not in ("http", "https"):
            raise UserError(f"teacher URL {base_url!r} must begin with http:// or https://: fix config.teacher.url")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def complete(self, request: CompletionRequest) -> Completion:
        """Asks until an answer comes whole, at most `max_attempts` times.

        Raises UserError for an address, key or model that cannot work, RequestRefusedError for a request that the
        teacher will never answer, and TeacherError once the attempts are used up.
        """
        for attempt in range(1, self.max_attempts):
            try:
                return await self.ask(request)
            except AnswerLostError:
                await asyncio.sleep(self._wait(attempt, None))
        return await self.ask(request)

    async def ask(self, request: CompletionRequest) -> Completion:
        """Like `complete`, but raises AnswerLostError as soon as an attempt may have been billed without an answer,
        so that the caller can account for it before asking again."""
        path, body = endpoint(request), request_body(self.model, request)
        for attempt in range(1, self.max_attempts + 1):
            last = attempt == self.max_attempts
            try:
                response = await self._client.post(self.base_url + path, json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if last:
                    raise self._unreachable(error) from error
                await asyncio.sleep(self._wait(attempt, None))
                continue
            except httpx.TransportError as error:
                raise AnswerLostError(f"teacher URL {self.base_url} broke off its answer ({_say(error)})") from error
            if response.status_code == 429 or response.status_code >= 500:
                if last:
                    raise TeacherError(f"teacher URL {self.base_url} answers {_status(response)}")
                await asyncio.sleep(self._wait(attempt, response.headers.get("retry-after")))
                continue
            return read_answer(request, self._decoded(response))
        raise AssertionError("the last attempt returns or raises")

    async def check(self) -> list[str]:
        """Names of the models that the teacher offers, `self.model` among them.

        One GET /models, free of charge. Raises UserError naming what is wrong with address, key or model.
        """
        try:
            response = await self._client.get(self.base_url + "/models")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error) from error
        except httpx.TransportError as error:
            raise UserError(
                f"teacher URL {self.base_url} stops in the middle of its answer ({_say(error)}): "
                "restart the server or fix config.teacher.url"
            ) from error
        if response.status_code == 429 or response.status_code >= 500:
            raise UserError(f"teacher URL {self.base_url} answers {_status(response)}: try again later")
        try:
            models = [str(entry["id"]) for entry in self._decoded(response)["data"]]
        except (AnswerLostError, RequestRefusedError, KeyError, TypeError) as error:
            raise UserError(
                f"teacher URL {self.base_url} does not list its models as an OpenAI-compatible server does ({error}): "
                "fix config.teacher.url"
            ) from error
        if self.model not in models:
            known = ", ".join(models[:10]) or "none"
            raise UserError(
                f"teacher URL {self.base_url} has no model {self.model!r} (it offers {known}): fix config.teacher.model"
            )
        return models

    def _decoded(self, response: httpx.Response) -> dict[str, Any]:
        """The JSON object of a response that is neither 429 nor 5xx."""
        status, kind = response.status_code, response.headers.get("content-type", "")
        if status in (401, 403):
            key = f"the key in the environment variable {self.api_key_env}" if self.api_key_env else "no key"
            raise UserError(
                f"teacher URL {self.base_url} answers {_status(response)} to {key}: "
                "set config.teacher.api_key_env to a variable that holds a valid key"
            )
        if "html" in kind or response.content.lstrip()[:1] == b"<":
            raise UserError(
                f"teacher URL {self.base_url} answers with a web page, not JSON: "
                "config.teacher.url must be the API's address, usually ending in /v1"
            )
        if status == 404 or 300 <= status < 400:
            raise UserError(
                f"teacher URL {self.base_url} answers {_status(response)} for {response.request.url.path}: "
                "fix config.teacher.url or config.teacher.model"
            )
        if status >= 400:
            raise RequestRefusedError(f"the teacher answers {_status(response)}: {response.text[:300]}")
        try:
            answer = response.json()
        except ValueError as error:
            raise AnswerLostError(f"teacher URL {self.base_url} sent broken JSON ({error})") from error
        if not isinstance(answer, dict):
            raise AnswerLostError(f"teacher URL {self.base_url} sent JSON that is not an object")
        return answer

    def _unreachable(self, error: Exception) -> UserError:
        refuses = "refuses connections" if isinstance(error, httpx.ConnectError) else "does not answer"
        return UserError(
            f"teacher URL {self.base_url} {refuses} ({_say(error)}): start the server or fix config.teacher.url"
        )

    def _wait(self, attempt: int, retry_after: str | None) -> float:
        """Seconds before the next attempt: what the teacher asks for, else exponential with full jitter."""
        asked = _seconds(retry_after)
        if asked is not None:
            return min(asked, _LONGEST_WAIT_SECONDS) + self._jitter.uniform(0, self.backoff_seconds)
        return self._jitter.uniform(0.5, 1.0) * min(self.backoff_seconds * 2 ** (attempt - 1), _LONGEST_WAIT_SECONDS)


def _authorization(api_key_env: str | None) -> dict[str, str]:
    if api_key_env is None:
        return {}
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        raise UserError(f"the environment variable {api_key_env} is not set: put the teacher's API key into it")
    if not key.isascii() or not key.isprintable():
        raise UserError(f"the environment variable {api_key_env} holds characters that no API key has: set it again")
    return {"Authorization": f"Bearer {key}"}


def _seconds(retry_after: str | None) -> float | None:
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


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__
