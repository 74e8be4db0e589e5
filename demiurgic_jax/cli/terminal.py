"""What a terminal gets and a pipe does not: colour, Markdown, a question, a sign of life."""

import os
import sys
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def is_terminal(stream: IO[str]) -> bool:
    """Whether a person reads the stream on a terminal that can place its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def wants_colour(stream: IO[str]) -> bool:
    """NO_COLOR (no-color.org): set to anything but nothing, it means none."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def console() -> "Console":
    """Rich, on stdout. Imported late: it takes a quarter of the time that the command has to start."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def note(text: str) -> None:
    """A remark that is no part of the answer."""
    print(f"demiurgic: {text}", file=sys.stderr)


def ask_yes(question: str) -> bool:
    """A question on the terminal, answered by y or n; no is what Enter and the end of input mean."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")


def colour_diff(diff: str) -> str:
    """A unified diff in the colours of git."""
    codes = {"+++": "1", "---": "1", "@": "36", "+": "32", "-": "31"}

    def coloured(line: str) -> str:
        code = next((code for start, code in codes.items() if line.startswith(start)), None)
        return f"\x1b[{code}m{line}\x1b[m" if code and line else line

    return "\n".join(map(coloured, diff.split("\n")))


class Progress:
    """How far an answer is that is shown only once it is whole: one line on stderr, on a terminal alone."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._on = is_terminal(sys.stderr)
        self._begun = self._shown = time.monotonic()
        self._lines = 0

    def step(self, text: str) -> None:
        """A piece has come."""
        self._lines += text.count("\n")
        now = time.monotonic()
        if self._on and now - self._shown > 0.2:
            self._shown = now
            sys.stderr.write(f"\r{self._what}: {self._lines + 1} lines, {now - self._begun:.0f} s\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Leaves a clean line."""
        if self._on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
