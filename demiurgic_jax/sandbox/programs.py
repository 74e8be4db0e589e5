"""Runs programs and tests in any of the seven languages: the room's front door."""

from collections.abc import Sequence

from demiurgic_jax.sandbox.compiled import Build, run_build, run_tests_build
from demiurgic_jax.sandbox.cpp import cpp_program, cpp_tests
from demiurgic_jax.sandbox.go import go_program, go_tests
from demiurgic_jax.sandbox.java import java_program, java_tests
from demiurgic_jax.sandbox.javascript import javascript_of, run_javascript, run_javascript_tests
from demiurgic_jax.sandbox.python import run_python, run_python_tests
from demiurgic_jax.sandbox.rust import rust_program, rust_tests
from demiurgic_jax.sandbox.toolchains import MissingToolchainError, Toolchain, toolchain
from demiurgic_jax.sandbox.verdict import Language, Limits, Verdict


def run_program(
    language: Language,
    program: str,
    *,
    stdin: str = "",
    limits: Limits | None = None,
    run_untrusted_code_without_isolation: bool = False,
) -> Verdict:
    """Runs a whole program; `passed` means that it exited with 0, and its output is for the caller to judge.

    A missing toolchain is the verdict `not run`. Where there is no isolation, SandboxUnavailableError is raised and
    nothing is run, unless the flag accepts that the program can then do all that the user can.
    """
    return run_on_inputs(
        language,
        program,
        [stdin],
        limits=limits,
        run_untrusted_code_without_isolation=run_untrusted_code_without_isolation,
    )[0]


def run_on_inputs(
    language: Language,
    program: str,
    inputs: Sequence[str],
    *,
    limits: Limits | None = None,
    run_untrusted_code_without_isolation: bool = False,
) -> list[Verdict]:
    """Like run_program for each of `inputs`, compiled once."""
    limits, isolate = limits or Limits(), not run_untrusted_code_without_isolation
    try:
        tools = toolchain(language)
    except MissingToolchainError as error:
        return [_not_run(error)] * len(inputs)
    if language == "python":
        return [run_python(program, stdin, limits, isolate=isolate) for stdin in inputs]
    if language in ("javascript", "typescript"):
        script = javascript_of(program, tools, isolate=isolate) if language == "typescript" else program
        if isinstance(script, Verdict):
            return [script] * len(inputs)
        return [run_javascript(script, stdin, tools, limits, isolate=isolate) for stdin in inputs]
    return run_build(_program_build(language, program, tools, limits), tools, inputs, limits, isolate=isolate)


def run_tests(
    language: Language,
    candidate: str,
    tests: str,
    *,
    entry_point: str | None = None,
    limits: Limits | None = None,
    run_untrusted_code_without_isolation: bool = False,
) -> Verdict:
    """Runs `tests` on `candidate`; `passed` only when the tests ran to their end and all held.

    Python: statements with `assert`, `test_` functions, unittest cases, or a function `check(candidate)`, which is
    called with the candidate's `entry_point`. The other languages are as docs/evaluation.md says. Neither the
    candidate nor the tests are trusted with anything of the user's. A missing toolchain is the verdict `not run`.
    Raises SandboxUnavailableError as run_program does.
    """
    limits, isolate = limits or Limits(), not run_untrusted_code_without_isolation
    try:
        tools = toolchain(language)
    except MissingToolchainError as error:
        return _not_run(error)
    if language == "python":
        return run_python_tests(candidate, tests, entry_point, limits, isolate=isolate)
    if language in ("javascript", "typescript"):
        scripts = candidate, tests
        if language == "typescript":
            stripped = [javascript_of(text, tools, isolate=isolate) for text in scripts]
            wrong = next((each for each in stripped if isinstance(each, Verdict)), None)
            if wrong:
                return wrong
            scripts = str(stripped[0]), str(stripped[1])
        return run_javascript_tests(*scripts, tools, limits, isolate=isolate)
    return run_tests_build(_tests_build(language, candidate, tests, tools, limits), tools, limits, isolate=isolate)


def _not_run(error: MissingToolchainError) -> Verdict:
    return Verdict("not run", None, "", "", 0.0, reason=str(error))


def _program_build(language: Language, program: str, tools: Toolchain, limits: Limits) -> Build:
    match language:
        case "cpp":
            return cpp_program(program, tools)
        case "go":
            return go_program(program, tools)
        case "rust":
            return rust_program(program, tools)
        case "java":
            return java_program(program, tools, limits.memory_bytes)
        case _:
            raise ValueError(f"{language} is not compiled")


def _tests_build(language: Language, candidate: str, tests: str, tools: Toolchain, limits: Limits) -> Build:
    match language:
        case "cpp":
            return cpp_tests(candidate, tests, tools)
        case "go":
            return go_tests(candidate, tests, tools)
        case "rust":
            return rust_tests(candidate, tests, tools)
        case "java":
            return java_tests(candidate, tests, tools, limits.memory_bytes)
        case _:
            raise ValueError(f"{language} is not compiled")
