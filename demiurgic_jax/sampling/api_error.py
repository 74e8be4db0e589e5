"""A refusal, as the OpenAI error object with its HTTP status."""

from collections.abc import Mapping

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """Raised by whatever reads a request; the server answers with it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.content = {
            "error": {
                "message": message,
                "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
                "param": param,
                "code": code,
            }
        }
