"""The one exception that every room raises for a user's mistake."""


class UserError(Exception):
    """Bad input: one sentence that names the file, field or row, and the mend.

    The entry points (experiments.run, the `demiurgic` command, tools) print it without a traceback
    and exit with status 2. Anything else that escapes is a failure and exits with status 1.
    """
