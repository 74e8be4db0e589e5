"""The exception that every room raises for a user's mistake, and the one of a run that was told to leave."""


class UserError(Exception):
    """Bad input: one sentence that names the file, field or row, and the mend.

    The entry points (experiments.run, the `demiurgic` command, tools) print it without a traceback
    and exit with status 2. Anything else that escapes is a failure and exits with status 1.
    """


class PreemptedError(Exception):
    """SIGTERM came, and what was done is saved: the same command goes on from there.

    The entry points exit with status 75 (EX_TEMPFAIL, "try again later"), which a scheduler can restart on.
    """
