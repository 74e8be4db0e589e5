"""Python programs, and candidates against their tests, in the sandbox."""

import json
import secrets
from dataclasses import replace
from pathlib import Path

from demiurgic_jax.sandbox.bubblewrap import python_program
from demiurgic_jax.sandbox.running import run_isolated
from demiurgic_jax.sandbox.verdict import Limits, Verdict

_PROGRAM = "/sandbox/program.py"
_HARNESS = Path(__file__).with_name("python_harness.py")


def run_python(program: str, *, stdin: str = "", limits: Limits | None = None) -> Verdict:
    """Runs `program` as a script with the standard library only; `passed` means that it exited with 0.

    Raises SandboxUnavailableError where it cannot be isolated.
    """
    files = {_PROGRAM: program.encode("utf-8", "surrogatepass")}
    return run_isolated([python_program(), "-I", _PROGRAM], stdin=stdin.encode(), files=files, limits=limits).verdict


def run_python_tests(candidate: str, tests: str, *, limits: Limits | None = None) -> Verdict:
    """Loads `candidate` as a module and runs `tests` in its namespace.

    `passed` only when the tests ran to their end: the harness then reports a token which it took from a pipe and
    kept out of the module's reach before the candidate was loaded. Exit codes and printed words count for nothing.
    Raises SandboxUnavailableError where it cannot be isolated.
    """
    token = secrets.token_hex(16)
    job = json.dumps({"token": token, "candidate": candidate, "tests": tests})
    command = [python_program(), "-I", "-c", _HARNESS.read_text(), "{report}"]
    run = run_isolated(command, stdin=job.encode(), limits=limits)
    if run.verdict.status not in ("passed", "failed"):
        return run.verdict
    return replace(run.verdict, status="passed" if run.report == token.encode() else "failed")
