"""Runs one command in isolation under limits, and watches it from outside."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demiurgic_jax.sandbox.bubblewrap import SandboxUnavailableError, isolated, python_program, why_unavailable
from demiurgic_jax.sandbox.verdict import Limits, Status, Verdict

_WATCH_SECONDS = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Runs inside, before the untrusted program exists: limits set here cannot be raised again by what follows.
_LAUNCHER = """
import os, resource, sys
memory, cpu, file = map(int, sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.execv(sys.argv[4], sys.argv[4:])
"""


@dataclass(frozen=True)
class Run:
    """A finished run: the verdict by exit code alone, and what the program wrote on the report descriptor."""

    verdict: Verdict
    report: bytes


def run_isolated(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    files: Mapping[str, bytes] | None = None,
    limits: Limits | None = None,
) -> Run:
    """Runs `command` (absolute path first) inside bubblewrap; `{report}` in its arguments becomes the number of a
    descriptor whose first 4096 bytes come back in `Run.report`.

    `files` maps absolute paths inside to read-only content. Raises SandboxUnavailableError, having run nothing,
    where bubblewrap does not work.
    """
    limits = limits or Limits()
    reason = why_unavailable()
    if reason is not None:
        raise SandboxUnavailableError(f"refusing to run untrusted code: {reason}")
    report_read, report_write = os.pipe()
    contents = {path: _in_memory(content) for path, content in (files or {}).items()}
    launcher = [python_program(), "-I", "-S", "-c", _LAUNCHER]
    bounds = [limits.memory_bytes, limits.cpu_seconds, limits.file_bytes]
    program = [part.replace("{report}", str(report_write)) for part in command]
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            isolated([*launcher, *map(str, bounds), *program], limits, contents),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[report_write, *contents.values()],
        )
    except BaseException:
        os.close(report_read)
        raise
    finally:
        for descriptor in (report_write, *contents.values()):
            os.close(descriptor)
    watched = _Watched(process, report_read, stdin, limits, started)
    try:
        exceeded = watched.follow()
    finally:
        watched.end()
    output = {name: bytes(data).decode("utf-8", "replace") for name, data in watched.received.items()}
    status = exceeded or _status(process.returncode, output["stderr"])
    code = None if exceeded else process.returncode
    verdict = Verdict(status, code, output["stdout"], output["stderr"], time.monotonic() - started)
    return Run(verdict, bytes(watched.received["report"][:4096]))


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("sandbox")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _status(exit_code: int, stderr: str) -> Status:
    """Bubblewrap reports a signal s as 128 + s."""
    if exit_code == 0:
        return "passed"
    if exit_code in (128 + signal.SIGXCPU, 128 + signal.SIGKILL):
        return "timeout"  # the watcher's own kills never come here; what is left is the kernel's CPU limit
    last = stderr.strip().rpartition("\n")[2]
    return "memory" if last.startswith("MemoryError") else "failed"


class _Watched:
    """Feeds a process, collects what it writes, and stops it at the first limit it passes."""

    def __init__(self, process: subprocess.Popen[bytes], report: int, stdin: bytes, limits: Limits, started: float):
        self.process, self.limits, self.deadline = process, limits, started + limits.wall_seconds
        self.received = {"stdout": bytearray(), "stderr": bytearray(), "report": bytearray()}
        self.unsent = memoryview(stdin)
        self.selector = selectors.DefaultSelector()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.report = os.fdopen(report, "rb", buffering=0)
        for file, name in ((process.stdout, "stdout"), (process.stderr, "stderr"), (self.report, "report")):
            os.set_blocking(file.fileno(), False)
            self.selector.register(file, selectors.EVENT_READ, name)
        os.set_blocking(process.stdin.fileno(), False)
        self.selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")

    def follow(self) -> Status | None:
        """Returns the limit that was passed, or None once the process has ended by itself."""
        next_look = 0.0
        while self.selector.get_map():
            now = time.monotonic()
            if now >= self.deadline:
                return "timeout"
            if now >= next_look:
                exceeded = self._resources_exceeded()
                if exceeded:
                    return exceeded
                next_look = now + _WATCH_SECONDS
            for key, _ in self.selector.select(min(_WATCH_SECONDS, self.deadline - now)):
                if key.data == "stdin":
                    self._feed(key)
                elif not self._collect(key):
                    return "output"
        try:
            self.process.wait(max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "timeout"
        return None

    def end(self) -> None:
        # Killing bubblewrap ends its process namespace, and with it every descendant.
        self.process.kill()
        self.process.wait()
        self.selector.close()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr, self.report):
            if file is not None:
                _close(file)

    def _feed(self, key: selectors.SelectorKey) -> None:
        try:
            self.unsent = self.unsent[os.write(key.fd, self.unsent[:65536]) :] if self.unsent else self.unsent
        except BrokenPipeError:
            self.unsent = memoryview(b"")
        if not self.unsent:
            self.selector.unregister(key.fileobj)
            _close(key.fileobj)

    def _collect(self, key: selectors.SelectorKey) -> bool:
        """False once the output passes its limit; what was received is then cut to it."""
        data = os.read(key.fd, 65536)
        if not data:
            self.selector.unregister(key.fileobj)
            return True
        room = self.limits.output_bytes - sum(map(len, self.received.values()))
        self.received[key.data] += data[: max(0, room)]
        return len(data) <= room

    def _resources_exceeded(self) -> Status | None:
        """Counted from outside because RLIMIT_NPROC does not bind root and, on older kernels, counts the whole user."""
        tasks = resident = 0
        for pid in _descendants(self.process.pid):
            try:
                tasks += len(os.listdir(f"/proc/{pid}/task"))
                resident += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
            except (FileNotFoundError, ProcessLookupError, IndexError):
                continue  # it ended between being listed and being looked at
        if tasks > self.limits.processes + 2:  # bubblewrap's own init, and the process it starts
            return "processes"
        return "memory" if resident > self.limits.memory_bytes else None


def _close(file: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # the program ended without reading all of its input
        file.close()  # type: ignore[attr-defined]


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text()
                waiting += map(int, children.split())
                found += map(int, children.split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
