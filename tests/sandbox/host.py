"""A host worth attacking: secrets, a process that holds them, listening sockets; and what an attack leaves on it."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demiurgic_jax.sandbox.contained import Contained
from demiurgic_jax.sandbox.resources import ProcessTree

_VICTIM = """
import os, signal, sys
os.chdir(os.path.dirname(sys.argv[1]))
held, file = os.environ["DEMIURGIC_TEST_KEY"], os.open(sys.argv[1], os.O_RDONLY)
print(file, flush=True)
signal.pause()
"""


class Host:
    """All secrets are the one `canary`: where it turns up, something was read. `mark` is the name of files to leave."""

    def __init__(self, folder: Path, home: Path):
        self.canary = "canary-" + secrets.token_hex(12)
        self.mark = "demiurgic-test-" + secrets.token_hex(8)
        self.secret = folder / "secret"
        self.secret.write_text(self.canary)
        self.home_secret = home / f".{self.mark}-secret"
        self.home_secret.write_text(self.canary)
        self.left_at = folder / self.mark
        self.folders = [str(folder), "/tmp", "/dev/shm", "/var/tmp", str(home), os.getcwd()]
        self.reached: list[str] = []
        self._closed = False
        self._listening: list[tuple[socket.socket, threading.Thread]] = []
        self.socket_path = str(folder / "socket")
        self.ports = {"ipv4": self._listen(socket.AF_INET, ("127.0.0.1", 0))[1]}
        if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
            self.ports["ipv6"] = self._listen(socket.AF_INET6, ("::1", 0))[1]
        self.ports["udp"] = self._listen(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM)[1]
        self._listen(socket.AF_UNIX, self.socket_path)
        self._listen(socket.AF_UNIX, f"\0{self.mark}")
        self.victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(self.secret), self.canary],
            env={**os.environ, "DEMIURGIC_TEST_KEY": self.canary},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.victim.stdout
        self.victims_descriptor = int(self.victim.stdout.readline())

    def _listen(self, family: int, address: Any, kind: int = socket.SOCK_STREAM) -> Any:
        """Tells the canary to whoever connects, and who that was; returns the address it is bound to."""
        listening = socket.socket(family, kind)
        listening.bind(address)
        name = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6", socket.AF_UNIX: "unix"}[socket.AddressFamily(family)]

        def tell() -> None:
            while not self._closed:
                try:
                    if kind == socket.SOCK_DGRAM:
                        listening.recvfrom(64)
                        self.reached.append("udp")
                    else:
                        connection, _ = listening.accept()
                        self.reached.append(name)
                        with connection:
                            connection.sendall(self.canary.encode())
                except TimeoutError:
                    continue

        listening.settimeout(0.2)
        if kind == socket.SOCK_STREAM:
            listening.listen()
        self._listening.append((listening, threading.Thread(target=tell)))
        self._listening[-1][1].start()
        return listening.getsockname()

    def told(self) -> str:
        """What the attackers know of it, as JSON: everything but the secret itself."""
        return json.dumps(
            {
                "pid": self.victim.pid,
                "harness": os.getpid(),
                "descriptor": self.victims_descriptor,
                "secrets": [str(self.secret), str(self.home_secret)],
                "ports": self.ports,
                "socket": self.socket_path,
                "mark": self.mark,
                "folders": self.folders,
            }
        )

    def effects(self, *outputs: str) -> list[str]:
        """All that an attack has achieved, from what its programs said and from what is to be seen here."""
        found = ["the canary was read"] * any(self.canary in each for each in outputs)
        found += ["it says that it got through"] * any("GOT" in each for each in outputs)
        found += [f"{name} was reached" for name in self.reached]
        found += [f"{path} was left" for path in self.left()]
        found += ["the process died"] * (self.victim.poll() is not None)
        for path in (self.secret, self.home_secret):
            found += [f"{path} was changed"] * (not path.exists() or path.read_text() != self.canary)
        return found

    def left(self) -> list[Path]:
        return [path for folder in self.folders for path in Path(folder).glob(f"{self.mark}*")]

    def close(self) -> None:
        self.victim.kill()
        self.victim.communicate()
        self._closed = True
        for listening, thread in self._listening:
            thread.join()
            listening.close()
        for path in self.left():
            path.unlink()
        self.home_secret.unlink(missing_ok=True)


class Namespaces:
    """The process namespaces of all that was contained while this watches: who is in one of them has survived."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._own = os.readlink("/proc/self/ns/pid")

    def watching(self, give: Callable[..., None]) -> Callable[..., None]:
        """`Contained.give`, after a look at where its process lives."""

        def watched(contained: Contained, *args: bytes, **more: bytes) -> None:
            while contained.isolate and contained.process.poll() is None:
                found = {namespace_of(pid) for pid in contained.tree.members()} - {self._own, ""}
                self.seen |= found
                if found:
                    break
                time.sleep(0.001)
            give(contained, *args, **more)

        return watched

    def survivors(self, within_seconds: float = 10.0) -> list[int]:
        """Processes anywhere on this machine in a namespace that was seen, after the time that its end may take."""
        deadline = time.monotonic() + within_seconds
        while found := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._lives_in(pid)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return found

    def _lives_in(self, pid: int) -> bool:
        """Numbers of namespaces come again: one that has a bubblewrap of somebody else's above it is another."""
        namespace = namespace_of(pid)
        if namespace not in self.seen:
            return False
        while namespace_of(pid) == namespace:
            pid = _parent(pid)
        ours = {os.getpid(), *ProcessTree(os.getpid()).members()}
        return pid <= 1 or pid in ours


def namespace_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    """0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0
