"""The ways in which asking a teacher can fail short of the user's mistake, each with a reason that can be counted."""


class TeacherError(Exception):
    """The teacher did not give an answer to one request; others may still get theirs.

    `reason` is one of a few words: "rate limited", "server error", "unreachable", "connection broke", "too slow",
    "web page", "broken JSON", "another format", "refused", "content filter", "out of time", "unusable".
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class BusyError(TeacherError):
    """Nothing was answered and nothing billed: worth asking again, `retry_after` seconds from now if that is known."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None):
        super().__init__(reason, message)
        self.retry_after = retry_after


class AnswerLostError(TeacherError):
    """The request went out, and no whole answer came back: it may have been billed."""


class RequestRefusedError(TeacherError):
    """The teacher will not answer this request, however often it is asked."""
