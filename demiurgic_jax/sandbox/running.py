"""Watches contained processes from outside, and stops them at the first limit they pass."""

import os
import selectors
import signal
import time
from collections.abc import Sequence

from demiurgic_jax.sandbox.contained import Contained
from demiurgic_jax.sandbox.verdict import Limits, Status, Verdict

_LOOK_SECONDS = 0.02
_CHUNK = 1 << 16
_REPORT_BYTES = 4096


def follow(primary: Contained, limits: Limits, beside: Sequence[Contained] = ()) -> Verdict:
    """Feeds all of them and returns once `primary` has ended or one of them has passed a limit. All are then ended.

    The verdict is by exit code alone. CPU seconds, memory, processes and output are those of each process by itself;
    idle is what they are together, since one may wait for another.
    """
    everyone = (primary, *beside)
    started = time.monotonic()
    try:
        exceeded = _Watch(everyone, limits).until_end()
        for each in everyone:
            each.tree.look()
    finally:
        for each in everyone:
            each.end()
    stdout, stderr = (bytes(primary.received[name]).decode("utf-8", "replace") for name in ("stdout", "stderr"))
    status, reason = exceeded or _by_exit_code(primary.process.returncode, stderr)
    code = None if exceeded else primary.process.returncode
    cpu = sum(each.cpu_seconds for each in everyone)
    return Verdict(status, code, stdout, stderr, time.monotonic() - started, cpu, reason)


def _by_exit_code(code: int, stderr: str) -> tuple[Status, str]:
    """Bubblewrap reports a signal s as 128 + s; where it is not used, subprocess does as -s."""
    if code == 0:
        return "passed", ""
    number = code - 128 if code > 128 else -code
    if number == signal.SIGXCPU:
        return "timeout", "the limit in CPU seconds"
    last = stderr.strip().rpartition("\n")[2]
    if last.startswith("MemoryError") or "std::bad_alloc" in stderr[-400:] or "OutOfMemoryError" in stderr[-4000:]:
        return "memory", "the program asked for more memory than there is"
    return "failed", last[:200] or f"exit code {code}"


class _Watch:
    def __init__(self, everyone: Sequence[Contained], limits: Limits):
        self.everyone, self.limits = everyone, limits
        self.selector = selectors.DefaultSelector()
        for each in everyone:
            for descriptor in each.inputs:
                self.selector.register(descriptor, selectors.EVENT_WRITE, each)
            for descriptor in each.outputs:
                self.selector.register(descriptor, selectors.EVENT_READ, each)

    def until_end(self) -> tuple[Status, str] | None:
        """Returns the limit that was passed, or None once the first of them has ended by itself."""
        with self.selector:
            return self._until_end()

    def _until_end(self) -> tuple[Status, str] | None:
        primary = self.everyone[0]
        now = looked = time.monotonic()
        deadline, idle = now + self.limits.wall_seconds, 0.0
        while primary.outputs or primary.process.poll() is None:
            # With all pipes closed there is nothing to wait on but the process.
            wait = _LOOK_SECONDS if self.selector.get_map() else 0.0
            for key, _ in self.selector.select(wait) if wait else ():
                if not (self._feed(key) if key.events == selectors.EVENT_WRITE else self._collect(key)):
                    return "output", "the limit of output"
            if not wait:
                time.sleep(0.001)
            now = time.monotonic()
            if now - looked >= _LOOK_SECONDS:
                exceeded, active = self._look()
                if exceeded:
                    return exceeded
                # A long gap between two looks is load on the machine, not idleness of the program.
                idle += 0.0 if active else min(now - looked, 2 * _LOOK_SECONDS)
                looked = now
                if idle > self.limits.idle_seconds:
                    return "timeout", "waited for something that does not come, or slept"
                if now > deadline:
                    return "timeout", "the limit in wall seconds"
        return None

    def _look(self) -> tuple[tuple[Status, str] | None, bool]:
        active = False
        for each in self.everyone:
            each.tree.look()
            active |= each.tree.active
            # Bubblewrap's own two processes do not count.
            if each.tree.tasks > self.limits.processes + 2:
                return ("processes", "the limit of processes and threads"), active
            most = self.limits.memory_bytes
            if each.tree.resident > most and each.tree.exclusive_memory() > most:
                return ("memory", "the limit of memory"), active
            if each.cpu_seconds > self.limits.cpu_seconds:
                return ("timeout", "the limit in CPU seconds"), active
        return None, active

    def _feed(self, key: selectors.SelectorKey) -> bool:
        process, descriptor = key.data, key.fd
        unsent = process.inputs[descriptor]
        try:
            process.inputs[descriptor] = unsent = unsent[os.write(descriptor, unsent[:_CHUNK]) :] if unsent else unsent
        except BrokenPipeError:
            unsent = memoryview(b"")
        if not unsent:
            self.selector.unregister(descriptor)
            process.close_input(descriptor)
        return True

    def _collect(self, key: selectors.SelectorKey) -> bool:
        """False once the output passes its limit; what was received is then cut to it."""
        process, descriptor = key.data, key.fd
        name = process.outputs[descriptor]
        data = os.read(descriptor, _CHUNK)
        if not data:
            self.selector.unregister(descriptor)
            process.close_output(descriptor)
            return True
        if name == "report":
            room = _REPORT_BYTES - len(process.received["report"])
        else:
            room = self.limits.output_bytes - len(process.received["stdout"]) - len(process.received["stderr"])
        process.received[name] += data[: max(0, room)]
        return len(data) <= room
