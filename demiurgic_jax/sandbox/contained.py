"""One process in isolation: how it is started, fed and ended. Who watches it is in running.py."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence

from demiurgic_jax.sandbox.bubblewrap import (
    ENVIRONMENT,
    SandboxUnavailableError,
    filter_descriptor,
    isolated,
    why_unavailable,
)
from demiurgic_jax.sandbox.resources import ProcessTree
from demiurgic_jax.sandbox.speed import slowness
from demiurgic_jax.sandbox.verdict import Limits

_DESCRIPTORS = 256
# The kernel's own limit in CPU seconds stands behind the watcher's, for one process.
_CPU_MARGIN = 2
_STACK = 64 << 20


class Contained:
    """A started process. `received` holds what came from it, by the name of the pipe.

    Besides its standard streams it has a job pipe, read once, and a report pipe: `{job}` and `{report}` in the
    command's arguments become the numbers of its ends. `channels` are further descriptors it keeps, named likewise;
    they are closed here once it runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        readable: Sequence[str] = (),
        writable: Sequence[str] = (),
        channels: dict[str, int] | None = None,
        address_space: bool = False,
        isolate: bool = True,
    ):
        """`address_space` bounds that too, which languages that reserve it by the gigabyte cannot bear.

        Raises SandboxUnavailableError, having run nothing, where it is to be isolated and cannot be.
        """
        reason = why_unavailable() if isolate else None
        if reason is not None:
            _close_all((channels or {}).values())
            raise SandboxUnavailableError(f"refusing to run untrusted code: {reason}")
        self.limits, self.isolate = limits, isolate
        self.scratch = None if isolate else tempfile.mkdtemp(prefix="demiurgic-unisolated-")
        self.process, pipes = self._start(command, limits, readable, writable, channels or {}, address_space)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.tree = ProcessTree(self.process.pid)
        self.inputs = {self.process.stdin.fileno(): memoryview(b""), pipes["job"]: memoryview(b"")}
        self.outputs = {
            self.process.stdout.fileno(): "stdout",
            self.process.stderr.fileno(): "stderr",
            pipes["report"]: "report",
        }
        self._own = [pipes["job"], pipes["report"]]
        self._job = pipes["job"]
        self.received = {name: bytearray() for name in self.outputs.values()}
        self.cpu_before = 0.0
        for descriptor in (*self.inputs, *self.outputs):
            os.set_blocking(descriptor, False)

    def _start(
        self,
        command: Sequence[str],
        limits: Limits,
        readable: Sequence[str],
        writable: Sequence[str],
        channels: dict[str, int],
        address_space: bool,
    ) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
        job_read, job_write = os.pipe()
        report_read, report_write = os.pipe()
        seccomp = filter_descriptor() if self.isolate else None
        given = [job_read, report_write, *channels.values()]
        names = {"{job}": job_read, "{report}": report_write, **{f"{{{name}}}": fd for name, fd in channels.items()}}
        program = [*_bounds(limits, address_space), *(str(names.get(part, part)) for part in command)]
        try:
            if self.isolate:
                program = isolated(program, limits, readable=readable, writable=writable, seccomp=seccomp)
            process = subprocess.Popen(
                program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[*given, *([] if seccomp is None else [seccomp])],
                cwd=self.scratch,
                env=None if self.isolate else ENVIRONMENT | {"HOME": str(self.scratch), "TMPDIR": str(self.scratch)},
                start_new_session=not self.isolate,
            )
        except BaseException:
            _close_all([job_write, report_read])
            raise
        finally:
            _close_all([*given, *([] if seccomp is None else [seccomp])])
        return process, {"job": job_write, "report": report_read}

    def give(self, job: bytes = b"", stdin: bytes = b"") -> None:
        """What it is to read; CPU time is counted from here."""
        assert self.process.stdin
        self.inputs = {self.process.stdin.fileno(): memoryview(stdin), self._job: memoryview(job)}
        self.tree.look()
        self.cpu_before = self.tree.cpu

    @property
    def cpu_seconds(self) -> float:
        """Since it was given its job, in seconds of the reference machine."""
        return (self.tree.cpu - self.cpu_before) / slowness()

    def close_input(self, descriptor: int) -> None:
        self.inputs.pop(descriptor)
        self._close(descriptor)

    def close_output(self, descriptor: int) -> None:
        self.outputs.pop(descriptor)
        self._close(descriptor)

    def end(self) -> None:
        """Kills it and all that came of it, and lets go of its pipes."""
        if self.process.poll() is None:
            # Killing bubblewrap ends its process namespace, but not one that it was still making: that one's first
            # process would wait for it for ever. So it is stopped, and its children are killed with it.
            os.kill(self.process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            _kill_all(self.tree)
        elif not self.isolate:
            _kill_all(self.tree)
        self.process.kill()
        self.process.wait()
        for descriptor in [*self.inputs, *self.outputs]:
            self._close(descriptor)
        self.inputs, self.outputs = {}, {}
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _close(self, descriptor: int) -> None:
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            if file is not None and not file.closed and file.fileno() == descriptor:
                with contextlib.suppress(BrokenPipeError):  # the program ended without reading all of its input
                    file.close()
                return
        if descriptor in self._own:
            self._own.remove(descriptor)
            os.close(descriptor)


def _bounds(limits: Limits, address_space: bool) -> list[str]:
    """A prefix to a command: limits set before the untrusted program exists cannot be raised by it."""
    cpu = int(limits.cpu_seconds * slowness()) + _CPU_MARGIN
    bounds = [f"--cpu={cpu}", f"--fsize={limits.file_bytes}", "--core=0", f"--nofile={_DESCRIPTORS}"]
    bounds += [f"--stack={_STACK}"]
    if address_space:
        bounds.append(f"--as={limits.memory_bytes}")
    return ["/usr/bin/prlimit", *bounds, "--"]


def _kill_all(tree: ProcessTree) -> None:
    """Descendants are sought out. Only a process namespace, which ends with its first process, holds those that left
    their parents too."""
    for pid in tree.members():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
