"""Python programs, and candidates beside their tests: two interpreters, each in a sandbox of its own."""

import functools
import importlib.util
import json
import os
import py_compile
import secrets
from dataclasses import replace
from pathlib import Path

from demiurgic_jax.sandbox.bubblewrap import python_prefix, python_program
from demiurgic_jax.sandbox.cache import cached
from demiurgic_jax.sandbox.contained import Contained
from demiurgic_jax.sandbox.running import follow
from demiurgic_jax.sandbox.verdict import Limits, Verdict
from demiurgic_jax.sandbox.workers import Crew, workers

_HARNESS = Path(__file__).with_name("harness")


def run_python(program: str, stdin: str, limits: Limits, *, isolate: bool = True) -> Verdict:
    """Runs `program` as a script with the standard library only; `passed` means that it exited with 0."""

    def start() -> Crew:
        return (_interpreter("python_program.py", ["{job}"], limits, isolate),)

    (worker,) = workers().take(("python program", limits, isolate), start)
    worker.give(json.dumps(program).encode(), stdin.encode("utf-8", "surrogatepass"))
    return follow(worker, limits)


def run_python_tests(
    candidate: str, tests: str, entry_point: str | None, limits: Limits, *, isolate: bool = True
) -> Verdict:
    """`passed` only when the tests ran to their end. They run in a process that the candidate does not share."""

    def start() -> Crew:
        to_candidate_read, to_candidate_write = os.pipe()
        to_tests_read, to_tests_write = os.pipe()
        tests_side = _interpreter(
            "python_tests.py",
            ["{job}", "{report}", "{receive}", "{send}"],
            limits,
            isolate,
            {"receive": to_tests_read, "send": to_candidate_write},
        )
        candidate_side = _interpreter(
            "python_candidate.py",
            ["{job}", "{receive}", "{send}"],
            limits,
            isolate,
            {"receive": to_candidate_read, "send": to_tests_write},
        )
        return tests_side, candidate_side

    tests_side, candidate_side = workers().take(("python tests", limits, isolate), start)
    held = secrets.token_hex(16)
    job = {"candidate": candidate, "tests": tests, "entry_point": entry_point, "held": held}
    tests_side.give(json.dumps(job).encode())
    candidate_side.give(json.dumps({"candidate": candidate}).encode())
    return judged_by_report(follow(tests_side, limits, [candidate_side]), tests_side, candidate_side, held)


def judged_by_report(verdict: Verdict, tests: Contained, candidate: Contained, held: str) -> Verdict:
    """`passed` where the tests' side reported `held`; what it reported else is the reason."""
    said = bytes(candidate.received["stderr"]).decode("utf-8", "replace")
    verdict = replace(verdict, stderr=said + verdict.stderr)
    if verdict.status not in ("passed", "failed"):
        return verdict
    report = bytes(tests.received["report"]).decode("utf-8", "replace")
    if verdict.status == "passed" and report == held:
        return replace(verdict, reason="")
    if report.startswith("MemoryError"):
        return replace(verdict, status="memory", reason="the candidate asked for more memory than there is")
    return replace(verdict, status="failed", reason=report if report != held else "the tests left early")


def _interpreter(
    harness: str, arguments: list[str], limits: Limits, isolate: bool, channels: dict[str, int] | None = None
) -> Contained:
    folder = _compiled_harness()
    command = [python_program(), "-I", "-S", str(folder / f"{harness}c"), *arguments]
    return Contained(
        command,
        limits,
        readable=[python_prefix(), str(folder)],
        channels=channels,
        address_space=True,
        isolate=isolate,
    )


@functools.cache
def _compiled_harness() -> Path:
    """The folder of the harness as byte code: to compile it would take a fifth of each start."""
    wire = (_HARNESS / "python_wire.py").read_text()
    programs = ("python_program.py", "python_tests.py", "python_candidate.py")
    texts = {name: wire + (_HARNESS / name).read_text() for name in programs}

    def make(folder: Path, final: Path) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text)
            code = folder / f"{name}c"
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(folder / name), str(code), dfile=name, doraise=True, invalidation_mode=unchecked)

    return cached("python", "\n".join([importlib.util.MAGIC_NUMBER.hex(), *texts.values()]), make)
