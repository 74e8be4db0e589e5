"""The command on a terminal of its own: what a person types, and what the person sees."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

from cli_process import COMMAND, environment

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\r\x07]")


class Terminal:
    """`with Terminal("chat", ...) as terminal`: stdin, stdout and stderr are one terminal of 80 columns."""

    def __init__(self, *arguments: str, cwd: Path, columns: int = 80, command: list[str] | None = None, **env: str):
        self._master, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.raw = ""
        self._seen = 0
        self.process = subprocess.Popen(
            [*(COMMAND if command is None else command), *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            cwd=cwd,
            env=environment(**{"HOME": str(cwd), **env}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that ^C is a signal
        )
        os.close(side)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was shown, without colours and cursor movements."""
        return _CONTROL.sub("", self.raw)

    def type(self, keys: str) -> None:
        """As if on a keyboard: "\\n" is Enter, "\\x03" Ctrl-C, "\\x04" Ctrl-D."""
        os.write(self._master, keys.encode())

    def wait_for(self, shown: str, seconds: float = 60) -> None:
        """Until `shown` stands behind what the last wait waited for."""
        end = time.monotonic() + seconds
        while (at := self.text.find(shown, self._seen)) < 0:
            if time.monotonic() > end or not self._read(0.2, end):
                raise AssertionError(f"{shown!r} was not shown; this was:\n{self.raw!r}")
        self._seen = at + len(shown)

    def wait(self, seconds: float = 60) -> int:
        """The exit status, with all that was shown until then in `raw`."""
        end = time.monotonic() + seconds
        while self._read(0.2, end):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, patience: float, end: float) -> bool:
        """Takes what there is; False once the other side is closed."""
        while time.monotonic() < end:
            if not select.select([self._master], [], [], patience)[0]:
                return True
            try:
                new = os.read(self._master, 1 << 16)
            except OSError:
                return False
            self.raw += new.decode(errors="replace")
            return bool(new)
        return False
