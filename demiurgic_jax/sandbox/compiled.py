"""Languages with a compiler: sources are built in one sandbox, and what comes of it runs in another."""

import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from demiurgic_jax.sandbox.contained import Contained
from demiurgic_jax.sandbox.running import follow
from demiurgic_jax.sandbox.toolchains import Toolchain
from demiurgic_jax.sandbox.verdict import Limits, Verdict

BUILD_LIMITS = Limits(
    cpu_seconds=60, idle_seconds=30, wall_seconds=600, memory_bytes=2 << 30, file_bytes=256 << 20, disk_bytes=256 << 20
)


@dataclass(frozen=True)
class Build:
    """Sources by name, and commands in which `{src}` and `{out}` stand for the folders of sources and of results.

    `run` starts what was built; `{job}` and `{report}` in it are descriptors. `refused` is a reason not to build.
    """

    sources: Mapping[str, str]
    steps: Sequence[Sequence[str]]
    run: Sequence[str]
    folders: Sequence[str] = ()
    address_space: bool = True
    refused: str = ""
    hidden: Sequence[str] = ()  # results that are made executable and unreadable
    placed: Sequence[str] = ()  # sources in which `{out}` stands for the folder too


@contextmanager
def built(build: Build, tools: Toolchain, *, isolate: bool) -> Iterator[list[str] | Verdict]:
    """The command that runs it, or the verdict that it does not compile. What was built is gone afterwards."""
    if build.refused:
        yield Verdict("failed", None, "", build.refused, 0.0, reason=build.refused)
        return
    folder = Path(tempfile.mkdtemp(prefix="demiurgic-sandbox-"))
    try:
        # Those who run inside are another user there, and may read but not list what is above.
        folder.chmod(0o711)
        places = {"src": folder / "src", "out": folder / "out"}
        for place in places.values():
            place.mkdir()
        for name, text in build.sources.items():
            path = places["src"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
        for name in build.placed:
            path = places["src"] / name
            path.write_text(path.read_text().replace("{out}", str(places["out"])))

        def placed(command: Sequence[str]) -> list[str]:
            return [part.replace("{src}", str(places["src"])).replace("{out}", str(places["out"])) for part in command]

        script = " && ".join(shlex.join(placed(step)) for step in build.steps)
        compiler = Contained(
            ["/bin/sh", "-c", script],
            BUILD_LIMITS,
            readable=[*tools.folders, *build.folders, str(places["src"])],
            writable=[str(places["out"])],
            isolate=isolate,
        )
        compiler.give()
        verdict = follow(compiler, BUILD_LIMITS)
        if not verdict.passed:
            said = (verdict.stderr + verdict.stdout).splitlines()  # Go's compiler speaks on its standard output
            reason = next((line for line in said if "error" in line), said[-1] if said else verdict.reason)
            yield replace(verdict, status="compile error", reason=reason[:300])
            return
        for name in build.hidden:
            (places["out"] / name).chmod(0o111)
        yield placed(build.run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_build(build: Build, tools: Toolchain, inputs: Sequence[str], limits: Limits, *, isolate: bool) -> list[Verdict]:
    """Builds once and runs on each input; `passed` means that it exited with 0."""
    with built(build, tools, isolate=isolate) as command:
        if isinstance(command, Verdict):
            return [command] * len(inputs)
        return [_run(build, tools, command, b"", each, limits, isolate)[0] for each in inputs]


def run_tests_build(build: Build, tools: Toolchain, limits: Limits, *, isolate: bool) -> Verdict:
    """Builds and runs a candidate with its tests; `passed` only when the harness reports the token given to it."""
    with built(build, tools, isolate=isolate) as command:
        if isinstance(command, Verdict):
            return command
        token = secrets.token_hex(16).encode()
        verdict, report = _run(build, tools, command, token, "", limits, isolate)
    if verdict.status not in ("passed", "failed"):
        return verdict
    if verdict.status == "passed" and report == token:
        return verdict
    return replace(verdict, status="failed", reason=verdict.reason or "the program left before its tests had ended")


def _run(
    build: Build, tools: Toolchain, command: list[str], job: bytes, stdin: str, limits: Limits, isolate: bool
) -> tuple[Verdict, bytes]:
    # Of what the compilers left only what is run is shown: object files would tell what the tests expect.
    results = [path for part in command for path in part.split(":") if path.startswith(tempfile.gettempdir())]
    readable = [*tools.folders, *build.folders, *results]
    process = Contained(command, limits, readable=readable, address_space=build.address_space, isolate=isolate)
    process.give(job, stdin.encode("utf-8", "surrogatepass"))
    verdict = follow(process, limits)
    return verdict, bytes(process.received["report"])
