"""The ways in which asking a teacher can fail short of the user's mistake."""


class TeacherError(Exception):
    """The teacher did not give an answer to one request; others may still get theirs."""


class AnswerLostError(TeacherError):
    """The request went out, and no whole answer came back: it may have been billed."""


class RequestRefusedError(TeacherError):
    """The teacher will not answer this request, however often it is asked."""
