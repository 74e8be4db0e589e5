"""The processes of a run meet before JAX connects them.

JAX's own client aborts the process, with a stack of C++ frames, when the coordinator does not answer, when a process
stays away, or when two call themselves by one number. So they meet first, on the coordinator's port: each tells
process 0 who it is, and hears in one line that all are there or what is wrong.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from demiurgic_jax.errors import UserError

RETRY_SECONDS = 0.2
HELLO_SECONDS = 5.0
LONGEST_LINE = 1 << 14


@dataclass(frozen=True)
class Member:
    """Process number `index` of `count`; number 0 is reached at `coordinator` (host:port)."""

    coordinator: str
    count: int
    index: int

    @property
    def host(self) -> str:
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.coordinator.rpartition(":")[2])


def meet(member: Member, command: str, timeout_seconds: float) -> None:
    """Returns in all processes once all are there, and leaves the coordinator's port free.

    UserError, the same in all that came: a process that stayed away for `timeout_seconds`, two of one number, another
    count or another `command`, a port in use; and in one that cannot reach the coordinator.
    """
    deadline = time.monotonic() + timeout_seconds
    if member.index == 0:
        _receive(member, command, deadline, timeout_seconds)
    else:
        _report(member, command, deadline, timeout_seconds)


def _receive(member: Member, command: str, deadline: float, timeout_seconds: float) -> None:
    connections: dict[int, socket.socket] = {}
    problem = None
    with _listener(member.port) as listener:
        while problem is None and len(connections) < member.count - 1:
            connection = _next_connection(listener, deadline)
            if connection is None:
                absent = [index for index in range(1, member.count) if index not in connections]
                problem = (
                    f"{_named(absent)} of {member.count} did not come to {member.coordinator} within "
                    f"{timeout_seconds:g} s: start all of them with the same command, and see what those that stopped "
                    "said"
                )
                break
            connection.settimeout(HELLO_SECONDS)
            hello = _read_line(connection)
            if hello is None or not isinstance(hello.get("index"), int) or not {"count", "command"} <= hello.keys():
                connection.close()  # a port scanner, or a health check
                continue
            problem = _objection(member, command, hello, connections)
            if hello["index"] in connections:
                _send(connection, {"problem": problem})
                connection.close()
            else:
                connections[hello["index"]] = connection
    # The listener is closed by now: JAX is about to take its port.
    for connection in connections.values():
        _send(connection, {"problem": problem})
        connection.close()
    if problem is not None:
        raise UserError(problem)


def _objection(member: Member, command: str, hello: dict[str, Any], present: Collection[int]) -> str | None:
    index, count = hello["index"], hello["count"]
    if count != member.count:
        return (
            f"process 0 was told of {member.count} processes and process {index} of {count}: "
            "give JAX_NUM_PROCESSES the same value in all"
        )
    if index in present:
        return f"two processes are number {index} of {count}: give each its own JAX_PROCESS_ID, from 0 to {count - 1}"
    if hello["command"] != command:
        return (
            f"process 0 was started with `{command}` and process {index} with `{hello['command']}`: "
            "start all with the same command"
        )
    return None


def _listener(port: int) -> socket.socket:
    """Refuses a port that another program listens on; JAX's server would share it and mix up the runs."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=dual)
    except OSError as error:
        mend = "set JAX_COORDINATOR_ADDRESS (on SLURM and the like JAX_COORDINATOR_PORT) to a free one in all processes"
        in_use = error.errno == errno.EADDRINUSE
        said = "is in use by another program" if in_use else f"cannot be used ({error.strerror})"
        raise UserError(f"port {port} of the coordinator {said}: {mend}") from error


def _next_connection(listener: socket.socket, deadline: float) -> socket.socket | None:
    listener.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        return listener.accept()[0]
    except TimeoutError:
        return None


def _report(member: Member, command: str, deadline: float, timeout_seconds: float) -> None:
    with _connected(member, deadline, timeout_seconds) as connection:
        hello = {**asdict(member), "command": command}
        _send(connection, hello)
        # Process 0 may have started later; it gives up by itself, and says why.
        connection.settimeout(timeout_seconds + HELLO_SECONDS)
        answer = _read_line(connection)
    if answer is None or "problem" not in answer:
        raise UserError(
            f"{member.coordinator} does not answer as process 0 of this run: look at what it said, and make sure that "
            "the address is its own and no other program's"
        )
    if answer["problem"] is not None:
        raise UserError(answer["problem"])


def _connected(member: Member, deadline: float, timeout_seconds: float) -> socket.socket:
    while True:
        left = deadline - time.monotonic()
        try:
            return socket.create_connection((member.host, member.port), timeout=max(0.01, left))
        except OSError as error:
            if left <= RETRY_SECONDS:
                reason = os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else str(error)
                raise UserError(
                    f"process {member.index} cannot reach process 0 at {member.coordinator} ({reason}; tried for "
                    f"{timeout_seconds:g} s): start process 0, or correct the address or what blocks its port"
                ) from error
        time.sleep(RETRY_SECONDS)


def _named(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:8])) + (", …" if len(indices) > 8 else "")
    return f"process {shown}" if len(indices) == 1 else f"processes {shown}"


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return  # gone already; whoever misses it finds out below


def _read_line(connection: socket.socket) -> dict[str, Any] | None:
    """One JSON object, or None for anything else."""
    try:
        with connection.makefile("rb") as file:
            message = json.loads(file.readline(LONGEST_LINE))
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
