"""JavaScript and TypeScript on node: programs, and candidates beside their tests in two sandboxes."""

import json
import os
import secrets
from pathlib import Path

from demiurgic_jax.sandbox.compiled import Build, built
from demiurgic_jax.sandbox.contained import Contained
from demiurgic_jax.sandbox.python import judged_by_report
from demiurgic_jax.sandbox.running import follow
from demiurgic_jax.sandbox.toolchains import Toolchain
from demiurgic_jax.sandbox.verdict import Limits, Verdict
from demiurgic_jax.sandbox.workers import Crew, workers

_HARNESS = Path(__file__).with_name("harness")
_HEAP_PART = 0.75  # of the memory limit


# Types are taken away in a sandbox too, by a program that runs none of what it reads.
def javascript_of(program: str, tools: Toolchain, *, isolate: bool) -> str | Verdict:
    """TypeScript as JavaScript, or the verdict that it is neither. Types are not checked."""
    library = [tools.programs["typescript"]] if "typescript" in tools.programs else []
    build = Build(
        {"program.ts": program, "strip.js": (_HARNESS / "typescript.js").read_text()},
        [[tools.programs["node"], "{src}/strip.js", "{src}/program.ts", "{out}/program.js", *library]],
        ["{out}/program.js"],
    )
    with built(build, tools, isolate=isolate) as command:
        return command if isinstance(command, Verdict) else Path(command[0]).read_text(encoding="utf-8")


def run_javascript(program: str, stdin: str, tools: Toolchain, limits: Limits, *, isolate: bool = True) -> Verdict:
    """Runs `program` as a CommonJS script; `passed` means that it exited with 0."""

    def start() -> Crew:
        return (_node(tools, "javascript_program.js", ["{job}"], {}, limits, isolate),)

    (worker,) = workers().take(("javascript program", tools.programs["node"], limits, isolate), start)
    worker.give(json.dumps(program).encode(), stdin.encode("utf-8", "surrogatepass"))
    return follow(worker, limits)


def run_javascript_tests(
    candidate: str, tests: str, tools: Toolchain, limits: Limits, *, isolate: bool = True
) -> Verdict:
    """`passed` only when the tests ran to their end. They run in a process that the candidate does not share."""

    def start() -> Crew:
        to_candidate_read, to_candidate_write = os.pipe()
        to_tests_read, to_tests_write = os.pipe()
        tests_channels = {"receive": to_tests_read, "send": to_candidate_write}
        channels = {"receive": to_candidate_read, "send": to_tests_write}
        arguments = ["{job}", "{report}", "{receive}", "{send}"]
        tests_side = _node(tools, "javascript_tests.js", arguments, tests_channels, limits, isolate)
        arguments = ["{job}", "{receive}", "{send}"]
        return tests_side, _node(tools, "javascript_candidate.js", arguments, channels, limits, isolate)

    kind = ("javascript tests", tools.programs["node"], limits, isolate)
    tests_side, candidate_side = workers().take(kind, start)
    held = secrets.token_hex(16)
    tests_side.give(json.dumps({"tests": tests, "held": held}).encode())
    candidate_side.give(json.dumps({"candidate": candidate}).encode())
    return judged_by_report(follow(tests_side, limits, [candidate_side]), tests_side, candidate_side, held)


def _node(
    tools: Toolchain, harness: str, arguments: list[str], channels: dict[str, int], limits: Limits, isolate: bool
) -> Contained:
    # In a function, since a script's own names would be in the way of the candidate's.
    text = f"(() => {{{(_HARNESS / 'javascript_wire.js').read_text()}{(_HARNESS / harness).read_text()}}})();"
    heap = int(limits.memory_bytes * _HEAP_PART) >> 20
    options = [f"--max-old-space-size={heap}", "--single-threaded-gc", "--stack-size=3900", "-e", text, "--"]
    command = [tools.programs["node"], *options, *arguments]
    return Contained(command, limits, readable=tools.folders, channels=channels, isolate=isolate)
